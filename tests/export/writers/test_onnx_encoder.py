"""Encoders as op graphs: numpy against torch, the written file against both, and padding that changes nothing."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from edgeser_export.graph.encoder_graph import VECTOR, encode_reference, whisper_graph
from edgeser_export.graph.op_graph import FILE_OPS, MEL, TOKENS
from edgeser_export.utilities.errors import GraphError
from edgeser_export.writers.onnx_encoder import write_encoder

SIZES = {"mels": 8, "frames": 24, "width": 12, "heads": 3, "hidden": 20, "taps": (1, 2)}
TOLERANCE = 2e-5
"""Float32 sums of two blocks, against float64."""


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
def session(graph, weights):
    return onnxruntime.InferenceSession(write_encoder(graph, weights), providers=["CPUExecutionProvider"])


def by_torch(weights, mel):
    """The encoder once more, in torch's own operations, for a window without padding."""
    w = {name: torch.from_numpy(value.astype("f8")) for name, value in weights.items()}
    x = torch.from_numpy(mel.astype("f8"))[None]
    x = functional.gelu(functional.conv1d(x, w["conv1.weight"], w["conv1.bias"], padding=1))
    x = functional.gelu(functional.conv1d(x, w["conv2.weight"], w["conv2.bias"], stride=2, padding=1)).mT
    x = x + w["position.weight"][: x.shape[1]]
    found = []
    width = SIZES["width"]

    def norm(name, y):
        return functional.layer_norm(y, (width,), w[f"{name}.weight"], w[f"{name}.bias"])

    def dense(name, y):
        return functional.linear(y, w[f"{name}.weight"], w[f"{name}.bias"])

    for block in ("block1", "block2"):
        y = norm(f"{block}.norm1", x)
        parts = [
            dense(f"{block}.{part}", y).unflatten(-1, (SIZES["heads"], -1)).transpose(1, 2)
            for part in ("query", "key", "value")
        ]
        y = functional.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
        x = x + dense(f"{block}.out", y)
        x = x + dense(f"{block}.down", functional.gelu(dense(f"{block}.up", norm(f"{block}.norm2", x))))
        y = norm(f"{block}.tap", x)
        found += [y.mean(1), y.std(1)]
    return torch.cat(found, 1)[0].numpy()


def padded(mel, frames=SIZES["frames"]):
    return np.pad(mel, ((0, 0), (0, frames - mel.shape[1])))


@settings(deadline=None, max_examples=20)
@given(tokens=st.integers(2, SIZES["frames"] // 2), seed=st.integers(0, 2**16))
def test_a_short_window_gives_what_it_gives_alone(graph, weights, session, tokens, seed) -> None:
    mel = np.random.default_rng(seed).normal(size=(SIZES["mels"], 2 * tokens)).astype("f4")
    alone = by_torch(weights, mel)
    np.testing.assert_allclose(encode_reference(graph, weights, mel), alone, atol=1e-9)
    feeds = {MEL: padded(mel)[None], TOKENS: np.array([tokens], dtype=np.int64)}
    (found,) = session.run([VECTOR], feeds)
    np.testing.assert_allclose(found[0], alone, atol=TOLERANCE)


def test_windows_of_a_batch_do_not_touch_each_other(session) -> None:
    draw = np.random.default_rng(1)
    mels = [draw.normal(size=(SIZES["mels"], 2 * tokens)).astype("f4") for tokens in (3, 12, 7)]
    tokens = np.array([mel.shape[1] // 2 for mel in mels])
    (together,) = session.run([VECTOR], {MEL: np.stack([padded(mel) for mel in mels]), TOKENS: tokens})
    for row, mel, count in zip(together, mels, tokens, strict=True):
        (alone,) = session.run([VECTOR], {MEL: padded(mel)[None], TOKENS: np.array([count])})
        np.testing.assert_allclose(row, alone[0], atol=1e-6)


def test_equal_arguments_give_equal_bytes_that_onnx_accepts(graph, weights) -> None:
    data = write_encoder(graph, weights, {"name": "tiny"})
    assert data == write_encoder(graph, weights, {"name": "tiny"})
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)


def test_multiply_accumulates_are_those_counted_by_hand(graph) -> None:
    tokens, width, hidden = 12, 12, 20
    convolutions = 24 * width * 8 * 3 + tokens * width * width * 3
    block = 4 * tokens * width * width + 2 * tokens * tokens * width + 2 * tokens * width * hidden
    assert graph.multiply_accumulates == convolutions + 2 * block


def test_one_tap_is_the_output_itself() -> None:
    graph = whisper_graph(**{**SIZES, "taps": (1,)})
    assert graph.shapes[graph.output] == (24,)
    assert type(graph).from_json(graph.to_json(), FILE_OPS) == graph


@pytest.mark.parametrize("change", [{"frames": 23}, {"taps": ()}, {"taps": (2, 1)}, {"taps": (0,)}, {"heads": 5}])
def test_sizes_that_do_not_fit_are_refused(change) -> None:
    with pytest.raises(GraphError):
        whisper_graph(**{**SIZES, **change})


def test_a_missing_weight_is_named(graph, weights) -> None:
    fewer = {name: value for name, value in weights.items() if name != "block2.up.bias"}
    with pytest.raises(GraphError, match=r"block2\.up\.bias"):
        write_encoder(graph, fewer)
