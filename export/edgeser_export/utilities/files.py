"""Files that are whole or absent: temporary name, fsync, rename.

    write_bytes(path, data)            # one file
    with new_folder(path) as draft:    # a whole folder, visible only when the block ends without an error
        ...

A writer that is killed leaves its draft behind, ``.NAME.RANDOM.part``. Every writer holds a lock on its draft, which
the kernel drops with the process; the next writer of the same name removes the drafts that nobody holds.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeser_export.utilities.errors import EdgeserError, StorageError

SHA256_MODULES = ("_sha2", "_sha256", "hashlib")
"""Modules that hold sha256: in Python 3.12 and newer, in 3.11, and in a Python built without its own hashes. The first
that is there is taken: hashlib would load OpenSSL, 4 MB that a board's processes need for nothing else."""
if TYPE_CHECKING:
    from hashlib import sha256
else:
    sha256 = import_module(next(name for name in SHA256_MODULES if find_spec(name))).sha256

__all__ = ["sha256"]


_STORAGE_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG}
"""Codes of an OSError without a file name when a disk is full, read-only or broken."""


def write_bytes(path: Path, data: bytes, check: Callable[[Path], object] | None = None) -> None:
    """Write ``data`` to ``path`` so that a reader sees the old file or the new one, never a part.

    A symbolic link at ``path`` stays a link; the file it points to is replaced. ``check`` is given the written file
    before it takes its name; when it raises, the file is removed and what stood at ``path`` stays.

    Raises:
        StorageError: The folder cannot be written, or the disk is full; nothing is left behind.
    """
    path = Path(os.path.realpath(path))
    with _storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        draft, descriptor = _new_draft(path, folder=False)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                if check is not None:
                    check(draft)
                os.replace(draft, path)  # before the lock goes, so that no other writer takes the draft for abandoned
        except BaseException:
            with suppress(OSError):
                draft.unlink()
            raise
        sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON with a final newline, atomically. NaN and infinity are refused."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def append_line(path: Path, line: str) -> None:
    """Append ``line`` and a newline to ``path``, whole or not at all; the file is made if it is not there.

    Raises:
        StorageError: The file cannot be written, or the disk is full.
    """
    with _storage_errors(path), path.open("ab", buffering=0) as file:
        before = file.tell()
        data = f"{line}\n".encode()
        try:
            written = file.write(data)
            if written != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            with suppress(OSError):
                file.truncate(before)
            raise


