"""Eight bits: both formats compute what their common plan says, and that is near to what was trained."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeser.models import students
from edgeser_export.export import INT8_FORMATS, export_in_child, export_student
from edgeser_export.graph.op_graph import INPUT, Conv, Graph, Linear, Reduce, sources
from edgeser_export.graph.reference import compute, run_reference, softmax
from edgeser_export.graph.transform import for_inference, merged_relus, recogniser
from edgeser_export.runtimes import load
from edgeser_export.utilities.errors import ExportError
from edgeser_export.writers.formats import FORMATS, find_format, format_of
from edgeser_export.writers.rounding import (
    HIGHEST,
    LOWEST,
    Affine,
    affine,
    is_wide,
    joined_ranges,
    keeps_scale,
    measured_ranges,
    plan_int8,
    wide_affine,
)
from edgeser_export.writers.tflite_files import read_tflite_metadata

ROUNDING = 0.02
"""Of the largest logit: how far a runtime's rounding of ties may lead away from the plan's, over all layers."""
INT8 = [row for row in FORMATS.values() if row.precision == "int8"]


def run_int8(inference, plan, items):
    """The oracle: what a file of a plan gives, float64 (items, classes), exact between tensors that are rounded."""
    graph = inference.graph
    wide = {}
    for name, parts in plan.parameters.items():
        shape = (-1, *[1] * (parts.weight.ndim - 1))
        wide[f"{name}.weight"] = np.multiply(parts.weight, parts.scales.reshape(shape), dtype=np.float64)
        wide[f"{name}.bias"] = np.multiply(parts.bias, parts.bias_scales, dtype=np.float64)
    found = np.empty((len(items), inference.classes))
    for row, item in zip(found, items, strict=True):
        tensors = {INPUT: plan.rounded(INPUT, item)}
        for op in graph.ops:
            plain = replace(op, bias=True) if isinstance(op, Conv | Linear) else op
            value = compute(plain, [tensors[source] for source in sources(op)], wide)
            tensors[op.name] = plan.rounded(op.name, value)
        row[...] = tensors[graph.output]
    return found


@pytest.mark.parametrize("row", INT8, ids=lambda row: row.name)
@pytest.mark.parametrize("name", students.STUDENTS)
def test_the_runtimes_compute_what_the_plan_says(name, row, weigh, draw_items):
    graph = students.build(name, 6, 0.25, (1, 32, 32))
    weights, items = weigh(graph), draw_items(graph, 6)
    inference = for_inference(graph, weights)
    plan = plan_int8(inference, items)
    found = load(row.write(graph, weights, {}, items))(items)
    expected = run_int8(inference, plan, items)
    assert np.abs(found - expected).max() <= ROUNDING * np.abs(expected).max()
    reference = run_reference(graph, weights, items)
    assert np.abs(found - reference).max() < row.bound * np.abs(reference).max()


@pytest.mark.parametrize("row", INT8, ids=lambda row: row.name)
def test_every_operation(row, whole, weigh, draw_items):
    weights, items = weigh(whole), draw_items(whole, 8)
    inference = for_inference(whole, weights)
    plan = plan_int8(inference, items)
    expected = run_int8(inference, plan, items)
    np.testing.assert_allclose(expected.sum(axis=1), 1, atol=1e-12)
    found = load(row.write(whole, weights, {}, items))(items)
    assert np.abs(found - expected).max() <= ROUNDING


@pytest.mark.parametrize("row", INT8, ids=lambda row: row.name)
def test_loud_maps_and_large_weights_are_added_up_whole(row):
    """Every product of a convolution as large as eight bits allow: kernels must not cut off what two of them add up to.

    Processors without VNNI add pairs of products in sixteen bits.
    """
    graph = Graph((1, 8, 8), (Conv("c", "x", 4, 3), Reduce("mean", "c", (1, 2), "mean"), Linear("out", "mean", 4)))
    ones = {name: np.ones(shape, np.float32) for name, shape in graph.parameters.items()}
    items = np.linspace(0.9, 1, 8 * 64, dtype=np.float32).reshape(8, 1, 8, 8)
    reference = run_reference(graph, ones, items)
    found = load(row.write(graph, ones, {}, items))(items)
    np.testing.assert_allclose(found, reference, rtol=0.01)


@given(
    levels=st.tuples(st.floats(-80, 20), st.floats(3, 40)),
    temperature=st.floats(0.2, 5),
    seed=st.integers(0, 1 << 16),
)
@settings(max_examples=15)
def test_rounding_does_not_hang_on_the_levels(levels, temperature, seed, small, weigh, draw_items):
    """Wherever the levels lie, what eight bits cost is the same: they are rounded after the normalisation."""
    mean, std = levels
    weights, plain = weigh(small, seed), draw_items(small, 6, seed)
    graph, items = recogniser(small, mean, std, temperature), plain * np.float32(std) + np.float32(mean)
    one, two = (plan_int8(for_inference(each, weights), x) for each, x in ((small, plain), (graph, items)))
    assert two.activations["normalised"].scale == pytest.approx(one.activations["x"].scale, rel=1e-3)
    assert set(two.activations) == {"normalised", *one.activations} - {"x"}
    logits, reference = run_int8(for_inference(small, weights), one, plain), run_reference(graph, weights, items)
    error = np.abs(softmax(logits / temperature) - reference).max()
    assert (
        np.abs(run_int8(for_inference(graph, weights), two, items) - reference).max() <= error + ROUNDING / temperature
    )


@given(st.floats(-1e4, 1e4), st.floats(0, 1e4))
def test_a_range_and_zero_fit(lowest, width):
    how = affine(lowest, lowest + width)
    assert how.rounded(np.zeros(1))[0] == 0
    assert LOWEST <= how.zero <= HIGHEST
    edges = np.array([min(lowest, 0.0), max(lowest + width, 0.0)])
    assert np.abs(how.rounded(edges) - edges).max() <= 1.001 * float(how.scale)


def test_rounding_clips_and_rounds():
    how = Affine(np.float32(0.5), 0)
    assert how.rounded(np.array([0.26, -0.26, 0.24, 1e9, -1e9])).tolist() == [0.5, -0.5, 0.0, 63.5, -64.0]


def test_scales_do_not_hang_on_last_bits():
    one, two = affine(-1.0, 3.0), affine(-1.0, float(np.nextafter(np.float32(3.0), np.float32(2.0))))
    assert one == two


def test_tensors_that_are_only_moved_share_a_scale(small, weigh, draw_items):
    inference = for_inference(small, weigh(small))
    plan = plan_int8(inference, draw_items(small, 4))
    checked = 0
    for op in inference.graph.ops:
        if keeps_scale(op):
            for source in op.sources if hasattr(op, "sources") else (op.source,):
                assert plan.activations[source] == plan.activations[op.name]
                checked += 1
    assert checked >= 5
    assert not set(merged_relus(inference.graph)) & set(plan.activations)


def test_joined_ranges_span_all(small, weigh, draw_items):
    graph = for_inference(small, weigh(small)).graph
    ranges = {name: (-float(index), float(index)) for index, name in enumerate(["x", *(op.name for op in graph.ops)])}
    joined = joined_ranges(graph, ranges)
    for name, (low, high) in joined.items():
        assert low <= ranges[name][0]
        assert high >= ranges[name][1]


def test_weights_use_their_whole_range(small, weigh, draw_items):
    inference = for_inference(small, weigh(small))
    plan = plan_int8(inference, draw_items(small, 4))
    convolution, dense = plan.parameters["conv2"], plan.parameters["hidden"]
    largest = np.abs(convolution.weight.astype(int)).max(axis=(1, 2, 3))
    assert (largest > 55).all()
    assert (largest <= 64).all()
    assert convolution.scales.shape == (4,)
    assert np.abs(dense.weight.astype(int)).max() > 110
    assert dense.scales.shape == (1,)
    assert dense.bias.dtype == np.int32


def test_maps_have_eight_bits_and_the_rest_sixteen(small, weigh, draw_items):
    inference = for_inference(small, weigh(small))
    plan = plan_int8(inference, draw_items(small, 4))
    bits = {name: how.bits for name, how in plan.activations.items()}
    assert {bits[name] for name in ("x", "pool1", "sum", "pool2")} == {8}
    assert {bits[name] for name in ("frequency", "mean", "max", "features", "last")} == {16}
    assert all((how.bits == 16) == is_wide(inference.graph.shapes[name]) for name, how in plan.activations.items())


def test_sixteen_bits_hold_what_eight_hold_exactly():
    how = affine(-1.0, 3.0)
    values = how.rounded(np.linspace(-2, 4, 100))
    assert (how.widened.rounded(values) == values).all()
    wide = wide_affine(-1.0, 3.0)
    assert wide.rounded(np.array([5.9, -5.9])) == pytest.approx([5.9, -5.9], abs=2e-4)


@pytest.mark.parametrize("row", INT8, ids=lambda row: row.name)
def test_the_mean_of_each_logit_is_the_students(row, weigh, draw_items):
    graph = students.build("edgenet", 6, 1.0, (1, 32, 32))
    weights, items = weigh(graph), draw_items(graph, 32)
    reference = run_reference(graph, weights, items)
    found = load(row.write(graph, weights, {}, items))(items)
    missing = np.abs((reference - found).mean(axis=0)).max()
    assert missing < 0.1 * np.abs(reference - found).max()
    assert missing < 2e-3 * np.abs(reference).max()


def test_ranges_and_logits_are_measured(small, weigh, draw_items):
    weights, items = weigh(small), draw_items(small, 20)
    ranges, logits = measured_ranges(for_inference(small, weights), items)
    assert ranges["x"] == (items.min(), items.max())
    np.testing.assert_allclose(logits, run_reference(small, weights, items), atol=1e-4)
    assert ranges["last"] == (logits.min(), logits.max())


def test_nothing_to_calibrate_on(small, weigh):
    with pytest.raises(ExportError, match="nothing to calibrate"):
        find_format("onnx-int8").write(small, weigh(small), {}, np.zeros((0, *small.input_shape), np.float32))


def test_other_programs_find_the_same_inputs_outputs_and_metadata(small, weigh, draw_items):
    about = {"labels": "a,b,c", "frontend": "{}"}
    data = {row.kind: row.write(small, weigh(small), about, draw_items(small)) for row in INT8}
    model = onnx.load_from_string(data["onnx"])
    assert {entry.key: entry.value for entry in model.metadata_props} == about
    assert read_tflite_metadata(data["tflite"]) == about
    assert load(data["tflite"]).input_shape == load(data["onnx"]).input_shape == small.input_shape


def test_a_file_is_a_third_of_the_float_one(weigh, draw_items):
    graph = students.build("edgenet", 8)
    weights, items = weigh(graph), draw_items(graph)
    sizes = {name: len(row.write(graph, weights, {}, items)) for name, row in FORMATS.items()}
    assert sizes["tflite-int8"] <= 40_000
    assert sizes["onnx-int8"] < sizes["onnx"] / 2.5


def test_rows_by_kind_and_precision():
    assert format_of("tflite", "int8").name == "tflite-int8"
    assert format_of("onnx", "float32").name == "onnx"
    with pytest.raises(ExportError, match="no format 'coreml'"):
        format_of("coreml", "int8")


def test_a_child_calibrates_on_what_it_is_given(whole, weigh, draw_items, tmp_path):
    weights, items, seen = weigh(whole), draw_items(whole, 4), draw_items(whole, 20, seed=9)
    export_in_child(whole, weights, tmp_path, items, {}, INT8_FORMATS, calibration=seen)
    for name in INT8_FORMATS:
        row = find_format(name)
        assert (tmp_path / row.file_name).read_bytes() == row.write(whole, weights, {}, seen)


def test_an_optional_file_that_fails_is_left_out(whole, weigh, draw_items, tmp_path):
    """Calibrated on silence, loud items clip: the float file is kept, the others are not."""
    weights, silence = weigh(whole), np.full((2, *whole.input_shape), -31.7, np.float32)
    items = 30 * (draw_items(whole, 4) + np.float32(31.7)) - np.float32(31.7)
    formats = ("onnx", *INT8_FORMATS)
    report = export_student(whole, weights, tmp_path, items, {}, formats, calibration=silence, optional=INT8_FORMATS)
    assert not report.passed
    assert {path.name for path in tmp_path.iterdir()} == {"student.onnx", "parity.json"}
    rows = json.loads((tmp_path / "parity.json").read_text())["rows"]
    assert [(row["format"], row["precision"], row["passed"]) for row in rows] == [
        ("onnx", "float32", True),
        ("onnx", "int8", False),
        ("tflite", "int8", False),
    ]
