"""From a trained student and items that it will see to a plan of its rounding.

    plan = plan_int8(for_inference(graph, weights), items)

Ranges are the items' own. Weights are rounded so that the sums over these items change least, not the weights
themselves: one input after the other, and what a rounding changes in the sums is made up by the weights that are not
rounded yet (Frantar et al. 2022, arXiv 2210.17323, after Hassibi and Stork 1993). The nearest numbers are the special
case of inputs that do not correlate. What then still is too much or too little in each logit, in the mean of the items,
goes into the last bias (Nagel et al. 2019, arXiv 1906.04721, section 4.2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgeser_export.graph.op_graph import (
    INPUT,
    Concat,
    Conv,
    Graph,
    Linear,
    Normalise,
    Op,
    Pool,
    Reduce,
    Shape,
    Softmax,
    sources,
)
from edgeser_export.graph.transform import InferenceGraph, merged_relus
from edgeser_export.utilities.errors import ExportError

LOWEST, HIGHEST = -128, 127
WIDE_BITS = 16
WIDENING = 128
"""An eight-bit number times this, in units of the 128th part of its scale, is the same number in sixteen bits."""
HEADROOM = 2.0
"""Range of sixteen-bit numbers over that of the calibration items: there are steps enough, and nothing is cut off."""
MAP_AXES = 3
"""Channels, height and width."""
FLOAT_OPS = (Normalise, Softmax)
"""Operations beside which a tensor stays in float32: the input of the first, and the output of the second."""
DIGITS = 12
"""Binary digits of a scale: the last bits of float32 sums differ between processors, and a scale should not."""


@dataclass(frozen=True)
class Affine:
    """The rounding of a tensor: x is about scale (q - zero), q a signed whole number of ``bits`` bits."""

    scale: np.float32
    zero: int
    bits: int = 8

    def rounded(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """The nearest numbers that can be stored."""
        highest = 2 ** (self.bits - 1) - 1
        steps = np.clip(np.rint(values / np.float64(self.scale)) + self.zero, -highest - 1, highest)
        return np.asarray((steps - self.zero) * np.float64(self.scale))

    @property
    def widened(self) -> Affine:
        """The same numbers, exactly, in sixteen bits."""
        return Affine(np.float32(self.scale / WIDENING), 0, WIDE_BITS)


@dataclass(frozen=True)
class Parameters:
    """The rounded parameters of a convolution or dense layer.

    Attributes:
        weight: Int8, the op graph's layout, from -127 to 127, of a convolution from -64 to 64.
        scales: Scales of the weight, float32 (output channels,); (1,) for a dense layer.
        bias: Int32 (output channels,), in units of ``scales`` times the scale of what the operation reads.
        bias_scales: Those units, float32 (output channels,).
    """

    weight: NDArray[np.int8]
    scales: NDArray[np.float32]
    bias: NDArray[np.int32]
    bias_scales: NDArray[np.float32]


@dataclass(frozen=True)
class Int8Plan:
    """The rounding of every tensor of an inference graph.

    Attributes:
        activations: By the name of the tensor; those that stay in float32, and an operation whose ReLU is merged into
            it, are not among them.
        parameters: By the name of the convolution or dense layer.
    """

    activations: Mapping[str, Affine]
    parameters: Mapping[str, Parameters]

    def rounded(self, name: str, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """The values of the tensor ``name`` after rounding."""
        how = self.activations.get(name)
        return values.astype(np.float64) if how is None else how.rounded(values)


def is_wide(shape: Shape) -> bool:
    """Whether a tensor of this shape keeps more than eight bits: it is no map any more."""
    return len(shape) < MAP_AXES


def affine(lowest: float, highest: float) -> Affine:
    """The rounding of a range; zero, which pads images, can always be stored exactly."""
    lowest, highest = min(lowest, 0.0), max(highest, 0.0)
    scale = _scale((highest - lowest) / (HIGHEST - LOWEST))
    return Affine(scale, int(np.clip(np.rint(LOWEST - lowest / scale), LOWEST, HIGHEST)))


def wide_affine(lowest: float, highest: float) -> Affine:
    """The rounding of a range to sixteen bits, which the runtimes want symmetric."""
    return Affine(_scale(HEADROOM * max(-lowest, highest) / (2 ** (WIDE_BITS - 1) - 1)), 0, WIDE_BITS)


def _scale(exact: float) -> np.float32:
    mantissa, exponent = np.frexp(max(exact, 1e-12))
    return np.float32(np.ldexp(np.ceil(mantissa * 2**DIGITS) / 2**DIGITS, exponent))


def joined_ranges(graph: Graph, ranges: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """The ranges of tensors that are rounded; those that must share a scale have one."""
    merged = merged_relus(graph)
    exact = {op.source if isinstance(op, Normalise) else op.name for op in graph.ops if isinstance(op, FLOAT_OPS)}
    leader = {name: name for name in ranges if name not in merged and name not in exact}

    def find(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    for op in graph.ops:
        if keeps_scale(op):
            for source in sources(op):
                leader[find(merged.get(source, source))] = find(op.name)
    spans: dict[str, tuple[float, float]] = {}
    for name in leader:
        low, high = spans.get(find(name), (np.inf, -np.inf))
        spans[find(name)] = (min(low, ranges[name][0]), max(high, ranges[name][1]))
    return {name: spans[find(name)] for name in leader}


def keeps_scale(op: Op) -> bool:
    """Whether an operation only chooses or moves numbers, so that they stay in the same scale."""
    return isinstance(op, Concat) or (isinstance(op, Pool | Reduce) and op.how == "max")


BATCH = 8
"""Items that are calibrated at once."""
HIGHEST_CONVOLVED = 64
"""The largest whole number that a weight of a convolution becomes; in dense layers it is ``HIGHEST``. x86 processors
without VNNI add two products with unsigned numbers of eight bits in sixteen, and onnxruntime lets them cut off what is
more: 2 * 255 * 64 is not. That costs less than the rounding of what a convolution reads."""
LARGEST = 1200
"""Inputs of one output up to which the moments, a square matrix, are worth their memory and time on a board."""
PLACES = 256
"""Places that are taken of each item: with 64 items, more rows than inputs of any layer whose moments are taken."""
DAMPING = 0.01
"""Added to the diagonal, as a share of its mean: inputs that never differ have no inverse."""
LIMITS = np.iinfo(np.int32)
Items = NDArray[np.float32]
Moments = Mapping[str, NDArray[np.float64]]


def plan_int8(inference: InferenceGraph, items: Items) -> Int8Plan:
    """Calibrate a student.

    Args:
        inference: Without batch normalisation.
        items: Items like those that it will see, float32 (items, channels, height, width), at least one.

    Raises:
        ExportError: There are no items.
        MissingRuntime: onnxruntime is missing.
    """
    if not len(items):
        raise ExportError("nothing to calibrate int8 on", "give at least one item")
    graph = inference.graph
    ranges, logits = measured_ranges(inference, items)
    activations = {
        name: (wide_affine if is_wide(graph.shapes[name]) else affine)(*span)
        for name, span in joined_ranges(graph, ranges).items()
    }
    moments = measured_moments(inference, items, activations)
    parameters = {
        op.name: rounded_parameters(op, inference, activations[op.source].scale, moments)
        for op in graph.ops
        if isinstance(op, Conv | Linear)
    }
    return corrected(inference, Int8Plan(activations, parameters), items, logits)


def measured_ranges(
    inference: InferenceGraph, items: Items
) -> tuple[dict[str, tuple[float, float]], NDArray[np.float32]]:
    """Lowest and highest value of every tensor over ``items``, computed by onnxruntime in float32; and the logits."""
    found = {INPUT: (float(items.min()), float(items.max()))}
    logits = []
    for tensors in _tensors(inference, items):
        for name, tensor in tensors.items():
            low, high = found.get(name, (np.inf, -np.inf))
            found[name] = (min(low, float(tensor.min())), max(high, float(tensor.max())))
        logits.append(tensors[inference.scores.graph.output])
    return found, np.concatenate(logits)


def measured_moments(inference: InferenceGraph, items: Items, activations: Mapping[str, Affine]) -> Moments:
    """Second moments of what convolutions and dense layers read, rounded; of those that are not too large."""
    chosen = [
        op
        for op in inference.graph.ops
        if isinstance(op, Conv | Linear) and input_count(inference.weights[f"{op.name}.weight"]) <= LARGEST
    ]
    sums: dict[str, NDArray[np.float64]] = {}
    for tensors in _tensors(inference, items):
        for op in chosen:
            rows = activations[op.source].rounded(summed_rows(op, tensors[op.source])).astype(np.float32)
            sums[op.name] = sums.get(op.name, 0.0) + (rows.T @ rows).astype(np.float64)
    return sums


def rounded_parameters(op: Conv | Linear, inference: InferenceGraph, read: np.float32, moments: Moments) -> Parameters:
    """A layer's weight and bias as whole numbers; ``read`` is the scale of what it reads."""
    weight = inference.weights[f"{op.name}.weight"].astype(np.float64)
    bias = inference.weights.get(f"{op.name}.bias", np.zeros(len(weight), np.float32)).astype(np.float64)
    convolved = isinstance(op, Conv)
    highest = HIGHEST_CONVOLVED if convolved else HIGHEST
    largest = np.abs(weight).max(axis=tuple(range(1, weight.ndim)) if convolved else None)
    scales = np.maximum(np.atleast_1d(largest) / highest, 1e-9).astype(np.float32)
    if op.name in moments:
        steps = round_weights(weight, scales, moments[op.name], highest)
    else:
        steps = nearest_weights(weight, scales, highest)
    units = np.broadcast_to(scales * read, len(weight)).astype(np.float32)
    return Parameters(steps, scales, _whole(bias / units.astype(np.float64)), units)


