"""One writer for each model folder: a lock that the kernel drops with the process that holds it.

with only_writer(Path("model")):
    ...
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgeser_device.errors import ModelError
from edgeser_export.errors import StorageError

HELD = {errno.EWOULDBLOCK, errno.EACCES}
"""What flock says when somebody else holds the lock; everything else comes from file systems without locks."""


@contextmanager
def only_writer(model: Path) -> Iterator[None]:
    """Hold the lock of a model folder and of its checkpoint; the lock's file lies beside them and goes at the end.

    Raises:
        ModelError: Another process holds it.
        StorageError: The folder above cannot be written.
    """
    path = model.parent / f".{model.name}.lock"
    descriptor = _acquire(path, model)
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()  # while it is held: whoever opened it meanwhile sees that it is gone, and opens a new one
        os.close(descriptor)


def _acquire(path: Path, model: Path) -> int:
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise StorageError(
                f"cannot write {model}: {error.strerror}", "check the free space and the permissions of that folder"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in HELD:
                os.close(descriptor)
                raise ModelError(
                    f"another process is writing {model}", "wait until it has ended, or choose another --out"
                ) from error
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # the one who held it before removed it
