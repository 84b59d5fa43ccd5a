"""Zip archives, npz files and JSON: one way to write each, and read without trust.

    data = write_archive({"manifest.json": b"{}", "steps/a.onnx": b"..."}, first="manifest.json")
    with open_archive(path, first="manifest.json") as archive:
        archive.packed("steps/a.onnx")          # as stored: hash it
        archive.read("steps/a.onnx")            # unpacked, no more than the directory states

An archive is read only if every byte outside the members' content is the one that :func:`write_archive` writes for
these members: no comment, no gap, no second name, no other date or order. Sizes are looked at before anything is read.
Nothing is unpacked to a disk here, so no name in an archive can reach a file.
"""

from __future__ import annotations

import io
import json
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite, prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from edgeser_device.errors import KitDamaged, KitError

MAX_ARCHIVE_BYTES = 512 << 20
MAX_MEMBER_BYTES = 128 << 20
MAX_TOTAL_BYTES = 512 << 20
MAX_MEMBERS = 256
MAX_NAME = 128
SMALL = 1 << 20
MOST_EXPANSION = 50
"""A member may unpack to SMALL bytes, or to this many times its packed size: what training needs stays below 25."""
PLAIN_NAME = re.compile(rf"(?=.{{1,{MAX_NAME}}}\Z)[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*")
"""Relative, with forward slashes, no part that starts with a dot."""
STORED, DEFLATED = 0, 8
KEPT_AS_THEY_ARE = (".whl", "manifest.json", "manifest.sig")
"""Packed already, or read before anything is unpacked."""
AGAIN = "copy or download the kit again"
STRANGE = "get the kit from someone you trust"

# The format: APPNOTE.TXT of PKWARE, sections 4.3.7, 4.3.12 and 4.3.16.
_LOCAL, _CENTRAL, _END = struct.Struct("<4s5H3L2H"), struct.Struct("<4s6H3L5H2L"), struct.Struct("<4s4H2LH")
_VERSION, _UNIX, _FIRST_DAY = 20, 3 << 8, 33  # 1980-01-01, the earliest that the format can say
_SCRIPT, _FILE = 0o100755 << 16, 0o100644 << 16
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Entry:
    """A member as the directory states it.

    Attributes:
        name: Where it stands.
        method: STORED or DEFLATED.
        crc: CRC-32 of the content.
        packed_bytes: Bytes in the archive.
        size: Bytes unpacked.
    """

    name: str
    method: int
    crc: int
    packed_bytes: int
    size: int

    @property
    def header(self) -> bytes:
        """What stands before its content."""
        return b"".join(
            (
                _LOCAL.pack(b"PK\3\4", _VERSION, 0, self.method, 0, _FIRST_DAY, *self._sizes, len(self.name), 0),
                self.name.encode("ascii"),
            )
        )

    def directory(self, offset: int) -> bytes:
        """What stands in the directory for it, when its header starts at ``offset``."""
        rights = _SCRIPT if self.name.endswith(".sh") else _FILE
        numbers = (_VERSION | _UNIX, _VERSION, 0, self.method, 0, _FIRST_DAY, *self._sizes)
        fixed = _CENTRAL.pack(b"PK\1\2", *numbers, len(self.name), 0, 0, 0, 0, rights, offset)
        return fixed + self.name.encode("ascii")

    @property
    def _sizes(self) -> tuple[int, int, int]:
        return self.crc, self.packed_bytes, self.size