def corrected(inference: InferenceGraph, plan: Int8Plan, items: Items, logits: NDArray[np.float32]) -> Int8Plan:
    """The plan whose logits over ``items`` have the mean of ``logits``, where a dense layer computes them."""
    name = inference.scores.graph.output
    if name not in plan.parameters:
        return plan
    from edgeser_export.runtimes import load
    from edgeser_export.writers.onnx_files import write_plan

    found = load(write_plan(inference.scores, plan))(items)
    missing = (logits.astype(np.float64) - found).mean(axis=0)
    last = plan.parameters[name]
    bias = _whole(last.bias + missing / last.bias_scales)
    return replace(plan, parameters={**plan.parameters, name: replace(last, bias=bias)})


def _tensors(inference: InferenceGraph, items: Items) -> Iterator[dict[str, NDArray[np.float32]]]:
    """The input and the output of every operation in float32, a few items at a time."""
    from edgeser_export.runtimes import open_onnx
    from edgeser_export.writers.onnx_files import write_every_tensor

    names = [op.name for op in inference.graph.ops]
    session = open_onnx(write_every_tensor(inference), threads=1)
    for start in range(0, len(items), BATCH):
        given = items[start : start + BATCH]
        found = session.run(names, {INPUT: given})
        yield {INPUT: given, **dict(zip(names, found, strict=True))}


