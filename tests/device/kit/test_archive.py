"""Archives: one form, written the same by an oracle of our own; whatever deviates from it is refused, unread."""

from __future__ import annotations

import contextlib
import io
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given, settings

from edgeser_device.errors import KitDamaged, KitError
from edgeser_device.kit import archive
from edgeser_device.kit.archive import (
    MAX_DIRECTORY,
    MAX_MEMBERS,
    MAX_NAME,
    PLAIN_NAME,
    parse_json,
    read_archive,
    read_arrays,
    write_archive,
    write_arrays,
    write_json_bytes,
)

# The form ------------------------------------------------------------------------------------------------------------

LOCAL, CENTRAL, END = struct.Struct("<4s5H3L2H"), struct.Struct("<4s6H3L5H2L"), struct.Struct("<4s4H2LH")
"""PKWARE's APPNOTE.TXT, sections 4.3.7, 4.3.12 and 4.3.16."""
FIRST_DAY = 33
"""1980-01-01, the earliest that the format can say."""


def by_the_book(members: dict[str, bytes]) -> bytes:
    """What write_archive writes for stored members in this order, put together from the specification."""
    body, directory = b"", b""
    for name, content in members.items():
        sizes, rights = (zlib.crc32(content), len(content), len(content)), 0o755 if name.endswith(".sh") else 0o644
        common = (20, 0, 0, 0, FIRST_DAY, *sizes, len(name), 0)
        directory += CENTRAL.pack(
            b"PK\1\2", 20 | 3 << 8, *common, 0, 0, 0, (0o100000 | rights) << 16, len(body)
        ) + name.encode("ascii")
        body += LOCAL.pack(b"PK\3\4", *common) + name.encode("ascii") + content
    count = len(members)
    return body + directory + END.pack(b"PK\5\6", 0, 0, count, count, len(directory), len(body), 0)


PART = st.text("aZ9_.+-", min_size=1, max_size=12)
NAMES = st.lists(PART, min_size=1, max_size=3).map("/".join).filter(PLAIN_NAME.fullmatch)
MEMBERS = st.dictionaries(NAMES, st.binary(max_size=300), max_size=6)


@given(MEMBERS)
def test_the_form_is_the_specifications(members: dict[str, bytes]) -> None:
    assert write_archive(members, level=0) == by_the_book(dict(sorted(members.items())))


@given(MEMBERS, st.sampled_from([0, 1, 9]), st.booleans())
def test_what_is_written_is_read(members: dict[str, bytes], level: int, named: bool) -> None:
    first = max(members) if members and named else None
    data = write_archive(members, first, level)
    assert read_archive(data, first) == members
    with zipfile.ZipFile(io.BytesIO(data)) as other:
        assert other.testzip() is None
        assert {name: other.read(name) for name in other.namelist()} == members
    if first is not None and len(members) > 1:
        with pytest.raises(KitDamaged, match="order"):
            read_archive(data)


def test_the_most_members_fit_into_what_is_looked_at() -> None:
    members = {f"{number:0{MAX_NAME}}": b"" for number in range(MAX_MEMBERS)}
    data = write_archive(members)
    assert END.size + MAX_MEMBERS * (CENTRAL.size + MAX_NAME) <= MAX_DIRECTORY
    assert read_archive(data + b"") == members
    with pytest.raises(KitError, match=f"{MAX_MEMBERS + 1} members"):
        read_archive(write_archive({f"{number}": b"" for number in range(MAX_MEMBERS + 1)}))


