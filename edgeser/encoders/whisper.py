"""Importers of Whisper's encoder: files of others to the weights of our op graph.

The graph is :func:`edgeser_export.writers.onnx_encoder.whisper_graph`.

    weights = from_smart_turn(path, taps=(1, 2), tokens=150)     # int8 ONNX of Smart Turn v3.2
    weights = from_safetensors(path, taps=(2,), tokens=150)      # the usual names of openai/whisper-*

Both give float32 arrays by the names of the op graph. Matrices are (out, in). Values of int8 files are multiplied out
by their own scales.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeser_device.errors import EncoderError

Arrays = dict[str, NDArray[np.float32]]
PARTS = ("query", "key", "value", "out", "up", "down")
"""The matrices of a block in our names, in the order in which a block computes them."""
NAMES: Mapping[str, str] = {
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "out": "self_attn.out_proj",
    "up": "fc1",
    "down": "fc2",
    "norm1": "self_attn_layer_norm",
    "norm2": "final_layer_norm",
}
"""Our names and those of Hugging Face's Whisper."""


def from_smart_turn(path: Path, taps: Sequence[int], tokens: int) -> Arrays:
    """The weights in Smart Turn's int8 ONNX file, whose matrices are named by number in the order of the computation.

    Args:
        path: The file; its sha256 was checked before.
        taps: Blocks after which vectors are taken, from 1.
        tokens: Tokens of a window; as many positions are kept.

    Raises:
        EncoderError: The file is not the one that this importer knows.
    """
    import onnx
    from onnx import numpy_helper

    try:
        initializers = onnx.load(path, load_external_data=False).graph.initializer
        found = {each.name: numpy_helper.to_array(each) for each in initializers}
        numbered = sorted(int(name[4:-10]) for name in found if re.fullmatch(r"val_\d+_quantized", name))
        prefix = "inner.encoder."
        wide: dict[str, NDArray[np.float32]] = {
            f"{name}.{part}": _dequantised(found, f"{prefix}{name}.{part}", axis=0)
            for name in ("conv1", "conv2")
            for part in ("weight", "bias")
        }
        wide["embed_positions.weight"] = found[f"{prefix}embed_positions.weight"]
        for place, number in enumerate(numbered[: len(PARTS) * max(taps)]):
            block, part = divmod(place, len(PARTS))
            name = f"layers.{block}.{NAMES[PARTS[part]]}.weight"
            wide[name] = _dequantised(found, f"val_{number}", axis=1).T
        wide |= {
            name.removeprefix(prefix): value for name, value in found.items() if name.startswith(f"{prefix}layers.")
        }
        return named_ours(wide, taps, tokens)
    except (KeyError, ValueError, IndexError) as error:
        raise EncoderError(f"{path} is not the encoder that it should be: {error}", "fetch it again") from error


def _dequantised(found: Mapping[str, NDArray[np.generic]], name: str, axis: int) -> NDArray[np.float32]:
    stored = found.get(f"{name}_quantized")
    if stored is None:
        raise KeyError(name)
    scale = found.get(f"{name}_scale", found.get(f"{name}_quantized_scale"))
    zero = found.get(f"{name}_zero_point", found.get(f"{name}_quantized_zero_point"))
    if scale is None or zero is None:
        raise KeyError(f"{name}_scale")
    shape = [1] * stored.ndim
    shape[axis if stored.ndim > 1 else 0] = -1
    centred = stored.astype(np.float32) - zero.astype(np.float32).reshape(shape)
    return np.asarray(centred * scale.astype(np.float32).reshape(shape), dtype=np.float32)


def from_safetensors(path: Path, taps: Sequence[int], tokens: int) -> Arrays:
    """The weights in a safetensors file of Whisper, with Hugging Face's names with or without ``model.encoder.``.

    Args:
        path: The file.
        taps: Blocks after which vectors are taken, from 1.
        tokens: Tokens of a window; as many positions are kept.

    Raises:
        EncoderError: It cannot be read, or lacks an array.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise EncoderError(f"{path} cannot be read: {error}", "give a safetensors file of Whisper") from error
    pattern = re.compile(r"^(?:model\.)?(?:encoder\.)?")
    wide = {pattern.sub("", name): value.astype(np.float32) for name, value in found.items() if "decoder" not in name}
    try:
        return named_ours(wide, taps, tokens)
    except KeyError as error:
        raise EncoderError(f"{path} lacks the array {error}", "give a safetensors file of Whisper") from error


def named_ours(wide: Mapping[str, NDArray[np.float32]], taps: Sequence[int], tokens: int) -> Arrays:
    """Arrays by Hugging Face's names (of the encoder alone) as arrays by the names of our op graph.

    Raises:
        KeyError: One is missing.
    """
    ours = {f"{name}.{part}": wide[f"{name}.{part}"] for name in ("conv1", "conv2") for part in ("weight", "bias")}
    positions = wide["embed_positions.weight"]
    if len(positions) < tokens:
        raise KeyError(f"embed_positions.weight has {len(positions)} places, fewer than {tokens}")
    ours["position.weight"] = positions[:tokens]
    for block in range(max(taps)):
        for name, theirs in NAMES.items():
            place = f"layers.{block}.{theirs}"
            ours[f"block{block + 1}.{name}.weight"] = wide[f"{place}.weight"]
            # Whisper's keys have no bias.
            nothing = np.zeros(len(wide[f"{place}.weight"]), np.float32) if name == "key" else None
            bias = wide.get(f"{place}.bias", nothing)
            if bias is None:
                raise KeyError(f"{place}.bias")
            ours[f"block{block + 1}.{name}.bias"] = bias
        if block + 1 in taps:
            norm = f"layers.{block + 1}.self_attn_layer_norm"
            last = "layer_norm" if f"{norm}.weight" not in wide else norm
            for part in ("weight", "bias"):
                ours[f"block{block + 1}.tap.{part}"] = wide[f"{last}.{part}"]
    return {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in ours.items()}