@dataclass(frozen=True)
class Archive:
    """An open archive whose directory was checked.

    Attributes:
        entries: By name, in their order.
        offsets: Where the content of each begins.
    """

    entries: Mapping[str, Entry]
    offsets: Mapping[str, int]
    _file: BinaryIO

    def chunks(self, name: str) -> Iterator[bytes]:
        """The content as stored, in pieces, with no more than one of them in memory.

        Raises:
            KitDamaged: The file ends before.
        """
        self._file.seek(self.offsets[name])
        left = self.entries[name].packed_bytes
        while left:
            piece = self._file.read(min(left, _CHUNK))
            if not piece:
                raise KitDamaged(f"the member {name} is cut short", AGAIN)
            left -= len(piece)
            yield piece

    def packed(self, name: str) -> bytes:
        """The content as stored."""
        return b"".join(self.chunks(name))

    def read(self, name: str) -> bytes:
        """The content.

        Raises:
            KitDamaged: It is not what the directory states.
        """
        return unpack(self.entries[name], self.packed(name))


def unpack(entry: Entry, packed: bytes) -> bytes:
    """The content of a member from what is stored; never more than the directory states.

    Raises:
        KitDamaged: It is not what the directory states.
    """
    content = packed
    if entry.method == DEFLATED:
        stream = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            content = stream.decompress(packed, entry.size + 1)
        except zlib.error as error:
            raise KitDamaged(f"the member {entry.name} cannot be unpacked: {error}", AGAIN) from error
        if not stream.eof or stream.unused_data:
            raise KitDamaged(f"the member {entry.name} is cut short or has another size than stated", AGAIN)
    if len(content) != entry.size or zlib.crc32(content) != entry.crc:
        raise KitDamaged(f"the member {entry.name} is not what the archive states", AGAIN)
    return content


def pack(name: str, content: bytes, level: int = 9) -> tuple[Entry, bytes]:
    """A member and what is stored of it: deflated, unless it is packed already or that makes it no smaller."""
    packed = content
    if level and not name.endswith(KEPT_AS_THEY_ARE):
        stream = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
        packed = stream.compress(content) + stream.flush()
    method = DEFLATED if len(packed) < len(content) else STORED
    stored = packed if method == DEFLATED else content
    return Entry(name, method, zlib.crc32(content), len(stored), len(content)), stored


def write_archive(members: Mapping[str, bytes], first: str | None = None, level: int = 9) -> bytes:
    """A zip archive with fixed dates, order and permissions.

    The bytes depend on the members only; another release of zlib may compress to other bytes.

    Args:
        members: Content by name.
        first: The member that stands first; the others are sorted by name.
        level: Of the deflate algorithm, or 0 to store.
    """
    return join([pack(name, members[name], level) for name in _ordered(members, first)])


def join(packed: list[tuple[Entry, bytes]]) -> bytes:
    """The archive of members that are packed already, in this order."""
    body, directory = io.BytesIO(), io.BytesIO()
    for entry, stored in packed:
        directory.write(entry.directory(body.tell()))
        body.write(entry.header + stored)
    return body.getvalue() + directory.getvalue() + _end(len(packed), directory.tell(), body.tell())


@contextmanager
def open_archive(source: Path | bytes, first: str | None = None) -> Iterator[Archive]:
    """Open an archive and check everything but its members' content.

    Raises:
        KitDamaged: Truncated, changed or not an archive.
        KitError: Names that leave the archive or occur twice, or sizes beyond what a kit can have.
        OSError: The file cannot be read.
    """
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        yield _examine(file, first)


def read_archive(data: bytes, first: str | None = None) -> dict[str, bytes]:
    """All members of an archive; errors as :func:`open_archive`."""
    with open_archive(data, first) as archive:
        return {name: archive.read(name) for name in archive.entries}


