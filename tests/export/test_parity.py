"""Comparison after export: agreement on graphs nobody thought of, and damage that must be seen."""

from __future__ import annotations

import json
import subprocess
import sys

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from edgeser.models import students
from edgeser_export.export import export_in_child, export_student
from edgeser_export.graph.op_graph import Add, BatchNorm, Concat, Conv, Graph, Linear, Pool, Reduce, Relu
from edgeser_export.graph.reference import run_reference
from edgeser_export.graph.transform import recogniser
from edgeser_export.parity import ParityReport, compare
from edgeser_export.runtimes import RUNTIMES, choose_runtime, load
from edgeser_export.utilities.children import child_error
from edgeser_export.utilities.errors import (
    ExportError,
    GraphError,
    MissingRuntime,
    ModelFileError,
    ParityError,
    StorageError,
)
from edgeser_export.writers import tflite_files as tflite
from edgeser_export.writers.formats import FORMATS, find_format

FLOATS = {name: row for name, row in FORMATS.items() if row.precision == "float32"}


@pytest.fixture(scope="module")
def exported(tmp_path_factory, whole, weigh, draw_items):
    folder = tmp_path_factory.mktemp("model")
    weights, items = weigh(whole), draw_items(whole)
    return folder, weights, items, export_student(whole, weights, folder, items, {"labels": "[]"})


@st.composite
def graphs(draw):
    """Small graphs: a chain of convolutions and pools with side branches, a reduction, and dense layers."""
    channels = draw(st.integers(1, 3))
    shape = (channels, draw(st.integers(5, 17)), draw(st.integers(5, 17)))
    ops, last = [], "x"
    for level in range(draw(st.integers(1, 3))):
        current = Graph(shape, tuple(ops)).shapes[last] if ops else shape
        ops += draw(_level(level, last, current))
        last = ops[-1].name
    how = st.sampled_from(["mean", "max"])
    if draw(st.booleans()):
        ops += [Reduce("pooled", last, (1, 2), draw(how))]
    else:
        axis = draw(st.integers(1, 2))
        ops += [Reduce("rows", last, (axis,), draw(how)), Reduce("pooled", "rows", (1,), draw(how))]
    if draw(st.booleans()):
        ops += [Linear("hidden", "pooled", 3, bias=draw(st.booleans())), Relu("active", "hidden")]
    return Graph(shape, (*ops, Linear("out", ops[-1].name, 3, bias=draw(st.booleans()))))


@st.composite
def _level(draw, level, source, shape):
    smallest = min(shape[1:])
    padding = draw(st.integers(0, 3))
    kernel = draw(st.integers(1, min(5, smallest + 2 * padding)))
    conv = Conv(
        f"c{level}", source, draw(st.integers(1, 4)), kernel, draw(st.integers(1, 3)), padding, draw(st.booleans())
    )
    ops = [conv]
    ops += [BatchNorm(f"n{level}", conv.name)] if draw(st.booleans()) else []
    ops += [Relu(f"r{level}", ops[-1].name)] if draw(st.booleans()) else []
    branch = draw(st.sampled_from(["none", "add", "concat"]))
    if branch == "add":
        ops += [Relu(f"s{level}", ops[-1].name), Add(f"a{level}", (ops[-1].name, f"s{level}"))]
        ops += [Relu(f"t{level}", f"a{level}")] if draw(st.booleans()) else []
    elif branch == "concat":
        ops += [Relu(f"s{level}", ops[-1].name), Concat(f"k{level}", (f"s{level}", ops[-1].name))]
    size = min(Graph(shape, tuple(op if op is not conv else _from_x(conv) for op in ops)).shapes[ops[-1].name][1:])
    if size > 1 and draw(st.booleans()):
        how = draw(st.sampled_from(["mean", "max"]))
        ops.append(Pool(f"p{level}", ops[-1].name, draw(st.integers(2, min(3, size))), how))
    return ops


def _from_x(conv):
    return Conv(conv.name, "x", conv.channels, conv.kernel, conv.stride, conv.padding, conv.bias)


def _agree(graph, seed, weigh, draw_items):
    graph = recogniser(graph, mean=seed % 101 - 70.5, std=seed % 41 + 0.5, temperature=seed % 7 + 0.3)
    weights, items = weigh(graph, seed), draw_items(graph, 2, seed)
    files = {name: row.write(graph, weights, {}, items) for name, row in FLOATS.items()}
    compare(files, items, run_reference(graph, weights, items)).require()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(graph=graphs(), seed=st.integers(0, 1 << 16))
def test_both_formats_compute_what_the_reference_computes(graph, seed, weigh, draw_items):
    _agree(graph, seed, weigh, draw_items)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graph=graphs(), seed=st.integers(0, 1 << 16))
def test_both_formats_compute_what_the_reference_computes_at_length(graph, seed, weigh, draw_items):
    _agree(graph, seed, weigh, draw_items)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(graph=graphs(), seed=st.integers(0, 1 << 16))
