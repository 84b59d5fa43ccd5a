"""Op graphs in torch: a pure function of weights and input, so that trajectories can be unrolled through it.

logits = forward(graph, weights, x, batch_norm(weights))         # training: statistics of the batch
logits = forward(graph, weights, x, running_norm(weights))       # inference: stored statistics
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from edgeser_export.graph.op_graph import (
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
    sources,
)

Tensors: TypeAlias = Mapping[str, Tensor]
Norm: TypeAlias = Callable[[str, Tensor], Tensor]
"""Normalises the input of the batch normalisation of that name."""


Batch = TypeVar("Batch", Tensor, NDArray[np.float32])


def as_input(graph: Graph, maps: Batch) -> Batch:
    """Items (batch, rows, columns), or what a student reads already, in the shape that the graph reads."""
    return maps.reshape(len(maps), *graph.input_shape)


class Operations(NamedTuple):
    """The functions that compute the costlier operations of a network; each computes what torch's does.

    Attributes:
        convolve: (input, weight, bias, stride, padding) to the convolution.
        relu: Positive part.
        mean_pool: (input, size) to the means of squares of that size.
    """

    convolve: Callable[[Tensor, Tensor, Tensor | None, int, int], Tensor] = functional.conv2d
    relu: Callable[[Tensor], Tensor] = functional.relu
    mean_pool: Callable[[Tensor, int], Tensor] = functional.avg_pool2d


TORCH = Operations()


def forward(
    graph: Graph,
    weights: Tensors,
    x: Tensor,
    norm: Norm,
    output: str | None = None,
    operations: Operations = TORCH,
) -> Tensor:
    """The graph's output, or another of its tensors.

    Args:
        graph: The network.
        weights: Parameters by name.
        x: Float32 (batch, channels, mels, frames).
        norm: Batch normalisation of training or of inference.
        output: Name of the wanted tensor; the logits, float32 (batch, classes), when not given.
        operations: :mod:`edgeser.models.second_order` has others, to differentiate twice.
    """
    wanted = output or graph.output
    last_reader = {source: op.name for op in graph.ops for source in sources(op)}
    values = {INPUT: x}
    for op in graph.ops:
        values[op.name] = _apply(op, weights, values, norm, operations)
        if op.name == wanted:
            break
        for source in sources(op):
            if last_reader[source] == op.name:
                values.pop(source, None)  # so that inference holds a few tensors, not all
    return values[wanted]


INFERENCE_BYTES = 128 * 2**20
"""Bytes that the largest tensors of one batch of inference may take together."""


def infer(
    graph: Graph, weights: Mapping[str, NDArray[np.float32]], x: NDArray[np.float32], output: str | None = None
) -> NDArray[np.float32]:
    """The output of the network in inference, computed in batches that fit into little memory.

    Args:
        graph: The network.
        weights: Parameters and running statistics.
        x: Float32 (items, channels, mels, frames).
        output: Name of the wanted tensor; the logits when not given.

    Returns:
        Float32 (items, ...).
    """
    widest = 4 * max(prod(shape) for shape in graph.shapes.values())
    batch = min(256, max(1, INFERENCE_BYTES // (3 * widest)))  # an operation reads one or two and writes one
    tensors = to_tensors(weights)
    norm = running_norm(tensors)
    with torch.no_grad():
        pieces = [
            forward(graph, tensors, torch.from_numpy(x[start : start + batch]), norm, output)
            for start in range(0, len(x), batch)
        ]
    return torch.cat(pieces).numpy()


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


def _apply(op: Op, weights: Tensors, values: Tensors, norm: Norm, operations: Operations) -> Tensor:
    match op:
        case Conv():
            bias = weights[f"{op.name}.bias"] if op.bias else None
            return operations.convolve(values[op.source], weights[f"{op.name}.weight"], bias, op.stride, op.padding)
        case BatchNorm():
            return norm(op.name, values[op.source])
        case Relu():
            return operations.relu(values[op.source])
        case Pool():
            pool = operations.mean_pool if op.how == "mean" else functional.max_pool2d
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
        case _:
            raise TypeError(f"no student has the operation {op}")
