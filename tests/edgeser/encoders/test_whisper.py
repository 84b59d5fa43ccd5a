"""Importers: random weights under Whisper's usual names, and what is missing in a file."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_encoder
from safetensors.numpy import save_file
from tiny_encoder import HIDDEN, WIDTH

from edgeser.encoders.whisper import from_safetensors
from edgeser_device.errors import EncoderError
from edgeser_export.graph.encoder_graph import encode_reference, whisper_graph

MELS, TOKENS = 6, 10


def arrays(blocks: int = 3, prefix: str = "model.encoder."):
    return tiny_encoder.arrays(blocks, MELS, 20, prefix)


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
