"""Signatures of kits: Ed25519 (RFC 8032), keys as PEM files that OpenSSL reads too.

    public = write_pair(Path("lab"), days=730)          # writes lab.key, to keep, and lab.pub, to give away
    signature = sign(read_private(path), manifest)
    require_signature(read_public(path), manifest, signature)

A public key's file states above its PEM block until when it is to be trusted, and which key it replaces, with that
key's signature under the replacement. Keys are read and used by the package ``cryptography`` (extra ``trust``); without
it a machine that has a key refuses every kit.
"""

from __future__ import annotations

import base64
import os
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from edgeser_device.errors import KeyFileError, KitUntrusted
from edgeser_export.utilities.errors import MissingExtra, StorageError
from edgeser_export.utilities.files import sha256, write_bytes
from edgeser_export.utilities.outside import home

ALGORITHM = "ed25519"
MAX_KEY_BYTES = 16_384
_PURPOSE = b"edgeser: this key replaces mine\n"
SYSTEM_TRUST = Path("/etc/edgeser/trusted.pub")
VARIABLE = "EDGESER_TRUST"
MAKE = "make keys with edgeser keygen"


@dataclass(frozen=True)
class PublicKey:
    """A key that kits are verified with.

    Attributes:
        raw: The key, 32 bytes.
        expires: The last day on which it is to be trusted, by this machine's clock.
        replaces: Id of the key that it replaces, or "".
        endorsement: That key's signature under the replacement, 64 bytes, or nothing.
    """

    raw: bytes
    expires: date
    replaces: str = ""
    endorsement: bytes = b""

    @property
    def id(self) -> str:
        """The first 16 hexadecimal digits of the key's SHA-256."""
        return sha256(self.raw).hexdigest()[:16]

    def to_text(self) -> str:
        """The content of its file."""
        lines = [f"Edgeser-Key: {self.id}", f"Expires: {self.expires.isoformat()}"]
        if self.replaces:
            lines += [f"Replaces: {self.replaces}", f"Endorsement: {base64.b64encode(self.endorsement).decode()}"]
        serialization, ed25519 = _cryptography()
        form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        return "\n".join((*lines, ed25519.Ed25519PublicKey.from_public_bytes(self.raw).public_bytes(*form).decode()))


@dataclass(frozen=True)
class PrivateKey:
    """A key that kits are signed with; it never leaves the host.

    Attributes:
        secret: The key, as ``cryptography`` holds it.
        public: The key that others verify with.
    """

    secret: Any
    public: PublicKey

    def __repr__(self) -> str:
        return f"PrivateKey({self.public.id})"


def write_pair(name: Path, days: int, replaced: PrivateKey | None = None) -> PublicKey:
    """Make a new pair of keys and write its files; nothing that exists is overwritten.

    Args:
        name: The files are NAME.key, which only its owner can read, and NAME.pub.
        days: Days until the pair expires.
        replaced: The key that the new one replaces; it signs the replacement.

    Raises:
        KeyFileError: One of the files exists.
        MissingExtra: ``cryptography`` is not installed.
        StorageError: The files cannot be written.
    """
    serialization, ed25519 = _cryptography()
    secret, expires = ed25519.Ed25519PrivateKey.generate(), today() + timedelta(days=days)
    public = PublicKey(secret.public_key().public_bytes_raw(), expires)
    if replaced is not None:
        endorsement = sign(replaced, _endorsed(public, replaced.public.id))
        public = PublicKey(public.raw, expires, replaced.public.id, endorsement)
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    head = f"Edgeser-Key: {public.id}\nExpires: {expires.isoformat()}\n"
    files = {".pub": (public.to_text(), 0o644), ".key": (head + secret.private_bytes(*form).decode(), 0o600)}
    paths = {ending: name.with_name(name.name + ending) for ending in files}
    for path in paths.values():
        if path.exists():
            raise KeyFileError(f"{path} exists", "choose another NAME: a key that is lost cannot be made again")
    try:
        name.parent.mkdir(parents=True, exist_ok=True)
        for ending, (text, rights) in files.items():
            descriptor = os.open(paths[ending], os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, rights)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(f"cannot write {name}: {error.strerror}", "check the free space and permissions") from error
    return public


def read_public(path: Path) -> PublicKey:
    """Read a public key from its file.

    Raises:
        KeyFileError: The file is missing, or not such a file.
        MissingExtra: ``cryptography`` is not installed.
    """
    return _read_key(path, "public")[1]


def read_private(path: Path) -> PrivateKey:
    """Read a private key from its file.

    Raises:
        KeyFileError: The file is missing, not such a file, or the key has expired.
        MissingExtra: ``cryptography`` is not installed.
    """
    secret, public = _read_key(path, "private")
    if public.expires < today():
        raise KeyFileError(
            f"the key {public.id} in {path} expired on {public.expires}", f"edgeser keygen NEW --replaces {path}"
        )
    return PrivateKey(secret, public)


def sign(key: PrivateKey, message: bytes) -> bytes:
    """The signature, 64 bytes; the same for the same key and message."""
    signature: bytes = key.secret.sign(message)
    return signature


