"""Reading kits: what is damaged, foreign or hostile is refused with a typed error, and nothing is ever unpacked."""

from __future__ import annotations

import contextlib
import json
import struct
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import onnx
import onnxruntime
import pytest
from device.kits import SPEC, synthetic_set
from device.mutants import sealed
from hypothesis import HealthCheck, given, settings
from onnx import numpy_helper

from edgeser.models.students import build
from edgeser_device.data.schedule import Schedule
from edgeser_device.errors import KitDamaged, KitError, KitSchemaError
from edgeser_device.frontend import FrontendSpec, hann_window, mel_filters
from edgeser_device.kit.archive import parse_json, read_arrays, write_archive, write_arrays
from edgeser_device.kit.kit import GOLDEN, INITIAL, MANIFEST, STUDENT, Kit, read_kit
from edgeser_device.kit.manifest import EXTRA_FIELDS, FIELDS, check_manifest, is_plain
from edgeser_device.train.train import train
from edgeser_export.graph.op_graph import Graph
from edgeser_export.utilities.errors import EdgeserError, GraphError

Members = dict[str, bytes]


def resealed(members: Members, **changes: Any) -> bytes:
    """A kit whose manifest states the members that are there."""
    manifest = json.loads(members[MANIFEST]) | changes
    return sealed(members, {key: value for key, value in manifest.items() if value is not ...})


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


def test_a_kit_sealed_again_is_still_read(kit: Kit, tmp_path: Path) -> None:
    assert reading(tmp_path, resealed(dict(kit.members))).labels == kit.labels


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
        reading(tmp_path, write_archive(fewer, first=MANIFEST))
    with pytest.raises(KitDamaged, match=r"extra\.txt"):
        reading(tmp_path, write_archive({**kit.members, "extra.txt": b"x"}, first=MANIFEST))


@pytest.mark.parametrize("schema", [0, 1, 3, "2", True, 2.0, None, [2]])
def test_another_schema_is_refused(kit: Kit, tmp_path: Path, schema: object) -> None:
    with pytest.raises(KitSchemaError, match="format"):
        reading(tmp_path, resealed(dict(kit.members), schema=schema))


def test_members_that_do_not_fit_each_other(kit: Kit, tmp_path: Path) -> None:
    other = json.dumps(build("edgenet", 5, 0.25).to_json()).encode()
    with pytest.raises(EdgeserError, match="number of outputs"):
        reading(tmp_path, resealed({**kit.members, STUDENT: other}))
    wider = json.dumps(build("edgenet", 3, 0.5).to_json()).encode()
    with pytest.raises(EdgeserError, match="weight"):
        reading(tmp_path, resealed({**kit.members, STUDENT: wider}))
    foreign = synthetic_set(per_class=2, batch=4).to_bytes()
    with pytest.raises(KitError, match="steps/adamw-full-4"):
        reading(tmp_path, resealed({**kit.members, "distilled.safetensors": foreign}))
    filters = write_arrays({"window": hann_window(1024), "filters": mel_filters(SPEC) * 1.0001})
    with pytest.raises(KitError, match="another front-end"):
        reading(tmp_path, resealed({**kit.members, "frontend.npz": filters}))
    with pytest.raises(KitDamaged, match=STUDENT):
        reading(tmp_path, resealed({**kit.members, STUDENT: b"{"}))


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
        reading(tmp_path, resealed(dict(kit.members), **change))


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


def test_other_programs_read_what_is_written(kit: Kit) -> None:
    with zipfile.ZipFile(kit.path) as packed:
        assert packed.testzip() is None
        assert {name: packed.read(name) for name in packed.namelist()} == dict(kit.members)


def test_what_another_program_wrote_is_no_kit(kit: Kit, tmp_path: Path) -> None:
    path = tmp_path / "other.edgeser"
    with zipfile.ZipFile(path, "w") as packed:
        for name, content in kit.members.items():
            packed.writestr(name, content)
    with pytest.raises(KitError):
        read_kit(path)


@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_a_changed_byte_never_goes_unnoticed(kit: Kit, tmp_path: Path, place: float, flip: int) -> None:
    data = bytearray(kit.path.read_bytes())
    data[int(place * len(data))] ^= flip
    with pytest.raises(KitError):
        reading(tmp_path, bytes(data))


# Graphs --------------------------------------------------------------------------------------------------------------


def elsewhere(model: onnx.ModelProto, location: str) -> onnx.TensorProto:
    """The first tensor of a graph, whose values are made to lie in another file."""
    tensor = model.graph.initializer[0]
    size = len(numpy_helper.to_array(tensor).tobytes())
    for field in ("raw_data", "float_data", "int64_data", "int32_data"):
        tensor.ClearField(field)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(size))):
        tensor.external_data.add(key=key, value=value)
    return tensor


def plain(model: onnx.ModelProto, location: str) -> bytes:
    elsewhere(model, location)
    return model.SerializeToString()


def in_an_attribute(model: onnx.ModelProto, location: str) -> bytes:
    node = model.graph.node.add(op_type="Constant", output=["unused"])
    node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR).t.CopyFrom(elsewhere(model, location))
    del model.graph.initializer[0]
    return model.SerializeToString()


