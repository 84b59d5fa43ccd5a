"""The files of a new pair of keys: NAME.key, readable by its owner only, and NAME.pub."""

from __future__ import annotations

import os
from pathlib import Path

from edgeser.errors import KeyFileError, StorageError
from edgeser_device.signature import PrivateKey, PublicKey, new_key, read_public


def write_pair(name: Path, days: int, replaced: PrivateKey | None = None) -> PublicKey:
    """Write a new pair; nothing that exists is overwritten.

    Args:
        name: The files are NAME.key and NAME.pub.
        days: Until it expires.
        replaced: The key in whose place it comes.

    Raises:
        KeyFileError: One of the files exists.
        MissingExtra: ``cryptography`` is not installed.
        StorageError: They cannot be written.
    """
    secret, public = name.with_name(f"{name.name}.key"), name.with_name(f"{name.name}.pub")
    for path in (secret, public):
        if path.exists():
            raise KeyFileError(f"{path} exists", "choose another NAME: a key that is lost cannot be made again")
    texts = new_key(days, replaced)
    try:
        name.parent.mkdir(parents=True, exist_ok=True)
        for path, text, rights in ((public, texts[1], 0o644), (secret, texts[0], 0o600)):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, rights)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}", "check the free space and permissions") from error
    return read_public(public)