def test_a_large_archive_is_read_in_pieces(tmp_path: Path) -> None:
    """Wheels: their stored bytes are hashed a piece at a time, and opening the archive reads none of them."""
    path = tmp_path / "large"
    path.write_bytes(write_archive({name: bytes(20 << 20) for name in ("a.whl", "b.whl")}, level=0))
    program = (
        "import sys; from pathlib import Path; from edgeser_device.kit.archive import open_archive;"
        "from edgeser_device.machine import peak_rss_mb\n"
        "before = peak_rss_mb() or 0\n"
        "with open_archive(Path(sys.argv[1])) as found:\n"
        "    pieces = [len(piece) for piece in found.chunks('b.whl')]\n"
        "print(max(pieces), sum(pieces), (peak_rss_mb() or 0) - before)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    largest, total, grown_mb = map(float, done.stdout.split())
    assert (largest, total) == (1 << 20, 20 << 20)
    assert grown_mb < 10


# Deviations ----------------------------------------------------------------------------------------------------------

MEMBERS_OF_ONE = {"manifest.json": b"{}", "a/b.onnx": bytes(200) + b"x", "run.sh": b"exit 0\n"}
SMALL_ONE = write_archive(MEMBERS_OF_ONE, "manifest.json", level=0)


def refused(data: bytes) -> None:
    with pytest.raises(KitError) as raised:
        read_archive(data, "manifest.json")
    assert raised.value.message
    assert raised.value.hint


def test_every_beginning_is_refused() -> None:
    for length in range(len(SMALL_ONE)):
        refused(SMALL_ONE[:length])


def test_every_changed_bit_is_refused() -> None:
    for place in range(len(SMALL_ONE)):
        for bit in range(8):
            changed = bytearray(SMALL_ONE)
            changed[place] ^= 1 << bit
            refused(bytes(changed))


def test_a_changed_bit_of_what_is_deflated_is_refused_or_changes_nothing() -> None:
    """Deflate has bits that mean nothing; a kit's manifest states hashes of what is stored, and notices those, too."""
    data = write_archive(MEMBERS_OF_ONE, "manifest.json")
    for place in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[place] ^= 1 << bit
            with contextlib.suppress(KitError):
                assert read_archive(bytes(changed), "manifest.json") == MEMBERS_OF_ONE


@given(place=st.integers(0, len(SMALL_ONE)), length=st.integers(0, 80), given=st.binary(max_size=80))
@settings(max_examples=300)
def test_what_is_put_in_cut_out_or_replaced_is_refused(place: int, length: int, given: bytes) -> None:
    changed = SMALL_ONE[:place] + given + SMALL_ONE[place + length :]
    assume(changed != SMALL_ONE)
    refused(changed)


@given(st.binary(max_size=400) | st.binary(max_size=200).map(lambda noise: noise + SMALL_ONE[-200:]))
@settings(max_examples=300)
def test_any_bytes_are_refused(data: bytes) -> None:
    refused(data)


ODD = {
    "comment": "of the archive",
    "extra": "field of a member",
    "remark": "comment of a member",
    "date": "another one",
    "rights": "setuid",
    "version": "made by DOS",
}


@pytest.mark.parametrize("what", ODD)
def test_what_zip_allows_and_we_do_not_write_is_refused(what: str) -> None:
    """The same content in an archive that other programs read: only the bytes around it differ."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as again:
        for name, content in MEMBERS_OF_ONE.items():
            entry = archive.entry_of(name, zipfile.ZIP_STORED, 0, 0, 0)
            _make_odd(entry, what)
            again.writestr(entry, content)
        if what == "comment":
            again.comment = b"hello"
    with zipfile.ZipFile(buffer) as other:
        assert other.testzip() is None
    assert buffer.getvalue() != SMALL_ONE
    refused(buffer.getvalue())


def _make_odd(entry: zipfile.ZipInfo, what: str) -> None:
    if what == "extra":
        entry.extra = b"\xfe\xca\x02\x00hi"
    elif what == "remark":
        entry.comment = b"hello"
    elif what == "date":
        entry.date_time = (2026, 1, 1, 0, 0, 0)
    elif what == "rights":
        entry.external_attr |= 0o4000 << 16
    elif what == "version":
        entry.create_system = 0


def test_a_second_directory_is_refused() -> None:
    """Two archives in one file, of which readers may choose either."""
    refused(SMALL_ONE + SMALL_ONE)
    refused(b"#!/bin/sh\n" + SMALL_ONE)
    refused(SMALL_ONE + b"\n")


@pytest.mark.parametrize("place", ["end", "locator"])
def test_a_directory_for_large_files_is_refused(place: str) -> None:
    """ZIP64's records, with which sizes of 64 bits are smuggled in."""
    end = SMALL_ONE[-END.size :]
    _, _, _, count, _, length, start, _ = END.unpack(end)
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, length, start)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(SMALL_ONE) - END.size, 1)
    added = record + locator if place == "end" else locator
    refused(SMALL_ONE[: -END.size] + added + end)