def test_the_reference_computes_what_torch_computes(graph, seed, weigh, draw_items, oracle):
    weights, items = weigh(graph, seed), draw_items(graph, 2, seed)
    np.testing.assert_allclose(run_reference(graph, weights, items), oracle(graph, weights, items), atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("name", students.STUDENTS)
def test_students_at_their_published_size(name, tmp_path, weigh, draw_items):
    graph = recogniser(students.build(name, 8), mean=-28, std=20, temperature=0.5)
    report = export_student(graph, weigh(graph), tmp_path, draw_items(graph, 2), {})
    assert all(row.max_log_difference < 5e-6 * max(1.0, report.largest_log) for row in report.rows)


def test_the_report_says_what_was_compared(exported):
    folder, _, items, report = exported
    assert json.loads((folder / "parity.json").read_text()) == report.to_json()
    assert ParityReport.from_json(report.to_json()) == report
    assert [(row.format, row.precision, row.runtime) for row in report.rows] == [
        ("onnx", "float32", "onnxruntime"),
        ("tflite", "float32", "litert"),
    ]
    for row in report.rows:
        assert row.bytes == (folder / FORMATS[row.name].file_name).stat().st_size
        assert row.passed
        assert row.max_log_difference < 1e-5
        assert row.max_probability_difference < 1e-5
        assert row.argmax_agreement == 1.0
        assert row.runtime_version
    assert report.items == len(items)


@pytest.mark.parametrize("name", FLOATS)
def test_one_changed_weight_is_seen(name, whole, exported):
    _, weights, items, _ = exported
    reference = run_reference(whole, weights, items)
    changed = {key: value.copy() for key, value in weights.items()}
    changed["conv2.weight"][1, 2, 0, 1] += 0.05
    data = FORMATS[name].write(whole, changed, {}, items)
    assert not compare({name: data}, items, reference).passed
    with pytest.raises(ParityError, match=f"the {name} file differs from its source by"):
        compare({name: data}, items, reference).require()


def test_a_weight_that_is_no_number_is_seen_and_reported_as_json(whole, exported):
    _, weights, items, _ = exported
    broken = weights["last.bias"].tobytes()
    data = FORMATS["onnx"].write(whole, weights, {}, items)
    assert data.count(broken) == 1
    nan = data.replace(broken, np.full(3, np.nan, dtype=np.float32).tobytes())
    report = compare({"onnx": nan}, items, run_reference(whole, weights, items))
    assert not report.passed
    assert json.loads(json.dumps(report.to_json(), allow_nan=False))["rows"][0]["max_log_difference"] is None
    assert ParityReport.from_json(report.to_json()) == report


def test_padding_on_the_wrong_side_is_seen(exported, whole, monkeypatch):
    _, weights, items, _ = exported
    monkeypatch.setattr(tflite, "pads_as_same", lambda op, source: True)
    data = FORMATS["tflite"].write(whole, weights, {}, items)
    assert not compare({"tflite": data}, items, run_reference(whole, weights, items)).passed


def test_a_forgotten_epsilon_is_seen(exported, whole, monkeypatch):
    _, weights, items, _ = exported
    monkeypatch.setattr("edgeser_export.graph.transform.NORM_EPSILON", 0.0)
    quiet = weights | {"norm1.running_var": np.full(4, 1e-2, dtype=np.float32)}
    data = FORMATS["onnx"].write(whole, quiet, {}, items)
    assert not compare({"onnx": data}, items, run_reference(whole, quiet, items)).passed


def test_a_failed_comparison_leaves_its_report(tmp_path, whole, exported, monkeypatch):
    _, weights, items, _ = exported
    monkeypatch.setattr(tflite, "pads_as_same", lambda op, source: True)
    with pytest.raises(ParityError, match="tflite"):
        export_student(whole, weights, tmp_path, items, {})
    report = json.loads((tmp_path / "parity.json").read_text())
    assert [row["passed"] for row in report["rows"]] == [True, False]


def test_a_file_for_other_sizes_is_seen(whole, exported):
    folder, weights, items, _ = exported
    reference = run_reference(whole, weights, items)
    with pytest.raises(ParityError, match="3 classes, not"):
        compare({"onnx": folder / "student.onnx"}, items, reference[:, :2])
    with pytest.raises(ExportError, match="cannot be compared"):
        compare({"onnx": folder / "student.onnx"}, items[:0], reference[:0])


@pytest.mark.parametrize("name", ["student.onnx", "student.tflite"])
def test_a_truncated_file_is_a_typed_error(name, exported, tmp_path):
    (tmp_path / name).write_bytes((exported[0] / name).read_bytes()[:900])
    with pytest.raises(ModelFileError, match="cannot read"):
        load(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"\xf1" * 40, b"\x00\x00\x00\x00TFL3" + b"\xff" * 40])
def test_a_file_of_anything_is_a_typed_error_without_a_print(content, capfd):
    with pytest.raises(ModelFileError, match="cannot read the model"):
        load(content)
    assert capfd.readouterr().out == ""