def _examine(file: BinaryIO, first: str | None) -> Archive:
    size = file.seek(0, io.SEEK_END)
    if size > MAX_ARCHIVE_BYTES:
        raise KitError(f"an archive of {size >> 20} MB", f"a kit has at most {MAX_ARCHIVE_BYTES >> 20} MB")
    if size < _END.size:
        raise KitDamaged("not a whole archive", AGAIN)
    end = _read(file, size - _END.size, _END.size)
    _, _, _, count, _, length, start, _ = _END.unpack(end)
    if start + length + _END.size != size or end != _end(count, length, start):
        raise KitDamaged("not a whole archive, or not one that edgeser wrote", AGAIN)
    if count > MAX_MEMBERS or length > count * (_CENTRAL.size + MAX_NAME):
        raise KitError(f"an archive of {count} members", f"a kit has at most {MAX_MEMBERS}")
    directory = _read(file, start, length)
    entries = list(_parse(directory))
    if sum(entry.packed_bytes for entry in entries) > start:
        raise KitDamaged("the archive's directory states more than there is", AGAIN)
    _check_entries(entries, first)
    offsets, place, again = {}, 0, b""
    for entry in entries:
        header = entry.header
        again += entry.directory(place)
        if _read(file, place, len(header)) != header:
            raise KitDamaged(f"the header of {entry.name} is damaged, or not one that edgeser wrote", AGAIN)
        offsets[entry.name] = place + len(header)
        place += len(header) + entry.packed_bytes
    if place != start or again != directory or len(entries) != count:
        raise KitDamaged("the archive's directory is damaged, or not one that edgeser wrote", AGAIN)
    return Archive({entry.name: entry for entry in entries}, offsets, file)


def _parse(directory: bytes) -> Iterator[Entry]:
    place = 0
    while place < len(directory):
        fixed = directory[place : place + _CENTRAL.size]
        if len(fixed) < _CENTRAL.size or fixed[:4] != b"PK\1\2":
            raise KitDamaged("the archive's directory is damaged", AGAIN)
        fields = _CENTRAL.unpack(fixed)
        method, (crc, packed, size), length = fields[4], fields[7:10], fields[10]
        place += _CENTRAL.size + length
        name = directory[place - length : place].decode("ascii", errors="replace")
        if not PLAIN_NAME.fullmatch(name):
            raise KitError(f"an archive with the member {name[:MAX_NAME]!r}", STRANGE)
        yield Entry(name, method, crc, packed, size)


def _check_entries(entries: list[Entry], first: str | None) -> None:
    names = [entry.name for entry in entries]
    if len(set(names)) != len(names):
        raise KitError("an archive that holds two members of one name", STRANGE)
    if names != _ordered(names, first):
        raise KitDamaged("the archive's members are not in their order", AGAIN)
    for entry in entries:
        if entry.method not in (STORED, DEFLATED):
            raise KitError(f"the member {entry.name} is packed in an unknown way", "pack the kit with edgeser")
        if entry.size > MAX_MEMBER_BYTES:
            raise KitError(
                f"the member {entry.name} has {entry.size >> 20} MB", f"at most {MAX_MEMBER_BYTES >> 20} MB are read"
            )
        if entry.size > max(SMALL, MOST_EXPANSION * entry.packed_bytes):
            raise KitError(f"the member {entry.name} would unpack to {entry.size >> 20} MB", STRANGE)
    if sum(entry.size for entry in entries) > MAX_TOTAL_BYTES:
        raise KitError("an archive that unpacks to too much", f"at most {MAX_TOTAL_BYTES >> 20} MB are read")


def _ordered(names: Any, first: str | None) -> list[str]:
    return sorted(names, key=lambda name: (name != first, name))


def _end(count: int, length: int, start: int) -> bytes:
    return _END.pack(b"PK\5\6", 0, 0, count, count, length, start, 0)


def _read(file: BinaryIO, place: int, length: int) -> bytes:
    file.seek(place)
    return file.read(length)


# Arrays --------------------------------------------------------------------------------------------------------------

_MAGIC = b"\x93NUMPY\x01\x00"
_HEADER = re.compile(
    rb"{'descr': '(\|[biu]1|<[iuf][248])', 'fortran_order': False, 'shape': \(((?:[0-9]{1,9}, ?)*[0-9]{0,9})\), } *\n"
)
"""What numpy writes for an array of plain numbers; nothing else is read, so nothing has to be parsed as Python."""


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
            parse_constant=_constant,
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


def _constant(text: str) -> Any:
    raise ValueError(f"{text} is no number")
