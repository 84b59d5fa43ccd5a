"""A tiny random encoder that tests write: Whisper's names, two blocks of eight channels, windows of three seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from edgeser.encoders.added import add
from edgeser.encoders.whisper import NAMES
from edgeser_device.encoder import EncoderCard

WIDTH, HIDDEN, MELS, TOKENS = 8, 12, 80, 150
SIZE = 4 * WIDTH
"""Mean and standard deviation of each channel, after each of two blocks."""


def arrays(blocks: int = 2, mels: int = MELS, places: int = TOKENS, prefix: str = "") -> dict[str, NDArray[np.float32]]:
    """Random weights by the names of Hugging Face's Whisper, float32."""
    draw = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {
        "conv1.weight": (WIDTH, mels, 3),
        "conv1.bias": (WIDTH,),
        "conv2.weight": (WIDTH, WIDTH, 3),
        "conv2.bias": (WIDTH,),
        "embed_positions.weight": (places, WIDTH),
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


def write_tiny(folder: Path, name: str = "tiny") -> Path:
    """A safetensors file and its card, which ``edgeser encoder add`` takes."""
    path = folder / f"{name}.safetensors"
    save_file(arrays(), path)
    sizes = f"width = {WIDTH}\nheads = 2\nhidden = {HIDDEN}\ntaps = [1, 2]\n"
    path.with_suffix(".toml").write_text(f'name = "{name}"\nlicence = "CC0-1.0"\n{sizes}')
    return path


def add_tiny(folder: Path, name: str = "tiny") -> EncoderCard:
    """The tiny encoder, kept on this machine."""
    return add(write_tiny(folder, name))
