"""Numbers in eight bits: how a trained student's tensors are rounded, decided once for every int8 format.

    plan = plan_int8(lower(graph, weights), items)          # edgeser_export.calibrate: calibrated on items
    plan.activations["relu1"].scale, plan.activations["relu1"].zero
    plan.parameters["conv1"].weight                         # int8, as the op graph lays it out

A number is stored as round(x / scale) + zero (Jacob et al. 2018, arXiv 1712.05877). Maps, which nearly all of the
computing reads and writes, are rounded to eight bits over the range that the calibration items span; the few numbers
that are left when maps have been reduced keep sixteen bits, or more where a runtime has no such kernels. Weights are
int8, of a convolution in units of each output channel's largest weight, of a dense layer in units of its largest;
biases are int32 in units of their product. Operations that only choose or move numbers keep the scale of what they
read. Levels in dB before they are normalised and probabilities stay in float32: the levels' zero point would lie
outside eight bits where zero dB is far from what a corpus holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeser_export.graph import (
    Concat,
    Graph,
    Normalise,
    Op,
    Pool,
    Reduce,
    Shape,
    Softmax,
    sources,
)
from edgeser_export.lowering import merged_relus

LOWEST, HIGHEST = -128, 127
WIDE_BITS = 16
WIDENING = 128
"""An eight-bit number times this, in units of the 128th part of its scale, is the same number in sixteen bits."""
HEADROOM = 2.0
"""Of sixteen-bit numbers over what the calibration items reach: there are steps enough, and nothing is cut off."""
MAP_AXES = 3
"""Channels, height and width."""
FLOAT_OPS = (Normalise, Softmax)
"""What the first reads and the second writes is not rounded."""
DIGITS = 12
"""Binary digits of a scale: the last bits of float32 sums differ between processors, and a scale should not."""


@dataclass(frozen=True)
class Affine:
    """How a tensor is rounded: x is about scale (q - zero), q a signed whole number of ``bits`` bits."""

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
        activations: By the name of the tensor; those that stay in float32, and an operation whose ReLU is merged into
            it, are not among them.
        parameters: By the name of the convolution or dense layer.
    """

    activations: Mapping[str, Affine]
    parameters: Mapping[str, Parameters]

    def rounded(self, name: str, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """What is left of the values of the tensor ``name``."""
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