def require_signature(key: PublicKey, message: bytes, signature: bytes | None) -> None:
    """Check that ``message`` was signed with ``key``.

    Raises:
        KitUntrusted: No signature, one of another key, or the key has expired.
        MissingExtra: ``cryptography`` is not installed.
    """
    if key.expires < today():
        raise KitUntrusted(
            f"the trusted key {key.id} expired on {key.expires}",
            "check this machine's clock (date); then: edgeser device trust NEW.pub",
        )
    if signature is None:
        raise KitUntrusted(
            f"the kit is not signed, and this machine trusts key {key.id} only", "edgeser pack --sign KEY"
        )
    if not _verifies(key.raw, signature, message):
        raise KitUntrusted(_other_key(key, message), "get the kit from someone who has that key; do not use this one")


def require_successor(trusted: PublicKey, new: PublicKey) -> None:
    """Check that ``new`` may take the place of ``trusted``.

    Raises:
        KitUntrusted: ``trusted`` did not sign the replacement.
    """
    if new.raw == trusted.raw:
        return
    good = new.replaces == trusted.id and _verifies(trusted.raw, new.endorsement, _endorsed(new, trusted.id))
    if not good:
        raise KitUntrusted(
            f"key {new.id} does not replace the trusted key {trusted.id}: that key did not sign it",
            "edgeser keygen NEW --replaces OLD.key on the host; or remove the trusted key by hand",
        )


def trust_path() -> Path:
    """The file of this machine's trusted key, whether it exists or not."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    given, user = os.environ.get("XDG_CONFIG_HOME"), home()
    configured = Path(given) if given else user and user / ".config"
    own = configured and configured / "edgeser" / "trusted.pub"
    return SYSTEM_TRUST if own is None or (SYSTEM_TRUST.exists() and not own.exists()) else own


def trusted_keys(asked: Path | None = None) -> tuple[PublicKey, ...]:
    """The keys with each of which a kit must be signed: the one asked for, and those that this machine is set up with.

    Raises:
        KeyFileError: One of them cannot be read; a key that is set up is never left out.
    """
    path = trust_path()
    configured = {path} if os.environ.get(VARIABLE) or path.exists() else set()
    configured |= {SYSTEM_TRUST} if SYSTEM_TRUST.exists() else set()
    paths = [*sorted(configured), *([asked] if asked is not None else [])]
    return tuple({key.raw: key for key in map(read_public, paths)}.values())


def set_trusted(new: Path) -> PublicKey:
    """Set this machine up with a key: the first one as it is, a later one only if the present one signed it.

    Raises:
        KitUntrusted: The present key did not sign the new one; or the new one has expired.
        KeyFileError: A file cannot be read.
        StorageError: The place cannot be written.
    """
    key, path = read_public(new), trust_path()
    if key.expires < today():
        raise KitUntrusted(f"the key {key.id} expired on {key.expires}", "make another: edgeser keygen NEW")
    if path.exists():
        require_successor(read_public(path), key)
    write_bytes(path, key.to_text().encode())
    return key


def today() -> date:
    """The day by this machine's clock, in UTC."""
    return datetime.now(UTC).date()


def _other_key(key: PublicKey, message: bytes) -> str:
    found = re.search(rb'"signer": \{\s*"algorithm": "ed25519",\s*"key": "([0-9a-f]{16})"', message)
    signer = found[1].decode() if found else "unknown"
    if signer == key.id:
        return f"the kit says that key {key.id} signed it, and that is not so"
    replaced = f", which {key.id} has replaced" if key.replaces == signer else ""
    return f"the kit is signed with key {signer}{replaced}; this machine trusts {key.id}"


def _endorsed(new: PublicKey, old: str) -> bytes:
    return _PURPOSE + f"{old} {new.expires.isoformat()} ".encode() + new.raw


def _cryptography() -> tuple[Any, Any]:
    """The package's modules for the form of keys and for Ed25519, which load OpenSSL."""
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise MissingExtra("cryptography", "trust") from error
    return serialization, ed25519


def _verifies(public: bytes, signature: bytes, message: bytes) -> bool:
    _, ed25519 = _cryptography()
    from cryptography.exceptions import InvalidSignature

    try:
        ed25519.Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _read_key(path: Path, kind: Literal["public", "private"]) -> tuple[Any, PublicKey]:
    """A key as ``cryptography`` holds it, and the public one with what stands above the block."""
    serialization, ed25519 = _cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        with path.open("rb") as file:
            content = file.read(MAX_KEY_BYTES)
    except OSError as error:
        raise KeyFileError(f"the key {path} cannot be read: {error.strerror}", MAKE) from error
    other, ending = ("private", ".pub") if kind == "public" else ("public", ".key")
    if f"-----BEGIN {other.upper()} KEY-".encode() in content:
        raise KeyFileError(f"{path} is a {other} key, not a {kind} key", f"give {path.with_suffix(ending)}")
    try:
        if kind == "public":
            key = serialization.load_pem_public_key(content)
        else:
            key = serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ed25519.Ed25519PublicKey | ed25519.Ed25519PrivateKey):
        raise KeyFileError(f"{path} holds no {kind} key of Ed25519", MAKE)
    above = content.partition(b"-----BEGIN")[0].decode("ascii", "replace")
    head = dict(re.findall(r"^\s*([\w-]+):\s*(.*?)\s*$", above, re.MULTILINE))
    public = key if kind == "public" else key.public_key()
    try:
        endorsement = base64.b64decode(head.get("Endorsement", ""), validate=True)
        expires = date.fromisoformat(head["Expires"])
    except (KeyError, ValueError) as error:
        raise KeyFileError(f"{path} does not state until when the key is to be trusted", MAKE) from error
    return key, PublicKey(public.public_bytes_raw(), expires, head.get("Replaces", ""), endorsement)
