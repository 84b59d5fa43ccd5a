"""Zip archives, npz files and JSON: one way to write each, and read without trust.

    data = write_archive({"manifest.json": b"{}", "steps/a.onnx": b"..."}, first="manifest.json")
    with open_archive(path, first="manifest.json") as archive:
        archive.chunks("steps/a.onnx")          # as stored, in pieces: hash them
        archive.read("steps/a.onnx")            # unpacked, no more than the directory states

An archive has one form: its members' names, sizes, checksums and content decide every other byte of it. Whoever opens
one has everything around the content written again and compared with the file, so that no comment, gap, second name,
other date or other order gets through. Sizes are judged by the directory before anything is unpacked. Nothing is
unpacked to a disk here, so that no name in an archive can reach a file.
"""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite, prod
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray

from edgeser_device.errors import KitDamaged, KitError

MAX_ARCHIVE_BYTES = 512 << 20
MAX_MEMBER_BYTES = 128 << 20
MAX_TOTAL_BYTES = 512 << 20
MAX_MEMBERS = 256
MAX_NAME = 128
MAX_DIRECTORY = 64 << 10
"""Bytes at the end of a file in which its directory is looked for: more than the one of the most members takes."""
SMALL = 1 << 20
MOST_EXPANSION = 50
"""A member may unpack to SMALL bytes, or to this many times its packed size: what training needs stays below 25."""
PLAIN_NAME = re.compile(rf"(?=.{{1,{MAX_NAME}}}\Z)[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*")
"""Names are relative, with forward slashes, and no part of one starts with a dot."""
KEPT_AS_THEY_ARE = (".whl", "manifest.json", "manifest.sig")
"""Endings of members that are packed already, or read before anything is unpacked."""
AGAIN = "copy or download the kit again"
STRANGE = "get the kit from someone you trust"
UNREADABLE = (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error)
"""Errors of zipfile for a directory that makes no sense, or that another version of the format describes."""
_CHUNK = 1 << 20

Packed: TypeAlias = tuple[ZipInfo, bytes]
"""A member and what is stored of it."""


@dataclass(frozen=True)
class Archive:
    """An open archive whose directory was checked.

    Attributes:
        entries: The directory's entry of each member, by name, in their order.
    """

    entries: Mapping[str, ZipInfo]
    _file: BinaryIO

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yield the content as stored, in pieces, with no more than one of them in memory.

        Raises:
            KitDamaged: The file ends before the content does.
        """
        entry = self.entries[name]
        self._file.seek(entry.header_offset + len(entry.FileHeader(zip64=False)))
        left = entry.compress_size
        while left:
            piece = self._file.read(min(left, _CHUNK))
            if not piece:
                raise KitDamaged(f"the member {name} is cut short", AGAIN)
            left -= len(piece)
            yield piece

    def read(self, name: str) -> bytes:
        """Return the content, unpacked.

        Raises:
            KitDamaged: The content is not what the directory states.
        """
        return unpack(self.entries[name], b"".join(self.chunks(name)))


def entry_of(name: str, method: int, crc: int, packed_bytes: int, size: int) -> ZipInfo:
    """The directory's entry of a member: the arguments, and the same values for all else.

    Args:
        name: The member's name in the archive.
        method: ``ZIP_STORED`` or ``ZIP_DEFLATED``.
        crc: CRC-32 of the content.
        packed_bytes: Bytes of the content as stored.
        size: Bytes of the content.
    """
    entry = ZipInfo(name)  # its date is 1980-01-01, the earliest that the format can say
    entry.compress_type, entry.CRC, entry.compress_size, entry.file_size = method, crc, packed_bytes, size
    entry.create_system, entry.external_attr = 3, (0o100755 if name.endswith(".sh") else 0o100644) << 16
    return entry


def unpack(entry: ZipInfo, packed: bytes) -> bytes:
    """Return the content of a member from what is stored, and never more than the directory states.

    Raises:
        KitDamaged: The content is not what the directory states.
    """
    content = packed
    if entry.compress_type == ZIP_DEFLATED:
        stream = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            content = stream.decompress(packed, entry.file_size + 1)
        except zlib.error as error:
            raise KitDamaged(f"the member {entry.filename} cannot be unpacked: {error}", AGAIN) from error
        if not stream.eof or stream.unused_data:
            raise KitDamaged(f"the member {entry.filename} is cut short or has another size than stated", AGAIN)
    if len(content) != entry.file_size or zlib.crc32(content) != entry.CRC:
        raise KitDamaged(f"the member {entry.filename} is not what the archive states", AGAIN)
    return content


def pack(name: str, content: bytes, level: int = 9) -> Packed:
    """Deflate a member, unless it is packed already or that makes it no smaller."""
    packed = content
    if level and not name.endswith(KEPT_AS_THEY_ARE):
        packed = zlib.compress(content, level, wbits=-zlib.MAX_WBITS)
    smaller = len(packed) < len(content)
    method, stored = (ZIP_DEFLATED, packed) if smaller else (ZIP_STORED, content)
    return entry_of(name, method, zlib.crc32(content), len(stored), len(content)), stored


def write_archive(members: Mapping[str, bytes], first: str | None = None, level: int = 9) -> bytes:
    """Write a zip archive with fixed dates, order and permissions.

    The bytes depend on the members only; another release of zlib may compress to other bytes.

    Args:
        members: Content by name.
        first: The member that stands first; the others are sorted by name.
        level: Effort of the deflate algorithm, 1 to 9, or 0 to store.
    """
    return join([pack(name, members[name], level) for name in _ordered(members, first)])


def join(packed: Sequence[Packed]) -> bytes:
    """The archive of members that are packed already, in this order."""
    file, contents = io.BytesIO(), iter([content for _, content in packed])
    _write(file, [entry for entry, _ in packed], lambda _: file.write(next(contents)))
    return file.getvalue()


def _write(file: Any, entries: Iterable[ZipInfo], put_content: Callable[[ZipInfo], object]) -> None:
    """Write headers and directory, and have each member's content put between them."""
    with ZipFile(file, "w") as archive:
        for entry in entries:
            entry.header_offset = file.tell()
            file.write(entry.FileHeader(zip64=False))
            put_content(entry)
            archive.filelist.append(entry)
        archive.start_dir = file.tell()


