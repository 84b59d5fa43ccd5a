"""Unpack a ZIP archive that a stranger made: nothing leaves the folder, nothing fills the disk."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath

from edgeser.corpora.errors import UnsafeArchive

LARGEST = 8 * 1024**3
"""Bytes after unpacking; the largest corpus here has under one."""
LARGEST_RATIO = 50
"""Unpacked size over packed size; recordings reach about ten at most."""


def unpack(archive: Path, folder: Path) -> None:
    """Unpack every file of ``archive`` into ``folder``.

    Raises:
        UnsafeArchive: It is no ZIP archive, is damaged or encrypted, holds a link, names a path outside ``folder``, or
            would unpack to far more than it is large.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            members = [member for member in file.infolist() if not member.is_dir()]
            _check(archive, members)
            for member in members:
                target = folder / PurePosixPath(member.filename)
                target.parent.mkdir(parents=True, exist_ok=True)
                with file.open(member) as source, target.open("xb") as copy:
                    shutil.copyfileobj(source, copy, 1 << 20)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, FileExistsError, RuntimeError) as error:
        raise UnsafeArchive(archive.name, f"cannot be unpacked ({error})") from error


def _check(archive: Path, members: list[zipfile.ZipInfo]) -> None:
    for member in members:
        name = member.filename
        windows = PureWindowsPath(name)
        if PurePosixPath(name).is_absolute() or windows.drive or windows.root or ".." in windows.parts or "\0" in name:
            raise UnsafeArchive(archive.name, f"{name!r} would be written outside the folder")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise UnsafeArchive(archive.name, f"{name!r} is a link")
        if member.flag_bits & 0x1:
            raise UnsafeArchive(archive.name, f"{name!r} is encrypted")
    unpacked = sum(member.file_size for member in members)
    if unpacked > min(LARGEST, LARGEST_RATIO * max(archive.stat().st_size, 1 << 20)):
        raise UnsafeArchive(archive.name, f"would unpack to {unpacked / 1e6:.0f} MB")
