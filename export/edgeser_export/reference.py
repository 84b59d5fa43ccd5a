"""An op graph computed by numpy in float64: what every written file is compared with, on host and board alike.

It is deliberately not what the writers do: batch normalisation is computed from its running statistics instead of being
folded, and every number is a float64. A mistake in folding or in a writer therefore shows as a difference.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edgeser_export.errors import GraphError
from edgeser_export.graph import (
    INPUT,
    NORM_EPSILON,
    Add,
    BatchNorm,
    Concat,
    Conv,
    Graph,
    Linear,
    Normalise,
    Op,
    Pool,
    Reduce,
    Relu,
    Softmax,
    Weights,
    sources,
)

Array = NDArray[np.float64]


def run_reference(graph: Graph, weights: Weights, items: NDArray[np.float32]) -> Array:
    """What a graph gives for ``items``: the logits of a student, the probabilities of a recogniser.

    Items are computed one by one, so that the memory does not grow with their number.

    Args:
        graph: The op graph, with or without batch normalisation.
        weights: Its parameters and running statistics.
        items: (items, channels, height, width).

    Returns:
        float64 (items, classes).

    Raises:
        GraphError: The weights or the items do not fit the graph.
    """
    graph.check(weights)
    if items.shape[1:] != graph.input_shape:
        raise GraphError(f"items of the shape {items.shape[1:]}, not {graph.input_shape}", "compute the features again")
    wide = {name: weights[name].astype(np.float64) for name in {**graph.parameters, **graph.statistics}}
    found = np.empty((len(items), *graph.shapes[graph.output]))
    for row, item in zip(found, items, strict=True):
        tensors = {INPUT: item.astype(np.float64)}
        for op in graph.ops:
            tensors[op.name] = compute(op, [tensors[source] for source in sources(op)], wide)
        row[...] = tensors[graph.output]
    return found


def softmax(logits: NDArray[np.floating]) -> Array:
    """Probabilities over the last axis, float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True), dtype=np.float64)


def compute(op: Op, inputs: list[Array], weights: Mapping[str, Array]) -> Array:
    """The output of one operation for one item; shapes as in :mod:`edgeser_export.graph`."""
    first = inputs[0]
    match op:
        case Conv():
            return _convolve(op, first, weights)
        case BatchNorm():
            return _normalise_batch(op, first, weights)
        case Relu():
            return np.maximum(first, 0.0)
        case Pool():
            return _pool(op, first)
        case Reduce():
            return np.asarray(first.mean(op.axes) if op.how == "mean" else first.max(op.axes))
        case Concat():
            return np.concatenate(inputs, axis=0)
        case Add():
            return first + inputs[1]
        case Linear():
            return weights[f"{op.name}.weight"] @ first + weights.get(f"{op.name}.bias", 0.0)
        case Normalise() | Softmax():
            return _around(op, first)


def _around(op: Normalise | Softmax, item: Array) -> Array:
    if isinstance(op, Normalise):
        return (item - np.float32(op.mean)) / np.float32(op.std)
    return softmax(item / np.float32(op.temperature))


def _convolve(op: Conv, item: Array, weights: Mapping[str, Array]) -> Array:
    """One matrix product for each place in the kernel: no copy of the input for each of them, as im2col would make."""
    weight = weights[f"{op.name}.weight"]
    edge = (op.padding, op.padding)
    padded = np.pad(item, ((0, 0), edge, edge))
    height, width = ((size - op.kernel) // op.stride + 1 for size in padded.shape[1:])
    total = np.zeros((op.channels, height * width))
    for down in range(op.kernel):
        rows = slice(down, down + (height - 1) * op.stride + 1, op.stride)
        for right in range(op.kernel):
            columns = slice(right, right + (width - 1) * op.stride + 1, op.stride)
            total += weight[:, :, down, right] @ padded[:, rows, columns].reshape(len(padded), -1)
    if op.bias:
        total += weights[f"{op.name}.bias"][:, None]
    return total.reshape(op.channels, height, width)


def _normalise_batch(op: BatchNorm, item: Array, weights: Mapping[str, Array]) -> Array:
    scale, shift, mean, variance = (
        weights[f"{op.name}.{part}"].reshape(-1, *[1] * (item.ndim - 1))
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    return (item - mean) / np.sqrt(variance + NORM_EPSILON) * scale + shift


def _pool(op: Pool, item: Array) -> Array:
    channels, height, width = item.shape[0], item.shape[1] // op.size, item.shape[2] // op.size
    kept = item[:, : height * op.size, : width * op.size]
    windows = kept.reshape(channels, height, op.size, width, op.size)
    return np.asarray(windows.mean((2, 4)) if op.how == "mean" else windows.max((2, 4)))