class _Compared:
    """A file that takes what is written to it only where it holds that already."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.tell, self.seek, self.flush = file, file.tell, file.seek, file.flush

    def write(self, data: bytes) -> int:
        if self._file.read(len(data)) != data:
            raise KitDamaged("the archive is damaged, or not one that edgeser wrote", AGAIN)
        return len(data)


@contextmanager
def open_archive(source: Path | bytes, first: str | None = None) -> Iterator[Archive]:
    """Open an archive and check everything but its members' content.

    Raises:
        KitDamaged: The archive is truncated, changed or none.
        KitError: Names leave the archive or occur twice, or sizes are beyond what a kit can have.
        OSError: The file cannot be read.
    """
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        if size > MAX_ARCHIVE_BYTES:
            raise KitError(f"an archive of {size >> 20} MB", f"a kit has at most {MAX_ARCHIVE_BYTES >> 20} MB")
        entries = _directory(file, size)
        _check_entries(entries, first, size)
        file.seek(0)
        _write(_Compared(file), entries, lambda entry: file.seek(entry.compress_size, io.SEEK_CUR))
        if file.tell() != size:
            raise KitDamaged("the archive goes on after its end", AGAIN)
        yield Archive({entry.filename: entry for entry in entries}, file)


def read_archive(data: bytes, first: str | None = None) -> dict[str, bytes]:
    """Return the content of all members of an archive by name; errors as :func:`open_archive`."""
    with open_archive(data, first) as archive:
        return {name: archive.read(name) for name in archive.entries}


def _directory(file: BinaryIO, size: int) -> list[ZipInfo]:
    """Read the members' entries in the last bytes of a file; the place of each member is not taken from there."""
    file.seek(max(0, size - MAX_DIRECTORY))
    try:
        with ZipFile(io.BytesIO(file.read(MAX_DIRECTORY))) as found:
            listed = found.infolist()
    except UNREADABLE as error:
        raise KitDamaged(f"not a whole archive, or not one that edgeser wrote: {error}", AGAIN) from error
    for entry in listed:
        if not PLAIN_NAME.fullmatch(entry.orig_filename):
            raise KitError(f"an archive with the member {entry.orig_filename[:MAX_NAME]!r}", STRANGE)
    return [
        entry_of(entry.filename, entry.compress_type, entry.CRC, entry.compress_size, entry.file_size)
        for entry in listed
    ]


