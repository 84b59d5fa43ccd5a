"""An op graph computed by numpy in float64: what every written file is compared with, on host and board alike.

It is deliberately not what the writers do: batch normalisation is computed from its running statistics instead of being
folded, and every number is a float64. A mistake in folding or in a writer therefore shows as a difference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edgeser_export.graph.op_graph import (
    INPUT,
    NORM_EPSILON,
    Add,
    Attention,
    BatchNorm,
    Concat,
    Conv,
    Conv1d,
    Gelu,
    Graph,
    LayerNorm,
    Linear,
    Moments,
    Normalise,
    Offset,
    Op,
    Pool,
    Reduce,
    Relu,
    Softmax,
    Tokens,
    Weights,
    sources,
)
from edgeser_export.utilities.errors import GraphError

Array = NDArray[np.float64]


def run_reference(graph: Graph, weights: Weights, items: NDArray[np.float32]) -> Array:
    """Compute a graph's output for ``items``: the logits of a student, the probabilities of a recogniser.

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
    """The output of one operation for one item; shapes as in :mod:`edgeser_export.graph.op_graph`."""
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
            return first @ weights[f"{op.name}.weight"].T + weights.get(f"{op.name}.bias", 0.0)
        case _:
            return _compute_other(op, first, inputs, weights)


def _compute_other(op: Op, first: Array, inputs: list[Array], weights: Mapping[str, Array]) -> Array:
    """The operations around a student, and those of encoders."""
    match op:
        case Normalise():
            return (first - np.float32(op.mean)) / np.float32(op.std)
        case Softmax():
            return softmax(first / np.float32(op.temperature))
        case Conv1d():
            return _convolve_in_time(op, first, weights)
        case Gelu():
            return np.asarray(first * 0.5 * (1 + _erf(first / np.sqrt(2)).astype(np.float64)))
        case Tokens():
            return first.T
        case Offset():
            return first + weights[f"{op.name}.weight"][: len(first)]
        case LayerNorm():
            centred = first - first.mean(-1, keepdims=True)
            spread = np.sqrt((centred**2).mean(-1, keepdims=True) + NORM_EPSILON)
            return np.asarray(centred / spread * weights[f"{op.name}.weight"] + weights[f"{op.name}.bias"])
        case Attention():
            return _attend(op, *inputs)
        case Moments():
            return np.concatenate([first.mean(0), first.std(0, ddof=1)])
        case _:
            raise TypeError(f"nothing computes {op}")


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


def _convolve_in_time(op: Conv1d, item: Array, weights: Mapping[str, Array]) -> Array:
    padded = np.pad(item, ((0, 0), (op.padding, op.padding)))
    pieces = np.lib.stride_tricks.sliding_window_view(padded, op.kernel, axis=1)[:, :: op.stride]
    found: Array = np.einsum("oik,itk->ot", weights[f"{op.name}.weight"], pieces, optimize=True)
    return found + weights[f"{op.name}.bias"][:, None]


def _attend(op: Attention, queries: Array, keys: Array, values: Array) -> Array:
    width = queries.shape[1] // op.heads
    parts = []
    for head in range(op.heads):
        own = slice(head * width, (head + 1) * width)
        parts.append(softmax(queries[:, own] @ keys[:, own].T / np.sqrt(width)) @ values[:, own])
    return np.concatenate(parts, axis=1)


_erf = np.frompyfunc(math.erf, 1, 1)


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
