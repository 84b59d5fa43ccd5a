"""Importers: random weights under Whisper's usual names, and what is missing in a file."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save_file

from edgeser.encoders.whisper import NAMES, from_safetensors
from edgeser_device.errors import EncoderError
from edgeser_export.writers.onnx_encoder import encode_reference, whisper_graph

WIDTH, HIDDEN, MELS, TOKENS = 8, 12, 6, 10


def arrays(blocks=3, prefix="model.encoder."):
    draw = np.random.default_rng(0)
    shapes = {
        "conv1.weight": (WIDTH, MELS, 3),
        "conv1.bias": (WIDTH,),
        "conv2.weight": (WIDTH, WIDTH, 3),
        "conv2.bias": (WIDTH,),
        "embed_positions.weight": (20, WIDTH),
        "layer_norm.weight": (WIDTH,),
        "layer_norm.bias": (WIDTH,),
    }
    for block in range(blocks):
        for ours, theirs in NAMES.items():
            matrix = {"up": (HIDDEN, WIDTH), "down": (WIDTH, HIDDEN)}.get(ours, (WIDTH, WIDTH))
            shapes[f"layers.{block}.{theirs}.weight"] = (WIDTH,) if ours.startswith("norm") else matrix
            if ours != "key":
                shapes[f"layers.{block}.{theirs}.bias"] = matrix[:1]
    return {prefix + name: draw.normal(0, 0.3, shape).astype("f4") for name, shape in shapes.items()}


@pytest.mark.parametrize("prefix", ["model.encoder.", "encoder.", ""])
def test_the_usual_names_become_ours(tmp_path, prefix) -> None:
    save_file(
        {**arrays(prefix=prefix), "model.decoder.conv1.weight": np.zeros(3, "f4")}, tmp_path / "whisper.safetensors"
    )
    weights = from_safetensors(tmp_path / "whisper.safetensors", (1, 2), TOKENS)
    graph = whisper_graph(mels=MELS, frames=2 * TOKENS, width=WIDTH, heads=2, hidden=HIDDEN, taps=(1, 2))
    assert set(weights) == set(graph.parameters)
    graph.check(weights)
    assert not weights["block1.key.bias"].any()
    np.testing.assert_array_equal(
        weights["block2.tap.weight"], arrays()["model.encoder.layers.2.self_attn_layer_norm.weight"]
    )
    assert np.isfinite(encode_reference(graph, weights, np.ones((MELS, 8), "f4"))).all()


def test_the_last_block_is_read_through_the_last_normalisation(tmp_path) -> None:
    save_file(arrays(blocks=2), tmp_path / "whisper.safetensors")
    weights = from_safetensors(tmp_path / "whisper.safetensors", (2,), TOKENS)
    np.testing.assert_array_equal(weights["block2.tap.weight"], arrays(blocks=2)["model.encoder.layer_norm.weight"])


@pytest.mark.parametrize("missing", ["conv1.bias", "layers.0.fc1.weight", "layers.1.self_attn.q_proj.bias"])
def test_what_is_missing_is_named(tmp_path, missing) -> None:
    fewer = {name: value for name, value in arrays().items() if not name.endswith(missing)}
    save_file(fewer, tmp_path / "whisper.safetensors")
    with pytest.raises(EncoderError, match=missing.replace(".", r"\.")):
        from_safetensors(tmp_path / "whisper.safetensors", (1, 2), TOKENS)


def test_too_few_positions_are_said(tmp_path) -> None:
    save_file(arrays(), tmp_path / "whisper.safetensors")
    with pytest.raises(EncoderError, match="20 places"):
        from_safetensors(tmp_path / "whisper.safetensors", (1,), 21)


def test_a_file_that_is_no_safetensors_is_refused(tmp_path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"nonsense")
    with pytest.raises(EncoderError):
        from_safetensors(tmp_path / "x.safetensors", (1,), TOKENS)
