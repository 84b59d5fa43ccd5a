"""The networks of the generative distiller in torch, pure functions of weights and input.

    items = generate(shape, weights, z, labels)         # (batch, mels, frames)
    items = decode(shape, weights, weights[CODEBOOK])    # what each basis alone makes
    scores = criticise(weights, features, labels)

What the generator is stands in :mod:`edgeser_export.writers.onnx_generator`, which writes it for the board.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod, sqrt
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from edgeser.models.network import Norm, Tensors, forward, running_norm
from edgeser.models.training import Arrays
from edgeser_export.graph.op_graph import NORM_EPSILON, Graph, Linear
from edgeser_export.writers.onnx_generator import CODEBOOK, EPSILON, SLOPE, GeneratorShape

CRITIC_WIDTHS = (128, 64)
BASIS = 0.5
"""Standard deviation of the numbers of a basis before training."""


@dataclass(frozen=True)
class VectorShape:
    """Sizes of a generator of vectors.

    Attributes:
        latent: Random numbers for one vector.
        classes: Number of classes.
        size: Numbers of a vector.
        hidden: The width of the layer between.
    """

    latent: int
    classes: int
    size: int
    hidden: int = 64

    @property
    def weights(self) -> dict[str, tuple[int, ...]]:
        """Shapes of all weights by name."""
        return {
            "middle": (self.classes, self.size),
            "spread": (self.latent, self.size),
            "dense.weight": (self.hidden, self.classes + self.latent),
            "dense.bias": (self.hidden,),
            "last.weight": (self.size, self.hidden),
        }


def generate(shape: GeneratorShape | VectorShape, weights: Tensors, z: Tensor, labels: Tensor) -> Tensor:
    """Items, float32 (batch, rows, columns).

    Args:
        shape: Sizes.
        weights: By the names in ``shape.weights``.
        z: Standard normal, float32 (batch, latent).
        labels: One-hot, float32 (batch, classes).
    """
    if isinstance(shape, VectorShape):
        return generate_vectors(weights, z, labels)
    shares = functional.softmax(shape.inverse_temperature * z, dim=1)
    chosen = (labels[:, :, None] * shares[:, None, :]).flatten(1)
    return decode(shape, weights, chosen @ weights[CODEBOOK])


def generate_vectors(weights: Tensors, z: Tensor, labels: Tensor) -> Tensor:
    """Vectors, (batch, size, 1): a Gaussian of each class, bent by a small network."""
    bent = _rectified(functional.linear(torch.cat([labels, z], 1), weights["dense.weight"], weights["dense.bias"]))
    x = labels @ weights["middle"] + z @ weights["spread"] + functional.linear(bent, weights["last.weight"])
    return x[:, :, None]


def decode(shape: GeneratorShape, weights: Tensors, sums: Tensor) -> Tensor:
    """Log-mels of sums of bases (batch, numbers), float32 (batch, mels, frames).

    They are patches and detail, see :mod:`edgeser_export.writers.onnx_generator`.
    """
    x = sums.view(-1, *shape.first_map)
    coarse = functional.conv2d(x, weights["patches.weight"], weights["patches.bias"])
    coarse = functional.pixel_shuffle(coarse, 2 ** len(shape.channels))
    for number in range(1, len(shape.channels)):
        x = functional.interpolate(x, scale_factor=2, mode="nearest")
        x = functional.conv2d(x, weights[f"conv{number}.weight"], weights[f"conv{number}.bias"], padding=1)
        x = _rectified(x)
    x = functional.conv2d(x, weights["last.weight"], weights["last.bias"], padding=1)
    return (coarse + functional.pixel_shuffle(x, 2))[:, 0]


def _rectified(x: Tensor) -> Tensor:
    x = functional.leaky_relu(x, SLOPE)
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + EPSILON)


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
    """Weights before training: normal with variance 2 / fan in, the bases' ``BASIS`` squared; biases are zero."""
    weights: Arrays = {}
    for name, shape in shapes.items():
        zero = len(shape) == 1 or name.startswith("class")
        spread = 0.0 if zero else BASIS if name == CODEBOOK else sqrt(2 / prod(shape[1:]))
        weights[name] = (spread * random.standard_normal(shape)).astype(np.float32)
    return weights