def test_loading(exported, whole, draw_items):
    folder, *_ = exported
    with pytest.raises(StorageError, match="no-such-file"):
        load(folder / "no-such-file")
    for name in ("student.onnx", "student.tflite"):
        model = load(folder / name, threads=1)
        assert (model.input_shape, model.classes) == ((2, 13, 18), 3)
        assert model(draw_items(whole, 0)).shape == (0, 3)
        for wrong in (draw_items(whole)[..., 1:], draw_items(whole).astype(np.float64)):
            with pytest.raises(ExportError, match="not float32"):
                model(wrong)


def test_a_model_of_somebody_else_is_refused(whole, exported):
    import onnx

    model = onnx.load(exported[0] / "student.onnx")
    model.graph.output.append(onnx.helper.make_tensor_value_info("last", onnx.TensorProto.FLOAT, None))
    with pytest.raises(ModelFileError, match=r"the outputs \['probabilities', 'last'\], not") as caught:
        load(model.SerializeToString())
    assert caught.value.hint == "only models that edgeser wrote can be loaded"


def test_runtimes_are_one_table(monkeypatch):
    assert all(row.name == name for name, row in RUNTIMES.items())
    assert choose_runtime("onnx").name == "onnxruntime"
    with pytest.raises(ExportError) as caught:
        choose_runtime("onnx", "onnxruntim")
    assert "did you mean 'onnxruntime'?" in caught.value.hint
    with pytest.raises(ExportError, match="does not run tflite files"):
        choose_runtime("tflite", "onnxruntime")
    monkeypatch.setattr("edgeser_export.runtimes.find_spec", lambda name: None)
    with pytest.raises(MissingRuntime, match="litert is not installed, which runs tflite files") as missing:
        choose_runtime("tflite")
    assert missing.value.hint == "install it with: pip install ai-edge-litert"
    with pytest.raises(MissingRuntime, match="litert is not installed"):
        choose_runtime("tflite", "litert")


def test_an_installed_runtime_that_cannot_be_imported(exported, monkeypatch):
    def broken(name):
        raise ImportError("numpy.core.multiarray failed to import")

    monkeypatch.setattr("edgeser_export.runtimes.import_module", broken)
    with pytest.raises(MissingRuntime, match=r"cannot be used: numpy\.core"):
        load(exported[0] / "student.tflite")


def test_formats_are_one_table():
    assert all(row.name == name for name, row in FORMATS.items())
    assert len({row.file_name for row in FORMATS.values()}) == len(FORMATS)
    with pytest.raises(ExportError) as caught:
        find_format("ONXX")
    assert caught.value.hint == "did you mean 'onnx'?"
    with pytest.raises(ExportError) as caught:
        find_format("coreml")
    assert caught.value.hint == "choose one of: onnx, tflite, onnx-int8, tflite-int8"


def test_a_child_writes_the_same_files(exported, whole, tmp_path):
    folder, weights, items, report = exported
    assert export_in_child(whole, weights, tmp_path, items, {"labels": "[]"}) == report
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parity.json", "student.onnx", "student.tflite"]
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (folder / path.name).read_bytes()


def test_errors_of_the_child_arrive(whole, exported, tmp_path):
    _, weights, items, _ = exported
    incomplete = {name: value for name, value in weights.items() if name != "last.bias"}
    with pytest.raises(GraphError, match=r"the weight 'last.bias' is missing"):
        export_in_child(whole, incomplete, tmp_path, items, {}, formats=["onnx"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("code", "stderr", "kind", "text"),
    [
        (1, 'INFO: x\n{"kind": "ParityError", "message": "m", "hint": "h"}\n', ParityError, "m"),
        (2, '{"kind": "SystemExit", "message": "m", "hint": "h"}', ExportError, "m"),
        (-4, "", ExportError, "SIGILL"),
        (-9, "INFO: x", ExportError, "SIGKILL"),
        (-99, "", ExportError, "signal 99"),
        (1, "Traceback\nValueError: oh", ExportError, "ValueError: oh"),
        (3, "7", ExportError, "7"),
        (3, "", ExportError, "exit code 3"),
    ],
)
def test_how_a_child_ended(code, stderr, kind, text):
    error = child_error("the export", code, stderr)
    assert type(error) is kind
    assert text in error.message
    assert error.hint


def test_a_child_that_hangs_is_ended(whole, exported, tmp_path):
    _, weights, items, _ = exported
    with pytest.raises(ExportError, match="did not end within"):
        export_in_child(whole, weights, tmp_path, items, {}, timeout=0.01)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(whole, exported, tmp_path):
    _, weights, items, _ = exported
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot export to"):
        export_in_child(whole, weights, tmp_path / "file" / "model", items, {})


def test_the_parent_imports_no_writer():
    code = (
        "import sys, edgeser_export.export;"
        "sys.exit(any(name in sys.modules for name in ('onnx', 'flatbuffers', 'onnxruntime', 'ai_edge_litert')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
