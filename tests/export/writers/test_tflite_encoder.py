"""Encoders as TFLite and in eight bits: both runtimes against numpy, short windows, and what is read back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeser_export.graph.encoder_graph import encode_reference, joined, whisper_graph
from edgeser_export.graph.initial import initial_weights
from edgeser_export.graph.op_graph import BatchNorm, Conv, Graph, Linear, Pool, Reduce, Relu
from edgeser_export.graph.reference import run_reference
from edgeser_export.graph.transform import for_inference, recogniser
from edgeser_export.runtimes import load, load_windows
from edgeser_export.utilities.errors import GraphError, ModelFileError
from edgeser_export.writers.formats import FORMATS, read_encoder
from edgeser_export.writers.tflite_flatbuffer import read_tflite_metadata

SIZES = {"mels": 8, "frames": 24, "width": 12, "heads": 3, "hidden": 20, "taps": (1, 2)}
FLOATS = [row for row in FORMATS.values() if row.precision == "float32"]
INT8 = [row for row in FORMATS.values() if row.precision == "int8"]
SIZE = 48


@pytest.fixture(scope="module")
def graph():
    return whisper_graph(**SIZES)


@pytest.fixture(scope="module")
def weights(graph):
    draw = np.random.default_rng(3)
    return {
        name: (draw.normal(0, 0.3, shape) + ("norm" in name or "tap" in name) * name.endswith("weight")).astype("f4")
        for name, shape in graph.parameters.items()
    }


@pytest.fixture(scope="module")
def runs(graph, weights):
    return {row.name: load_windows(row.write_encoder(graph, weights, {"name": "tiny"})) for row in FORMATS.values()}


def window(tokens: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(SIZES["mels"], 2 * tokens)).astype("f4")


def padded(mel: np.ndarray) -> np.ndarray:
    return np.pad(mel, ((0, 0), (0, SIZES["frames"] - mel.shape[1])))


@settings(deadline=None, max_examples=20)
@given(tokens=st.integers(2, SIZES["frames"] // 2), seed=st.integers(0, 2**16))
def test_a_short_window_gives_what_it_gives_alone(graph, weights, runs, tokens, seed) -> None:
    mel = window(tokens, seed)
    alone = encode_reference(graph, weights, mel)
    for row in FLOATS:
        np.testing.assert_allclose(runs[row.name](padded(mel), tokens), alone, atol=2e-5)
    for row in INT8:
        found = runs[row.name](padded(mel), tokens)
        assert found @ alone > 0.995 * np.linalg.norm(found) * np.linalg.norm(alone)


@pytest.mark.parametrize("row", INT8, ids=lambda row: row.name)
def test_eight_bits_are_written_and_compute_nearly_the_same(graph, weights, runs, row) -> None:
    """Vectors differ, since eight bits are rounded, and little."""
    exact = np.stack([encode_reference(graph, weights, window(12, seed)) for seed in range(20)])
    found = np.stack([runs[row.name](window(12, seed), 12) for seed in range(20)])
    difference = np.abs(found - exact).max()
    assert 1e-5 < difference < 0.1 * np.abs(exact).max()


def test_eight_bits_are_a_quarter_of_the_bytes() -> None:
    graph = whisper_graph(**{**SIZES, "width": 96, "hidden": 384})
    weights = {name: np.full(shape, 0.1, "f4") for name, shape in graph.parameters.items()}
    sizes = {row.name: len(row.write_encoder(graph, weights, {})) for row in FORMATS.values()}
    assert sizes["onnx-int8"] < 0.35 * sizes["onnx"]
    assert sizes["tflite-int8"] < 0.35 * sizes["tflite"]


@pytest.mark.parametrize("row", FORMATS.values(), ids=lambda row: row.name)
def test_equal_arguments_give_equal_bytes(graph, weights, row) -> None:
    assert row.write_encoder(graph, weights, {"a": "b"}) == row.write_encoder(graph, weights, {"a": "b"})


def test_metadata_is_in_the_file(graph, weights) -> None:
    data = FORMATS["tflite"].write_encoder(graph, weights, {"folded": "softmax"})
    assert read_tflite_metadata(data) == {"folded": "softmax"}


def test_what_was_written_is_read_back(graph, weights) -> None:
    found, values = read_encoder(FORMATS["onnx"].write_encoder(graph, weights, {}))
    assert found == graph
    assert values.keys() == weights.keys()
    assert all(np.array_equal(values[name], weights[name]) for name in weights)


@pytest.mark.parametrize("data", [b"", b"nothing", FORMATS["onnx"].file_name.encode() * 99])
def test_another_file_is_not_read(data) -> None:
    with pytest.raises(GraphError, match="does not hold the weights"):
        read_encoder(data)


def test_an_encoder_is_no_student_and_a_student_no_encoder(graph, weights) -> None:
    for row in FLOATS:
        with pytest.raises(ModelFileError):
            load(row.write_encoder(graph, weights, {}))
    student = Graph((SIZE, 1, 1), (Reduce("flat", "x", (1, 2), "mean"), Linear("logits", "flat", 3)))
    whole, values = recogniser(student, 0, 1, 1), initial_weights(student, 0)
    for row in FLOATS:
        with pytest.raises(ModelFileError, match="'mel', 'tokens'"):
            load_windows(row.write(whole, values, {}, np.zeros((1, SIZE, 1, 1), "f4")))


HEADS = {
    "linear": (Reduce("flat", "x", (1, 2), "mean"), Linear("logits", "flat", 3)),
    "mlp": (
        Conv("hidden", "x", 5, 1, bias=False),
        BatchNorm("norm", "hidden"),
        Relu("relu", "norm"),
        Reduce("flat", "relu", (1, 2), "mean"),
        Linear("logits", "flat", 3),
    ),
}


@pytest.mark.parametrize("name", HEADS)
def test_a_head_behind_the_encoder_computes_the_same_probabilities(graph, weights, name) -> None:
    draw = np.random.default_rng(7)
    student = Graph((SIZE, 1, 1), HEADS[name])
    values = initial_weights(student, 1)
    whole = recogniser(student, 0, 1, 0.7)
    mean, factor = draw.normal(0, 50, SIZE).astype("f4"), 1 / draw.uniform(0.01, 3, SIZE)
    factor[3] = 0
    both, joint = joined(graph, weights, for_inference(whole, values), mean, factor)
    runs = [load_windows(row.write_encoder(both, joint, {})) for row in FLOATS]
    for tokens in (2, 5, 12):
        mel = window(tokens, tokens)
        vector = (encode_reference(graph, weights, mel) - mean) * factor / 300
        (wanted,) = run_reference(whole, values, vector.astype("f4")[None, :, None, None])
        scaled, small = joined(graph, weights, for_inference(whole, values), mean, factor / 300)
        for row, run in zip(FLOATS, runs, strict=True):
            found = load_windows(row.write_encoder(scaled, small, {}))(padded(mel), tokens)
            np.testing.assert_allclose(found, wanted, atol=1e-4)
            assert run(padded(mel), tokens).sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("shape", "ops"),
    [
        ((SIZE + 1, 1, 1), (Reduce("flat", "x", (1, 2), "mean"), Linear("logits", "flat", 3))),
        ((SIZE, 1, 1), (Pool("pool", "x", 1, "mean"), Reduce("flat", "pool", (1, 2), "mean"), Linear("l", "flat", 3))),
        ((SIZE, 1, 1), (Relu("relu", "x"), Reduce("flat", "relu", (1, 2), "mean"), Linear("l", "flat", 3))),
    ],
)
def test_a_head_that_cannot_follow_is_refused(graph, weights, shape, ops) -> None:
    student = Graph(shape, ops)
    head = for_inference(recogniser(student, 0, 1, 1), initial_weights(student, 0))
    with pytest.raises(GraphError):
        joined(graph, weights, head, np.zeros(SIZE, "f4"), np.ones(SIZE))
