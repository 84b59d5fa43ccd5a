"""Op graphs in torch: a pure function of weights and input, so that trajectories can be unrolled through it.

logits = forward(graph, weights, x, batch_norm(weights))         # training: statistics of the batch
logits = forward(graph, weights, x, running_norm(weights))       # inference: stored statistics
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from edgeser_export.graph import (
    INPUT,
    NORM_EPSILON,
    Add,
    BatchNorm,
    Concat,
    Conv,
    Graph,
    Linear,
    Op,
    Pool,
    Reduce,
    Relu,
)

Tensors: TypeAlias = Mapping[str, Tensor]
Norm: TypeAlias = Callable[[str, Tensor], Tensor]
"""Normalises the input of the batch normalisation of that name."""


def forward(graph: Graph, weights: Tensors, x: Tensor, norm: Norm) -> Tensor:
    """Logits, float32 (batch, classes), of ``x``, float32 (batch, channels, mels, frames)."""
    return tensors_of(graph, weights, x, norm)[graph.output]


def tensors_of(graph: Graph, weights: Tensors, x: Tensor, norm: Norm) -> dict[str, Tensor]:
    """Every tensor of the graph by name, the input included."""
    values = {INPUT: x}
    for op in graph.ops:
        values[op.name] = _apply(op, weights, values, norm)
    return values


def batch_norm(weights: Tensors) -> Norm:
    """Batch normalisation by the statistics of the batch, as in training."""

    def norm(name: str, x: Tensor) -> Tensor:
        scale, shift = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return functional.batch_norm(x, None, None, scale, shift, training=True, eps=NORM_EPSILON)

    return norm


def running_norm(weights: Tensors) -> Norm:
    """Batch normalisation by the running statistics among ``weights``, as in inference."""

    def norm(name: str, x: Tensor) -> Tensor:
        mean, variance, scale, shift = (
            weights[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return functional.batch_norm(x, mean, variance, scale, shift, training=False, eps=NORM_EPSILON)

    return norm


def measured_norm(weights: Tensors, seen: dict[str, Tensor]) -> Norm:
    """Like :func:`batch_norm`; ``seen`` receives the batch's mean and unbiased variance under the statistics' names."""
    norm = batch_norm(weights)

    def measure(name: str, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=1)
        seen[f"{name}.running_mean"], seen[f"{name}.running_var"] = mean, variance
        return norm(name, x)

    return measure


def to_tensors(weights: Mapping[str, NDArray[np.float32]]) -> dict[str, Tensor]:
    """Copies as torch tensors; convolutions in channels-last order, in which they train several times faster."""
    return {name: _fast_layout(torch.from_numpy(np.array(array, copy=True))) for name, array in weights.items()}


def to_arrays(weights: Tensors) -> dict[str, NDArray[np.float32]]:
    """Copies as contiguous float32 arrays."""
    return {
        name: np.array(tensor.detach().cpu().contiguous().numpy(), dtype=np.float32, copy=True)
        for name, tensor in weights.items()
    }


def _fast_layout(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def _apply(op: Op, weights: Tensors, values: Tensors, norm: Norm) -> Tensor:
    match op:
        case Conv():
            bias = weights[f"{op.name}.bias"] if op.bias else None
            return functional.conv2d(values[op.source], weights[f"{op.name}.weight"], bias, op.stride, op.padding)
        case BatchNorm():
            return norm(op.name, values[op.source])
        case Relu():
            return functional.relu(values[op.source])
        case Pool():
            pool = functional.avg_pool2d if op.how == "mean" else functional.max_pool2d
            return pool(values[op.source], op.size)
        case Reduce():
            axes = [axis + 1 for axis in op.axes]
            return values[op.source].mean(axes) if op.how == "mean" else values[op.source].amax(axes)
        case Concat():
            return torch.cat([values[source] for source in op.sources], dim=1)
        case Add():
            return values[op.sources[0]] + values[op.sources[1]]
        case Linear():
            bias = weights[f"{op.name}.bias"] if op.bias else None
            return functional.linear(values[op.source], weights[f"{op.name}.weight"], bias)