def in_a_branch(model: onnx.ModelProto, location: str) -> bytes:
    node = model.graph.node.add(op_type="If", input=["condition"], output=["unused"])
    branch = node.attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH).g
    branch.initializer.add().CopyFrom(elsewhere(model, location))
    return model.SerializeToString()


def in_a_sparse_tensor(model: onnx.ModelProto, location: str) -> bytes:
    model.graph.sparse_initializer.add().values.CopyFrom(elsewhere(model, location))
    return model.SerializeToString()


def spelt_oddly(model: onnx.ModelProto, location: str) -> bytes:
    """With lengths in two bytes where one would do, which every parser reads."""
    key = onnx.StringStringEntryProto(key="location", value=location).SerializeToString()
    odd = key.replace(b"\n\x08location", b"\n\x88\x00location")
    tensor = elsewhere(model, location)
    del tensor.external_data[:]
    extra = tensor.SerializeToString() + b"\x6a" + bytes([len(odd)]) + odd
    graph = model.graph.SerializeToString() + b"\x2a" + bytes([0x80 | len(extra) & 0x7F, len(extra) >> 7]) + extra
    model.ClearField("graph")
    length = bytes([0x80 | len(graph) & 0x7F, 0x80 | len(graph) >> 7 & 0x7F, len(graph) >> 14])
    data = model.SerializeToString() + b"\x3a" + length + graph
    assert onnx.load_model_from_string(data).graph.initializer[-1].external_data[0].value == location
    return data


@pytest.mark.parametrize("change", [plain, in_an_attribute, in_a_branch, in_a_sparse_tensor, spelt_oddly])
@pytest.mark.parametrize("location", ["{folder}/secret.bin", "../secret.bin", "secret.bin", "*/_ORT_MEM_ADDR_/*"])
def test_a_graph_that_names_files_outside_is_refused_before_a_runtime_sees_it(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[..., bytes], location: str
) -> None:
    """In an unsigned kit whose hashes all fit; the file is there, and nobody opens it."""
    place = tmp_path / "kit"
    place.mkdir()
    monkeypatch.chdir(place)
    for secret in (tmp_path / "secret.bin", place / "secret.bin"):
        secret.write_bytes(bytes(100_000))
    opened = []
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: opened.append("a session"))
    for name in [name for name in kit.members if name.endswith(".onnx")]:
        forged = change(onnx.load_model_from_string(kit.members[name]), location.format(folder=tmp_path))
        with pytest.raises(KitError, match=f"{name} names data outside"):
            train(reading(tmp_path, resealed({**kit.members, name: forged})), tmp_path / "model")
    assert opened == []
    assert not (tmp_path / "model").exists()


# Schemas -------------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@given(name=st.sampled_from([*FIELDS, *EXTRA_FIELDS]), value=JSON)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
def test_a_manifest_with_any_value_is_read_or_refused(kit: Kit, name: str, value: Any) -> None:
    manifest = {**kit.manifest, name: value}
    with contextlib.suppress(KitError):
        check_manifest(manifest)
        assert is_plain(value)


@given(JSON)
def test_a_student_of_any_value_is_refused(value: Any) -> None:
    with pytest.raises(GraphError):
        Graph.from_json(value)


@given(JSON, st.sampled_from([Schedule, FrontendSpec]))
def test_descriptions_of_any_value_are_refused(value: Any, kind: Any) -> None:
    with pytest.raises(EdgeserError):
        kind.from_json(value)


@given(st.data())
@settings(max_examples=150)
def test_descriptions_with_one_odd_value_are_read_or_refused(data: st.DataObject) -> None:
    whole: Any = data.draw(st.sampled_from([Schedule(), FrontendSpec()]))
    description = whole.to_json()
    description[data.draw(st.sampled_from(sorted(description)))] = data.draw(JSON)
    with contextlib.suppress(EdgeserError):
        type(whole).from_json(description)


def test_json_is_utf_8(kit: Kit, tmp_path: Path) -> None:
    for encoding in ("utf-16", "utf-16-le", "utf-32", "utf-32-be", "utf-8-sig"):
        with pytest.raises(KitDamaged, match="not JSON"):
            parse_json('{"a": 1}'.encode(encoding), "it")
        student = kit.members[STUDENT].decode().encode(encoding)
        with pytest.raises(KitDamaged, match=STUDENT):
            reading(tmp_path, resealed({**kit.members, STUDENT: student}))
    header = kit.members["distilled.safetensors"]
    length = int.from_bytes(header[:8], "little")
    wide = header[8 : 8 + length].decode().encode("utf-32-be")
    with pytest.raises(EdgeserError):
        reading(tmp_path, resealed({**kit.members, "distilled.safetensors": struct.pack("<Q", len(wide)) + wide}))


@pytest.mark.parametrize("text", ["\x1b[2Jgone", "a\rb", "a\x00b", "\u202etxt.exe"])
def test_what_would_move_the_cursor_is_not_printed(kit: Kit, tmp_path: Path, text: str) -> None:
    provenance = {**kit.manifest["provenance"], "corpus": {"name": text}}
    with pytest.raises(KitError, match="provenance"):
        reading(tmp_path, resealed(dict(kit.members), provenance=provenance))
    with pytest.raises(KitError, match="plain text"):
        reading(tmp_path, resealed({**kit.members, "card.md": text.encode()}))
