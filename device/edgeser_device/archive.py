"""Zip archives and npz files: the same bytes for the same content, and read without trust.

    data = write_archive({"manifest.json": b"{}", "steps/a.onnx": b"..."}, first="manifest.json")
    members = read_archive(data)

Nothing is ever unpacked to a disk, so no name in an archive can reach a file. Every size is looked at before anything
is read, and no more than that size is read.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeser_device.errors import KitDamaged, KitError

MAX_ARCHIVE_BYTES = 256 << 20
MAX_MEMBER_BYTES = 128 << 20
MAX_TOTAL_BYTES = 256 << 20
MAX_MEMBERS = 256
PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*")
"""Relative, with forward slashes, no part that starts with a dot."""
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The date of every member: the earliest that the format can say."""
AGAIN = "copy or download the kit again"


def write_archive(members: Mapping[str, bytes], first: str | None = None, level: int = 9) -> bytes:
    """A zip archive with fixed dates, order and permissions.

    The bytes depend on the members only; another release of zlib may compress to other bytes.

    Args:
        members: Content by name.
        first: The member that stands first; the others are sorted by name.
        level: Of the deflate algorithm, or 0 to store.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(members, key=lambda member: (member != first, member)):
            entry = zipfile.ZipInfo(name, date_time=EPOCH)
            entry.create_system = 3  # unix, also where it was written elsewhere
            entry.external_attr = (0o100755 if name.endswith(".sh") else 0o100644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED if level else zipfile.ZIP_STORED
            archive.writestr(entry, members[name], compresslevel=level or None)
    return buffer.getvalue()


def read_archive(data: bytes) -> dict[str, bytes]:
    """All members of an archive.

    Raises:
        KitDamaged: Truncated or not an archive.
        KitError: Names that leave the archive or occur twice, or sizes beyond what a kit can have.
    """
    if len(data) > MAX_ARCHIVE_BYTES:
        raise KitError(f"an archive of {len(data) >> 20} MB", f"a kit has at most {MAX_ARCHIVE_BYTES >> 20} MB")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _check_entries(archive.infolist())
            return {entry.filename: _read_member(archive, entry) for entry in archive.infolist()}
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error, OverflowError, RuntimeError, ValueError) as error:
        if isinstance(error, KitError):
            raise
        raise KitDamaged(f"not a whole archive: {error}", AGAIN) from error


def _check_entries(entries: list[zipfile.ZipInfo]) -> None:
    names = [entry.filename for entry in entries]
    if len(names) > MAX_MEMBERS:
        raise KitError(f"an archive of {len(names)} members", f"a kit has at most {MAX_MEMBERS}")
    if len(set(names)) != len(names):
        raise KitError("an archive that holds two members of one name", "get the kit from someone you trust")
    for entry in entries:
        is_link = (entry.external_attr >> 16) & 0o170000 == 0o120000
        if not PLAIN_NAME.fullmatch(entry.filename) or is_link:
            raise KitError(f"an archive with the member {entry.filename!r}", "get the kit from someone you trust")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or entry.flag_bits & 1:
            raise KitError(f"the member {entry.filename} is packed in an unknown way", "pack the kit with edgeser")
        if entry.file_size > MAX_MEMBER_BYTES:
            raise KitError(
                f"the member {entry.filename} has {entry.file_size >> 20} MB",
                f"at most {MAX_MEMBER_BYTES >> 20} MB are read",
            )
    if sum(entry.file_size for entry in entries) > MAX_TOTAL_BYTES:
        raise KitError("an archive that unpacks to too much", f"at most {MAX_TOTAL_BYTES >> 20} MB are read")


def _read_member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    with archive.open(entry) as member:  # reads no more than file_size, and compares the checksum at the end
        content = member.read(entry.file_size + 1)
    if len(content) != entry.file_size:
        raise KitDamaged(f"the member {entry.filename} is cut short", AGAIN)
    return content


def write_arrays(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """An npz file, the same bytes for the same arrays; not compressed, since the archive around it is."""
    members = {}
    for name, array in arrays.items():
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, np.asarray(array, order="C"), version=(1, 0), allow_pickle=False)
        members[f"{name}.npy"] = buffer.getvalue()
    return write_archive(members, level=0)


def read_arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of an npz file.

    Raises:
        KitError: Not an npz file of plain arrays, or too large.
    """
    return {name.removesuffix(".npy"): _read_array(name, content) for name, content in read_archive(data).items()}


def _read_array(name: str, content: bytes) -> NDArray[Any]:
    try:
        stream = io.BytesIO(content)
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("another version of the format")
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        # The header is looked at first: numpy would allocate whatever it claims.
        if dtype.hasobject or prod(shape) * dtype.itemsize != len(content) - stream.tell():
            raise ValueError("the size does not fit the header")
        stream.seek(0)
        return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))
    except (ValueError, TypeError, SyntaxError, OverflowError) as error:
        raise KitDamaged(f"the array {name} cannot be read: {error}", AGAIN) from error
