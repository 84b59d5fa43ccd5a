"""Numbers in eight bits: how a trained student's tensors are rounded, decided once for every int8 format.

    plan = plan_int8(lower(graph, weights), items)          # calibrated on items
    plan.activations["relu1"].scale, plan.activations["relu1"].zero
    plan.parameters["conv1"].weight                         # int8, as the op graph lays it out

A number is stored as round(x / scale) + zero (Jacob et al. 2018, arXiv 1712.05877). Activations are rounded over the
range that the calibration items span; weights of a convolution over each output channel's largest weight, those of a
dense layer over its largest; biases are int32 in units of their product. Operations that only choose or move numbers
keep the scale of what they read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgeser_export.errors import ExportError
from edgeser_export.graph import INPUT, Concat, Conv, Graph, Linear, Op, Pool, Reduce, Shape, sources
from edgeser_export.lowering import InferenceGraph, merged_relus
from edgeser_export.reference import compute

LOWEST, HIGHEST = -128, 127
BATCH = 8
"""Items that are calibrated at once."""
DIGITS = 12
"""Binary digits of a scale: the last bits of float32 sums differ between processors, and a scale should not."""


@dataclass(frozen=True)
class Affine:
    """How a tensor is rounded: x is about scale (q - zero), q from -128 to 127."""

    scale: np.float32
    zero: int

    def rounded(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """The nearest numbers that can be stored."""
        steps = np.clip(np.rint(values / np.float64(self.scale)) + self.zero, LOWEST, HIGHEST)
        return np.asarray((steps - self.zero) * np.float64(self.scale))


@dataclass(frozen=True)
class Parameters:
    """The rounded parameters of a convolution or dense layer.

    Attributes:
        weight: Int8, the op graph's layout, from -127 to 127.
        scales: Of the weight, float32 (output channels,); (1,) for a dense layer.
        bias: Int32 (output channels,), in units of ``scales`` times the scale of what the operation reads.
        bias_scales: Those units, float32 (output channels,).
    """

    weight: NDArray[np.int8]
    scales: NDArray[np.float32]
    bias: NDArray[np.int32]
    bias_scales: NDArray[np.float32]


@dataclass(frozen=True)
class Int8Plan:
    """How every tensor of a lowered graph is rounded.

    Attributes:
        activations: By the name of the tensor; an operation whose ReLU is merged into it is not among them.
        parameters: By the name of the convolution or dense layer.
    """

    activations: Mapping[str, Affine]
    parameters: Mapping[str, Parameters]


def plan_int8(lowered: InferenceGraph, items: NDArray[np.float32]) -> Int8Plan:
    """Calibrate a student.

    Args:
        lowered: Without batch normalisation.
        items: What it will see, float32 (items, channels, height, width), at least one.

    Raises:
        ExportError: There are no items.
        MissingRuntime: onnxruntime is missing.
    """
    if not len(items):
        raise ExportError("nothing to calibrate int8 on", "give at least one item")
    graph = lowered.graph
    ranges = joined_ranges(graph, measured_ranges(lowered, items))
    activations = {name: affine(*span) for name, span in ranges.items()}
    parameters = {
        op.name: _parameters(op, lowered, activations[op.source].scale)
        for op in graph.ops
        if isinstance(op, Conv | Linear)
    }
    return Int8Plan(activations, parameters)


def affine(lowest: float, highest: float) -> Affine:
    """The rounding of a range; zero, which pads images, can always be stored exactly."""
    lowest, highest = min(lowest, 0.0), max(highest, 0.0)
    exact = max((highest - lowest) / (HIGHEST - LOWEST), 1e-9)
    mantissa, exponent = np.frexp(exact)
    scale = np.float32(np.ldexp(np.ceil(mantissa * 2**DIGITS) / 2**DIGITS, exponent))
    return Affine(scale, int(np.clip(np.rint(LOWEST - lowest / scale), LOWEST, HIGHEST)))


def measured_ranges(lowered: InferenceGraph, items: NDArray[np.float32]) -> dict[str, tuple[float, float]]:
    """Lowest and highest value of every tensor over ``items``, computed by onnxruntime in float32."""
    from edgeser_export.onnx import write_every_tensor
    from edgeser_export.runtimes import open_onnx

    names = [op.name for op in lowered.graph.ops]
    session = open_onnx(write_every_tensor(lowered), threads=1)
    found = {INPUT: (float(items.min()), float(items.max()))}
    for start in range(0, len(items), BATCH):
        tensors = session.run([lowered.names[name] for name in names], {INPUT: items[start : start + BATCH]})
        for name, tensor in zip(names, tensors, strict=True):
            low, high = found.get(name, (np.inf, -np.inf))
            found[name] = (min(low, float(tensor.min())), max(high, float(tensor.max())))
    return found


def joined_ranges(graph: Graph, ranges: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """The ranges of tensors that must share a scale, made one."""
    merged = merged_relus(graph)
    leader = {name: name for name in ranges if name not in merged}

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
    """Whether an operation only chooses or moves numbers, or averages them as the runtimes do: in the same scale."""
    return isinstance(op, Pool | Concat) or (isinstance(op, Reduce) and op.how == "max")


def run_int8(lowered: InferenceGraph, plan: Int8Plan, items: NDArray[np.float32]) -> NDArray[np.float64]:
    """What a file of this plan computes, to a few steps of rounding: float64 between tensors that are rounded.

    Returns:
        Logits, float64 (items, classes).
    """
    graph, merged = lowered.graph, merged_relus(lowered.graph)
    wide: dict[str, NDArray[np.float64]] = {}
    for name, parts in plan.parameters.items():
        shape: Shape = (-1, *[1] * (parts.weight.ndim - 1))
        wide[f"{name}.weight"] = np.multiply(parts.weight, parts.scales.reshape(shape), dtype=np.float64)
        wide[f"{name}.bias"] = np.multiply(parts.bias, parts.bias_scales, dtype=np.float64)
    logits = np.empty((len(items), lowered.classes))
    for row, item in zip(logits, items, strict=True):
        tensors = {INPUT: plan.activations[INPUT].rounded(item)}
        for op in graph.ops:
            value = compute(_with_bias(op), [tensors[source] for source in sources(op)], wide)
            tensors[op.name] = value if op.name in merged else plan.activations[op.name].rounded(value)
        row[...] = tensors[graph.output]
    return logits


def _with_bias(op: Op) -> Op:
    return replace(op, bias=True) if isinstance(op, Conv | Linear) else op


def _parameters(op: Conv | Linear, lowered: InferenceGraph, read: np.float32) -> Parameters:
    weight = lowered.weights[f"{op.name}.weight"].astype(np.float64)
    bias = lowered.weights.get(f"{op.name}.bias", np.zeros(len(weight), np.float32)).astype(np.float64)
    largest = np.abs(weight).max(axis=tuple(range(1, weight.ndim))) if isinstance(op, Conv) else np.abs(weight).max()
    scales = np.maximum(np.atleast_1d(largest) / HIGHEST, 1e-9).astype(np.float32)
    steps = np.rint(weight / scales.astype(np.float64).reshape(-1, *[1] * (weight.ndim - 1)))
    units = np.broadcast_to(scales * read, len(weight)).astype(np.float32)
    limits = np.iinfo(np.int32)
    rounded = np.clip(np.rint(bias / units.astype(np.float64)), limits.min, limits.max)
    return Parameters(np.clip(steps, -HIGHEST, HIGHEST).astype(np.int8), scales, rounded.astype(np.int32), units)