def _whole(values: NDArray[np.floating]) -> NDArray[np.int32]:
    return np.asarray(np.clip(np.rint(values), LIMITS.min, LIMITS.max), np.int32)


def input_count(weight: NDArray[np.floating]) -> int:
    """Numbers that are summed for one output of a layer with this weight."""
    return int(np.prod(weight.shape[1:]))


def summed_rows(op: Conv | Linear, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
    """The inputs that an operation sums for one output, at up to about ``PLACES`` places of each item, evenly spread.

    Args:
        op: A convolution or dense layer.
        tensor: The tensor that it reads, (items, channels, height, width) or (items, features).

    Returns:
        Float32 (rows, inputs), the inputs in the order of a flat weight.
    """
    if isinstance(op, Linear):
        return tensor
    padded = np.pad(tensor, ((0, 0), (0, 0), (op.padding,) * 2, (op.padding,) * 2))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (op.kernel, op.kernel), axis=(2, 3))
    height, width = windows.shape[2:4]
    step = op.stride * max(1, round((height * width / op.stride**2 / PLACES) ** 0.5))
    places = windows[:, :, ::step, ::step].transpose(0, 2, 3, 1, 4, 5)
    return np.ascontiguousarray(places).reshape(-1, tensor.shape[1] * op.kernel**2)


def round_weights(
    weight: NDArray[np.floating], scales: NDArray[np.floating], moments: NDArray[np.float64], highest: int = HIGHEST
) -> NDArray[np.int8]:
    """Whole numbers whose products with ``scales`` take the place of a weight.

    Args:
        weight: (outputs, ...).
        scales: (outputs,) or (1,), above 0.
        moments: Sum of x x' over rows x of :func:`summed_rows`, (inputs, inputs).
        highest: The largest whole number, up to 127.

    Returns:
        Int8, the weight's shape, from -``highest`` to ``highest``.
    """
    left = weight.reshape(len(weight), -1).astype(np.float64)
    units = np.broadcast_to(np.asarray(scales, np.float64), len(weight))
    damped = moments + np.eye(len(moments)) * (DAMPING * np.trace(moments) / len(moments) + 1e-12)
    order = np.argsort(-np.diag(damped), kind="stable")
    # The upper Cholesky factor of the inverse: row i says how the inputs after i make up for a change of input i.
    factor = np.linalg.cholesky(np.linalg.inv(damped[np.ix_(order, order)])).T
    steps = np.empty_like(left)
    left = left[:, order]
    for place in range(len(order)):
        found = np.clip(np.rint(left[:, place] / units), -highest, highest)
        change = (left[:, place] - found * units) / factor[place, place]
        left[:, place + 1 :] -= np.outer(change, factor[place, place + 1 :])
        steps[:, order[place]] = found
    return steps.reshape(weight.shape).astype(np.int8)


def round_rows(weight: NDArray[np.float32], highest: int = HIGHEST) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """A weight in whole steps of a size for each index of its first axis, the largest being ``highest`` steps.

    Returns:
        The steps, int8 as ``weight`` is shaped, and their sizes, float32 (rows,).
    """
    largest = np.abs(weight.reshape(len(weight), -1)).max(1)
    sizes = np.where(largest > 0, largest / highest, 1).astype(np.float32)
    return nearest_weights(weight, sizes, highest), sizes


def nearest_weights(
    weight: NDArray[np.floating], scales: NDArray[np.floating], highest: int = HIGHEST
) -> NDArray[np.int8]:
    """The nearest whole numbers; see :func:`round_weights`."""
    units = np.asarray(scales, np.float64).reshape(-1, *[1] * (weight.ndim - 1))
    return np.clip(np.rint(weight / units), -highest, highest).astype(np.int8)
