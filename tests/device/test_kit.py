"""Reading kits: what is damaged, foreign or hostile is refused with a typed error, and nothing is ever unpacked."""

from __future__ import annotations

import contextlib
import io
import json
import struct
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from device.kits import SPEC, synthetic_set
from hypothesis import HealthCheck, given, settings

from edgeser.students import build
from edgeser_device import archive
from edgeser_device.archive import read_archive, read_arrays, write_archive, write_arrays
from edgeser_device.errors import KitDamaged, KitError, KitSchemaError
from edgeser_device.frontend import hann_window, mel_filters
from edgeser_device.kit import GOLDEN, INITIAL, MANIFEST, STUDENT, Kit, read_kit
from edgeser_export.errors import EdgeserError

Members = dict[str, bytes]


def signed(members: Members, **changes: Any) -> bytes:
    """An archive whose manifest states the members that are there."""
    manifest = json.loads(members[MANIFEST])
    rest = {name: data for name, data in members.items() if name != MANIFEST}
    manifest["members"] = {
        name: {"bytes": len(data), "sha256": sha256(data).hexdigest()} for name, data in rest.items()
    }
    manifest = {key: value for key, value in (manifest | changes).items() if value is not ...}
    return write_archive({**rest, MANIFEST: json.dumps(manifest).encode()}, first=MANIFEST)


def reading(tmp_path: Path, data: bytes) -> Kit:
    path = tmp_path / "changed.edgeser"
    path.write_bytes(data)
    return read_kit(path)


def test_a_kit_is_read(kit: Kit) -> None:
    assert kit.labels == ("anger", "neutral", "sadness")
    assert kit.graph.parameter_count == kit.manifest["student"]["parameters"]
    assert kit.sha256 == sha256(kit.path.read_bytes()).hexdigest()
    assert kit.distilled.to_bytes() == synthetic_set().to_bytes()
    assert "prohibited" in kit.card


def test_the_front_ends_constants_travel(kit: Kit) -> None:
    stored = read_arrays(kit.members["frontend.npz"])
    assert np.array_equal(stored["window"], hann_window(SPEC.n_fft))
    assert np.array_equal(stored["filters"], mel_filters(SPEC))


def test_a_kit_signed_again_is_still_read(kit: Kit, tmp_path: Path) -> None:
    assert reading(tmp_path, signed(dict(kit.members))).labels == kit.labels


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_truncated_kit_is_damaged(kit: Kit, tmp_path: Path, share: float) -> None:
    data = kit.path.read_bytes()
    with pytest.raises(KitDamaged):
        reading(tmp_path, data[: int(share * len(data))])


def test_a_changed_member_is_damaged(kit: Kit, tmp_path: Path) -> None:
    members = dict(kit.members)
    members[INITIAL] = members[INITIAL][:-1] + b"\x01"
    with pytest.raises(KitDamaged, match=INITIAL):
        reading(tmp_path, write_archive(members, first=MANIFEST))


def test_a_missing_and_an_unknown_member_are_damage(kit: Kit, tmp_path: Path) -> None:
    fewer = {name: data for name, data in kit.members.items() if name != GOLDEN}
    with pytest.raises(KitDamaged, match=GOLDEN):
        reading(tmp_path, write_archive(fewer))
    with pytest.raises(KitDamaged, match=r"extra\.txt"):
        reading(tmp_path, write_archive({**kit.members, "extra.txt": b"x"}))


@pytest.mark.parametrize("schema", [0, 2, "1", None, [1]])
def test_another_schema_is_refused(kit: Kit, tmp_path: Path, schema: object) -> None:
    with pytest.raises(KitSchemaError, match="format"):
        reading(tmp_path, signed(dict(kit.members), schema=schema))


def test_members_that_do_not_fit_each_other(kit: Kit, tmp_path: Path) -> None:
    other = json.dumps(build("edgenet", 5, 0.25).to_json()).encode()
    with pytest.raises(EdgeserError, match="number of outputs"):
        reading(tmp_path, signed({**kit.members, STUDENT: other}))
    wider = json.dumps(build("edgenet", 3, 0.5).to_json()).encode()
    with pytest.raises(EdgeserError, match="weight"):
        reading(tmp_path, signed({**kit.members, STUDENT: wider}))
    foreign = synthetic_set(per_class=2, batch=4).to_bytes()
    with pytest.raises(KitError, match="steps/adamw-full-4"):
        reading(tmp_path, signed({**kit.members, "distilled.safetensors": foreign}))
    filters = write_arrays({"window": hann_window(1024), "filters": mel_filters(SPEC) * 1.0001})
    with pytest.raises(KitError, match="another filters"):
        reading(tmp_path, signed({**kit.members, "frontend.npz": filters}))
    with pytest.raises(KitDamaged, match=STUDENT):
        reading(tmp_path, signed({**kit.members, STUDENT: b"{"}))


@pytest.mark.parametrize(
    "change",
    [
        {"labels": ["a", "b", "c"]},
        {"frontend": {}},
        {"target": ...},
        {"target": {"threads": 0}},
        {"student": 3},
        {"results": None},
    ],
)
def test_a_manifest_that_says_something_else(kit: Kit, tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(KitError):
        reading(tmp_path, signed(dict(kit.members), **change))


@pytest.mark.parametrize("manifest", [b"", b"[]", b"{", b"{}", b'{"schema": 1}', b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_manifest(tmp_path: Path, manifest: bytes) -> None:
    with pytest.raises(KitError):
        reading(tmp_path, write_archive({MANIFEST: manifest}))


@pytest.mark.parametrize("data", [b"", b"PK", b"not a zip", b"PK\x05\x06" + bytes(18), bytes(1000)])
def test_what_is_no_archive(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(KitError):
        reading(tmp_path, data)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.edgeser", tmp_path):
        with pytest.raises(KitError, match="no kit"):
            read_kit(path)


# Hostile archives ----------------------------------------------------------------------------------------------------


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
    monkeypatch.setattr(archive, "_read_member", lambda *_: pytest.fail("it was read"))
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


@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_a_flipped_byte_never_goes_unnoticed(kit: Kit, tmp_path: Path, place: float, value: int) -> None:
    """Or it does not matter: dates and permissions of members are not looked at."""
    data = bytearray(kit.path.read_bytes())
    data[int(place * len(data))] = value
    with contextlib.suppress(EdgeserError):
        assert dict(reading(tmp_path, bytes(data)).members) == dict(kit.members)


# Arrays --------------------------------------------------------------------------------------------------------------


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