def _check_entries(entries: list[ZipInfo], first: str | None, size: int) -> None:
    names = [entry.filename for entry in entries]
    if len(names) > MAX_MEMBERS:
        raise KitError(f"an archive of {len(names)} members", f"a kit has at most {MAX_MEMBERS}")
    if len(set(names)) != len(names):
        raise KitError("an archive that holds two members of one name", STRANGE)
    if names != _ordered(names, first):
        raise KitDamaged("the archive's members are not in their order", AGAIN)
    if sum(entry.compress_size for entry in entries) > size:
        raise KitDamaged("the archive's directory states more than there is", AGAIN)
    for entry in entries:
        name, megabytes = entry.filename, entry.file_size >> 20
        if entry.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            raise KitError(f"the member {name} is packed in an unknown way", "pack the kit with edgeser")
        if entry.file_size > MAX_MEMBER_BYTES:
            raise KitError(f"the member {name} has {megabytes} MB", f"at most {MAX_MEMBER_BYTES >> 20} MB are read")
        if entry.file_size > max(SMALL, MOST_EXPANSION * entry.compress_size):
            raise KitError(f"the member {name} would unpack to {megabytes} MB", STRANGE)
    if sum(entry.file_size for entry in entries) > MAX_TOTAL_BYTES:
        raise KitError("an archive that unpacks to too much", f"at most {MAX_TOTAL_BYTES >> 20} MB are read")


def _ordered(names: Iterable[str], first: str | None) -> list[str]:
    return sorted(names, key=lambda name: (name != first, name))


# Arrays --------------------------------------------------------------------------------------------------------------

_MAGIC = b"\x93NUMPY\x01\x00"
_HEADER = re.compile(
    rb"{'descr': '(\|[biu]1|<[iuf][248])', 'fortran_order': False, 'shape': \(((?:[0-9]{1,9}, ?)*[0-9]{0,9})\), } *\n"
)
"""The header that numpy writes for an array of plain numbers; no other is read, so nothing is parsed as Python."""


def write_arrays(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """An npz file, the same bytes for the same arrays; not compressed, since the archive around it is."""
    members = {}
    for name, array in arrays.items():
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, np.asarray(array, order="C"), version=(1, 0), allow_pickle=False)
        members[f"{name}.npy"] = buffer.getvalue()
    return write_archive(members, level=0)


def read_arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of an npz file that :func:`write_arrays` wrote.

    Raises:
        KitError: Not an npz file of plain arrays, or too large.
    """
    return {name.removesuffix(".npy"): _read_array(name, content) for name, content in read_archive(data).items()}


def _read_array(name: str, content: bytes) -> NDArray[Any]:
    start = len(_MAGIC) + 2
    length = int.from_bytes(content[len(_MAGIC) : start], "little")
    header = _HEADER.fullmatch(content[start : start + length])
    if content[: len(_MAGIC)] != _MAGIC or header is None:
        raise KitDamaged(f"the array {name} cannot be read: not a header that edgeser writes", AGAIN)
    dtype = np.dtype(header[1].decode())
    shape = tuple(int(size) for size in header[2].replace(b" ", b"").split(b",") if size)
    if prod(shape) * dtype.itemsize != len(content) - start - length:
        raise KitDamaged(f"the array {name} cannot be read: the size does not fit the header", AGAIN)
    return np.frombuffer(content, dtype, offset=start + length).reshape(shape)


# JSON ----------------------------------------------------------------------------------------------------------------


def write_json_bytes(value: Any) -> bytes:
    """The one way in which a kit's JSON is written."""
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


def parse_json(content: bytes | str, name: str) -> Any:
    """JSON without what others might read in another way: UTF-8, no name twice, no NaN, no number beyond 64 bits.

    Raises:
        KitDamaged: Not such JSON.
    """
    try:
        return json.loads(  # bytes would be taken for UTF-16 or UTF-32, too, where they look like it
            str(content, "utf-8") if isinstance(content, bytes) else content,
            object_pairs_hook=_object,
            parse_int=_whole,
            parse_float=_number,
            parse_constant=_number,
        )
    except (ValueError, RecursionError) as error:
        raise KitDamaged(f"{name} is not JSON: {error}", AGAIN) from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _whole(text: str) -> int:
    if len(text) > 20 or not -(1 << 63) <= int(text) < 1 << 63:
        raise ValueError("a number beyond 64 bits")
    return int(text)


def _number(text: str) -> float:
    if not isfinite(float(text)):
        raise ValueError("a number beyond 64 bits")
    return float(text)