def raw_zip(entries: list[tuple[str, bytes]], change: Callable[[zipfile.ZipInfo], None] = lambda _: None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for name, data in entries:
            entry = zipfile.ZipInfo(name)
            change(entry)
            packed.writestr(entry, data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/etc/passwd",
        "a/../../b",
        "a//b",
        "./a",
        "a/",
        "C:\\evil",
        "..\\evil",
        ".hidden",
        "a/.b",
        "",
        "a b",
        "naïve",
        "-x",
    ],
)
def test_names_that_leave_are_refused(name: str) -> None:
    with pytest.raises(KitError):
        read_archive(raw_zip([(name, b"x")]))


def test_a_link_is_refused() -> None:
    def link(entry: zipfile.ZipInfo) -> None:
        entry.external_attr = 0o120777 << 16

    with pytest.raises(KitError):
        read_archive(raw_zip([("link", b"/etc/passwd")], link))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused() -> None:
    with pytest.raises(KitError, match="two members"):
        read_archive(raw_zip([("a", b"1"), ("a", b"2")]))


def test_unknown_compression_is_refused() -> None:
    def squeeze(entry: zipfile.ZipInfo) -> None:
        entry.compress_type = zipfile.ZIP_LZMA

    with pytest.raises(KitError, match="unknown way"):
        read_archive(raw_zip([("a", b"1" * 100)], squeeze))


def test_a_bomb_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, limit in (
        ("MAX_MEMBER_BYTES", 1000),
        ("MAX_TOTAL_BYTES", 1500),
        ("MAX_MEMBERS", 3),
        ("MAX_ARCHIVE_BYTES", 10_000),
    ):
        monkeypatch.setattr(archive, name, limit)
    monkeypatch.setattr(archive, "unpack", lambda *_: pytest.fail("it was read"))
    with pytest.raises(KitError, match="has 0 MB"):
        read_archive(write_archive({"big": bytes(1001)}))
    with pytest.raises(KitError, match="unpacks to too much"):
        read_archive(write_archive({"one": bytes(900), "two": bytes(900)}))
    with pytest.raises(KitError, match="4 members"):
        read_archive(write_archive(dict.fromkeys("abcd", b"")))
    with pytest.raises(KitError, match="archive of"):
        read_archive(bytes(10_001))


def test_a_member_that_lies_about_its_size() -> None:
    data = bytearray(write_archive({"a": bytes(100_000)}))
    directory = data.rindex(b"PK\x01\x02")
    data[directory + 24 : directory + 28] = struct.pack("<I", 50)
    with pytest.raises(KitDamaged):
        read_archive(bytes(data))


def test_a_member_that_would_unpack_to_much_more_is_refused() -> None:
    with pytest.raises(KitError, match="would unpack to 8 MB"):
        read_archive(write_archive({"zeros": bytes(8 << 20)}))
    assert read_archive(write_archive({"zeros": bytes(1 << 20)}))["zeros"] == bytes(1 << 20)


## Arrays --------------------------------------------------------------------------------------------------------------


def test_arrays_round_trip() -> None:
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array(3, np.uint8)}
    data = write_arrays(arrays)
    assert write_arrays(arrays) == data
    assert all(np.array_equal(read_arrays(data)[name], array) for name, array in arrays.items())
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        assert np.array_equal(stored["a"], arrays["a"])


def npy(header: bytes) -> bytes:
    return write_archive({"a.npy": b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header})


@pytest.mark.parametrize(
    "data",
    [
        write_archive({"a.npy": b"garbage"}),
        write_archive({"a.npy": b""}),
        npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }\n"),
        npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n"),
        npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }\n"),
        npy(b"__import__('os').system('true')\n"),
    ],
)
def test_malformed_arrays_are_refused(data: bytes) -> None:
    with pytest.raises(KitDamaged):
        read_arrays(data)


# JSON ----------------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@given(JSON)
def test_json_is_read_as_it_was_written_or_refused(value: Any) -> None:
    try:
        text = write_json_bytes(value)
    except ValueError:
        return
    with contextlib.suppress(KitDamaged):
        assert write_json_bytes(parse_json(text, "it")) == text


@pytest.mark.parametrize(
    "text",
    ['{"a": 1, "a": 2}', "NaN", "-Infinity", "1e999", "1" * 30, "[" * 100_000, "", "\ufeff{}", "{'a': 1}"],
)
def test_json_that_readers_understand_differently_is_refused(text: str) -> None:
    with pytest.raises(KitDamaged):
        parse_json(text, "it")