def fitted(shape: GeneratorShape, wanted: NDArray[np.float32]) -> Arrays:
    """Bases and patches that come nearest to ``wanted`` (bases, mels, frames) without any detail.

    The principal components of its patches, as many as a basis has channels, each of the spread ``BASIS`` in the bases.
    """
    channels, rows, columns = shape.first_map
    side = 2 ** len(shape.channels)
    cut = wanted.astype(np.float64).reshape(-1, rows, side, columns, side).transpose(0, 1, 3, 2, 4)
    flat = cut.reshape(-1, side * side)
    middle = flat.mean(0)
    _, _, components = np.linalg.svd(flat - middle, full_matrices=False)
    found = (flat - middle) @ components[:channels].T
    unit = np.maximum(found.std(0), 1e-6) / BASIS
    maps = (found / unit).reshape(len(wanted), rows, columns, channels).transpose(0, 3, 1, 2)
    patches = (components[:channels] * unit[:, None]).T
    return {
        CODEBOOK: np.ascontiguousarray(maps.reshape(len(wanted), -1), dtype=np.float32),
        "patches.weight": np.ascontiguousarray(patches[:, :, None, None], dtype=np.float32),
        "patches.bias": middle.astype(np.float32),
        "last.weight": np.zeros(shape.weights["last.weight"], dtype=np.float32),
    }


def one_hot(numbers: NDArray[np.integer], classes: int) -> Tensor:
    """Labels of single classes, float32 (batch, classes)."""
    return torch.from_numpy(np.eye(classes, dtype=np.float32)[numbers])


SPREAD = 1e-3
"""Least standard deviation of a feature, and least distance of two items."""


class Look(NamedTuple):
    """The answers of an expert to a batch.

    Attributes:
        features: float32 (batch, features).
        logits: float32 (batch, classes).
    """

    features: Tensor
    logits: Tensor


def look(graph: Graph, weights: Tensors, x: Tensor) -> Look:
    """Projected features and logits of ``x`` (batch, 1, mels, frames), the expert in inference."""
    seen = list(texture(x[:, 0])) if x.shape[3] > 1 else [x[:, :, 0, 0]]
    last = next(op for op in reversed(graph.ops) if isinstance(op, Linear))
    features = forward(graph, weights, x, _noting(weights, seen), last.source)
    logits = functional.linear(features, weights[f"{last.name}.weight"], weights[f"{last.name}.bias"])
    return Look(torch.cat([*seen, features], 1), logits)


LAGS = (1, 2, 4)
"""Frames between which differences are taken."""


def texture(x: Tensor) -> Iterator[Tensor]:
    """Statistics of every band of ``x`` (batch, mels, frames): (batch, mels) each, one band less for the last."""
    spread, middle = torch.var_mean(x, dim=2, correction=0)
    yield middle
    yield torch.sqrt(spread + SPREAD**2)
    for lag in LAGS:
        yield torch.sqrt((x[:, :, lag:] - x[:, :, :-lag]).square().mean(2) + SPREAD**2)
    yield torch.sqrt((x[:, 1:] - x[:, :-1]).square().mean(2) + SPREAD**2)


def _noting(weights: Tensors, seen: list[Tensor]) -> Norm:
    norm = running_norm(weights)

    def note(name: str, x: Tensor) -> Tensor:
        mean, variance = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
        spread, middle = torch.var_mean(x, dim=(2, 3), correction=0)
        unit = torch.rsqrt(variance + NORM_EPSILON)
        seen.extend(((middle - mean) * unit, torch.sqrt(spread + NORM_EPSILON) * unit))
        return norm(name, x)

    return note


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], real: Tensor, made: Tensor, share: Tensor
) -> tuple[Tensor, Tensor]:
    """L_GP, and the mean length of the critic's gradient, which it pulls to 1.

    Args:
        critic: Features to scores (batch,).
        real: Features of clips, (batch, features).
        made: Features of items.
        share: The place between the two, (batch, 1) in 0 to 1.
    """
    between = (share * real + (1 - share) * made).detach().requires_grad_(True)
    slope = torch.autograd.grad(critic(between).sum(), between, create_graph=True)[0].norm(dim=1)
    return (slope - 1).square().mean(), slope.mean()


def feature_matching(real: Tensor, made: Tensor) -> Tensor:
    """L_FM of one class: features of its clips and of its items."""
    centre = (real.mean(0) - made.mean(0)).square().mean()
    return centre + (real.std(0) - made.std(0)).square().mean()


def probability_matching(real: Tensor, made: Tensor) -> Tensor:
    """L_SML of one class: logits of its clips and of its items."""
    target = real.softmax(1).mean(0)
    return -(target * functional.log_softmax(made, dim=1)).sum(1).mean()


def lack_of_diversity(real: Tensor, made: Tensor) -> Tensor:
    """L_DIV of one class: features of its clips and of its items."""
    return (1 - _mean_distance(made) / _mean_distance(real)).clamp_min(0).square()


def _mean_distance(features: Tensor) -> Tensor:
    first, second = torch.triu_indices(len(features), len(features), 1)
    squared = (features[first] - features[second]).square().mean(1)
    return torch.sqrt(squared + SPREAD**2).mean()  # the square root of 0 has no gradient