def remove_file(path: Path) -> None:
    """Remove ``path``, if it is there, and the drafts that killed writers of it left.

    Raises:
        StorageError: The folder cannot be written.
    """
    path = Path(os.path.realpath(path))
    with _storage_errors(path):
        path.unlink(missing_ok=True)
        _remove_abandoned(path)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a draft folder beside ``path`` that is renamed to ``path`` when the block ends.

    An older folder at ``path`` is replaced. When the block raises, the draft is removed and ``path`` is untouched.
    A symbolic link at ``path`` stays a link; the folder it points to is replaced.

    Raises:
        StorageError: The parent cannot be written, the disk is full, or something that is no folder stands at ``path``.
    """
    path = Path(os.path.realpath(path))
    with _storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "a file of that name is there", str(path))
        _remove_abandoned(path)
        draft, descriptor = _new_draft(path, folder=True)
    try:
        with _storage_errors(path, inside=draft):
            yield draft
            _sync_tree(draft)
            exchange_folders(draft, path)
    finally:
        os.close(descriptor)
        _remove_tree(draft)  # what is at that name now: what stood at path before, or a draft that was given up


@contextmanager
def hold(path: Path, taken: EdgeserError) -> Iterator[None]:
    """Hold the lock file ``path`` for the length of the block; the lock ends with the process, however that ends.

    The file goes at the end, while it is held: whoever opened it meanwhile sees that it is gone, and makes a new one.
    A file system without locks lets everybody in.

    Args:
        path: The lock file; it is made where it is missing.
        taken: The error that is raised when another process has the lock.

    Raises:
        EdgeserError: ``taken``.
        StorageError: The file cannot be made.
    """
    descriptor = -1
    while descriptor < 0 or not os.fstat(descriptor).st_nlink:
        if descriptor >= 0:
            os.close(descriptor)  # the one who held it before removed it
        with _storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                os.close(descriptor)
                raise taken from error
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def exchange_folders(one: Path, other: Path) -> None:
    """Exchange two folders side by side; where nothing or an empty folder stands at ``other``, ``one`` moves there.

    Where the file system can exchange two names (ext4, xfs, btrfs, f2fs, tmpfs), a reader finds a whole folder at
    ``other`` at every moment. Elsewhere there is a moment between two renames; if the second fails, the folder is put
    back.

    Raises:
        StorageError: The folder above cannot be written.
    """
    with _storage_errors(other):
        if not other.exists() or not any(other.iterdir()):
            os.replace(one, other)
        elif not _exchange(one, other):
            aside = _draft_name(other, ".old")
            os.replace(other, aside)
            try:
                os.replace(one, other)
            except BaseException:
                os.replace(aside, other)
                raise
            os.replace(aside, one)
        sync_folder(other.parent)


def sync_file(path: Path) -> None:
    """Flush a file's content to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Flush a folder's entries, so that a rename survives a power cut."""
    with suppress(OSError):  # some file systems cannot sync a folder
        sync_file(path)


def _sync_tree(folder: Path) -> None:
    for inner in sorted(folder.rglob("*")):
        if inner.is_dir():
            sync_folder(inner)
        elif inner.is_file():
            sync_file(inner)
    sync_folder(folder)


def _draft_name(path: Path, ending: str) -> Path:
    return path.parent / f".{path.name}.{os.urandom(6).hex()}{ending}"


def _new_draft(path: Path, *, folder: bool) -> tuple[Path, int]:
    """Make an empty file or folder beside ``path`` and lock it; the kernel applies the user's umask."""
    while True:
        draft = _draft_name(path, ".part")
        if folder:
            draft.mkdir()
            descriptor = os.open(draft, os.O_RDONLY)
        else:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        with suppress(OSError):  # a file system without locks: nobody can take the draft for abandoned either
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return draft, descriptor
        os.close(descriptor)  # another writer removed it before the lock was taken


def _remove_abandoned(path: Path) -> None:
    """Remove the drafts of ``path`` whose writer is dead, and what a replacement that was cut short left there."""
    ours = f".{path.name}."
    with os.scandir(path.parent) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(ours)]
    for name in names:
        kind, ending = name[len(ours) :].partition(".")[::2]
        # An older folder goes only when a newer one stands in its place: it may be the only copy.
        if len(kind) == 12 and (ending == "part" or (ending == "old" and path.exists())):
            with suppress(OSError):  # somebody holds it, or removed it first
                _remove_unheld(path.parent / name)


def _remove_tree(folder: Path) -> None:
    import shutil  # with its compressors half a megabyte, for what inference never does

    shutil.rmtree(folder, ignore_errors=True)


def _remove_unheld(draft: Path) -> None:
    descriptor = os.open(draft, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if draft.is_dir():
            _remove_tree(draft)
        else:
            draft.unlink()
    finally:
        os.close(descriptor)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step; False where the system or the file system cannot."""
    if sys.platform != "linux":
        return False
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:  # glibc before 2.28
        return False
    at_current_folder, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE in linux/fs.h
    return bool(renameat2(at_current_folder, os.fsencode(one), at_current_folder, os.fsencode(other), exchange) == 0)


@contextmanager
def _storage_errors(path: Path, inside: Path | None = None) -> Iterator[None]:
    """Turn the operating system's refusals into StorageError.

    With ``inside``, only those that concern that folder: a block that fills it may fail over files that it reads
    elsewhere, and that is another matter.
    """
    try:
        yield
    except EdgeserError:  # some of them are OSErrors too, and say more
        raise
    except OSError as error:
        if inside is not None and not _concerns(error, inside, path):
            raise
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}",
            "check the free space and the permissions of that folder (df -h, ls -ld)",
        ) from error


def _concerns(error: OSError, draft: Path, path: Path) -> bool:
    if error.filename is None:
        return error.errno in _STORAGE_FAULTS
    name = Path.cwd() / os.fsdecode(error.filename)
    return name in (path, draft) or draft in name.parents
