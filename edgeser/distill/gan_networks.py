"""The networks of the generative distiller in torch, pure functions of weights and input.

    items = generate(shape, weights, z, labels)         # (batch, mels, frames)
    mean, spread = encode(weights, x)                   # of the random numbers that would have made x
    scores = criticise(weights, features, labels)

What the generator is stands in :mod:`edgeser_export.generator`, which writes it for the board.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from math import prod, sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from edgeser.network import Tensors
from edgeser.training import Arrays
from edgeser_export.generator import EPSILON, SLOPE, GeneratorShape

ENCODER_CHANNELS = (16, 32, 48, 64)
CRITIC_WIDTHS = (128, 64)
LOWEST_SPREAD, HIGHEST_SPREAD = -8.0, 4.0
"""Bounds of the logarithm of a latent number's variance, so that its exponential is finite."""


def generate(shape: GeneratorShape, weights: Tensors, z: Tensor, labels: Tensor) -> Tensor:
    """Items, float32 (batch, mels, frames).

    Args:
        shape: Sizes.
        weights: By the names in ``shape.weights``.
        z: Standard normal, float32 (batch, latent).
        labels: One-hot, float32 (batch, classes).
    """
    x = functional.linear(torch.cat([z, labels], 1), weights["dense.weight"], weights["dense.bias"])
    x = _styled(x.view(-1, *shape.first_map), weights, labels, 0)
    for number in range(1, len(shape.channels)):
        x = functional.interpolate(x, scale_factor=2, mode="nearest")
        x = functional.conv2d(x, weights[f"conv{number}.weight"], weights[f"conv{number}.bias"], padding=1)
        x = _styled(x, weights, labels, number)
    x = functional.conv2d(x, weights["last.weight"], weights["last.bias"], padding=1)
    return functional.pixel_shuffle(x, 2)[:, 0]


def _styled(x: Tensor, weights: Tensors, labels: Tensor, number: int) -> Tensor:
    x = functional.leaky_relu(x, SLOPE)
    x = x * torch.rsqrt(x.square().mean(1, keepdim=True) + EPSILON)
    scale, shift = (labels @ weights[f"{part}{number}.weight"].T for part in ("scale", "shift"))
    return x * (1 + scale[:, :, None, None]) + shift[:, :, None, None]


def encoder_shapes(shape: GeneratorShape) -> dict[str, tuple[int, ...]]:
    """Shapes of the encoder's weights."""
    channels = (1, *ENCODER_CHANNELS)
    shapes: dict[str, tuple[int, ...]] = {}
    for number, (before, after) in enumerate(pairwise(channels)):
        shapes |= {f"conv{number}.weight": (after, before, 4, 4), f"conv{number}.bias": (after,)}
    factor = 2 ** len(ENCODER_CHANNELS)
    flat = channels[-1] * (shape.height // factor) * (shape.width // factor)
    return shapes | {"dense.weight": (2 * shape.latent, flat), "dense.bias": (2 * shape.latent,)}


def encode(weights: Tensors, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and logarithm of the variance of the latent numbers of ``x`` (batch, 1, mels, frames)."""
    for number in range(len(ENCODER_CHANNELS)):
        x = functional.conv2d(x, weights[f"conv{number}.weight"], weights[f"conv{number}.bias"], stride=2, padding=1)
        x = functional.leaky_relu(x, SLOPE)
    both = functional.linear(x.flatten(1), weights["dense.weight"], weights["dense.bias"])
    mean, spread = both.chunk(2, 1)
    return mean, spread.clamp(LOWEST_SPREAD, HIGHEST_SPREAD)


def critic_shapes(features: int, classes: int) -> dict[str, tuple[int, ...]]:
    """Shapes of a critic's weights."""
    widths = (features, *CRITIC_WIDTHS)
    shapes: dict[str, tuple[int, ...]] = {}
    for number, (before, after) in enumerate(pairwise(widths)):
        shapes |= {f"dense{number}.weight": (after, before), f"dense{number}.bias": (after,)}
    return shapes | {"score.weight": (1, widths[-1]), "class.weight": (classes, widths[-1])}


def criticise(weights: Tensors, features: Tensor, labels: Tensor) -> Tensor:
    """Scores (batch,), high for what looks real and of its class: a projection critic (arXiv 1802.05637)."""
    x = features
    for number in range(len(CRITIC_WIDTHS)):
        x = functional.linear(x, weights[f"dense{number}.weight"], weights[f"dense{number}.bias"])
        x = functional.leaky_relu(x, SLOPE)
    return (x @ weights["score.weight"].T)[:, 0] + (x * (labels @ weights["class.weight"])).sum(1)


def initial(shapes: Mapping[str, tuple[int, ...]], random: np.random.Generator) -> Arrays:
    """Weights before training: normal with variance 2 / fan in; biases and the numbers of the classes are zero."""
    weights: Arrays = {}
    for name, shape in shapes.items():
        zero = len(shape) == 1 or name.startswith(("scale", "shift", "class"))
        spread = 0.0 if zero else sqrt(2 / prod(shape[1:]))
        weights[name] = (spread * random.standard_normal(shape)).astype(np.float32)
    return weights


def one_hot(numbers: NDArray[np.integer], classes: int) -> Tensor:
    """Labels of single classes, float32 (batch, classes)."""
    return torch.from_numpy(np.eye(classes, dtype=np.float32)[numbers])
