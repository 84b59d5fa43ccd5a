"""An op graph as a TFLite file for inference in eight bits.

    lowered = lower(graph, weights)
    data = write_plan(lowered, plan_int8(lowered, items), {"labels": "[]"})

Input and output are those of :mod:`edgeser_export.tflite`, in float32: the file takes the place of the other. It
normalises and rounds its input, computes with whole numbers, and turns the logits into float32 for the softmax.
Maps have eight bits, what is left of them when they have been reduced sixteen; weights have eight everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from ai_edge_litert.schema_py_generated import BuiltinOperator, Padding
from numpy.typing import NDArray

from edgeser_export.graph import Conv, Linear, Op, Pool, Shape, Softmax
from edgeser_export.lowering import InferenceGraph
from edgeser_export.quantize import Affine, Int8Plan, is_wide, keeps_scale
from edgeser_export.tflite import Float32, write_lowered
from edgeser_export.tflite_file import Quantisation, TfliteFile

NOTHING: Mapping[str, str] = MappingProxyType({})
VERSIONS: Mapping[int, int] = MappingProxyType({BuiltinOperator.CONV_2D: 3, BuiltinOperator.FULLY_CONNECTED: 4})
"""First versions of the operators that take int8; of all others it is 2."""
WIDE_VERSIONS: Mapping[int, int] = MappingProxyType({BuiltinOperator.FULLY_CONNECTED: 7})
"""First versions of the operators that take int16, with scales of any size; of all others it is 3."""
POOL_STEP = 64
"""What stands for one share of a mean in the weights of a pool; the unit is as much smaller."""


def write_plan(lowered: InferenceGraph, plan: Int8Plan, metadata: Mapping[str, str] = NOTHING) -> bytes:
    """Write a student as an int8 TFLite model.

    Args:
        lowered: The student, without batch normalisation.
        plan: How it is rounded.
        metadata: Stored as one JSON object in the metadata entry ``edgeser``.

    Returns:
        The content of the file.
    """
    return write_lowered(lowered, Int8(lowered, plan), metadata)


class Int8(Float32):
    """Whole numbers, as a plan rounds them."""

    def __init__(self, lowered: InferenceGraph, plan: Int8Plan) -> None:
        """Join what is written with how it is rounded."""
        self.plan, self.shapes = plan, lowered.graph.shapes

    def activation(self, file: TfliteFile, name: str, of: str, shape: Shape) -> int:
        """Add a tensor that the runtime computes."""
        return _tensor(file, f"{name}.steps", shape, self.plan.activations[of])

    def entered(self, file: TfliteFile, number: int, name: str, shape: Shape) -> int:
        """The tensor, rounded where the plan rounds it."""
        if name not in self.plan.activations:
            return number
        rounded = self.activation(file, name, name, shape)
        file.operator(BuiltinOperator.QUANTIZE, [number], rounded, "QuantizeOptions")
        return rounded

    def left(self, file: TfliteFile, number: int, name: str, shape: Shape) -> int:
        """The tensor in float32."""
        if name not in self.plan.activations:
            return number
        plain = file.tensor(name, shape)
        version = 3 if is_wide(shape[1:]) else 2
        file.operator(BuiltinOperator.DEQUANTIZE, [number], plain, "DequantizeOptions", version)
        return plain

    def read(self, file: TfliteFile, number: int, source: str, op: Op) -> int:
        """The tensor itself, in float32 for a softmax, or in sixteen bits where those are computed from eight.

        It goes by way of float32, which holds both exactly: not every interpreter has a direct way.
        """
        if isinstance(op, Softmax):
            return self.left(file, number, source, (1, *self.shapes[source]))
        if is_wide(self.shapes[source]) or not is_wide(self.shapes[op.name]):
            return number
        how = self.plan.activations[op.name] if keeps_scale(op) else self.plan.activations[source].widened
        channels, *rest = self.shapes[source]
        plain = file.tensor(f"{source}.plain", (1, *rest, channels))
        file.operator(BuiltinOperator.DEQUANTIZE, [number], plain, "DequantizeOptions", 2)
        wide = _tensor(file, f"{source}.wide", (1, *rest, channels), how)
        file.operator(BuiltinOperator.QUANTIZE, [plain], wide, "QuantizeOptions")
        return wide

    def mean_pool(self, file: TfliteFile, op: Pool, number: int, output: int, channels: int) -> None:
        """A convolution of each channel with equal weights: a pool of TFLite's could not change the scale."""
        share = np.float32(1 / (POOL_STEP * op.size**2))
        read = self.plan.activations[op.source].scale
        weight = np.full((1, op.size, op.size, channels), POOL_STEP, np.int8)
        inputs = [
            number,
            file.constant(f"{op.name}.shares", weight, Quantisation(np.array([share]))),
            file.constant(f"{op.name}.zeros", np.zeros(channels, np.int32), Quantisation(np.array([share * read]))),
        ]
        settings = {"padding": Padding.VALID, "strideH": op.size, "strideW": op.size, "depthMultiplier": 1}
        code = BuiltinOperator.DEPTHWISE_CONV_2D
        file.operator(code, inputs, output, "DepthwiseConv2DOptions", 3, **settings)

    def parameters(
        self,
        file: TfliteFile,
        op: Conv | Linear,
        weight: NDArray[np.float32],
        bias: NDArray[np.float32],  # noqa: ARG002  the plan has them
    ) -> tuple[int, int]:
        """Add the rounded weight and bias of ``op``."""
        parts = self.plan.parameters[op.name]
        steps = parts.weight.transpose(0, 2, 3, 1) if weight.ndim == 4 else parts.weight
        units = parts.bias_scales if len(parts.scales) > 1 else parts.bias_scales[:1]
        return (
            file.constant(f"{op.name}.weight", np.ascontiguousarray(steps), Quantisation(parts.scales)),
            file.constant(f"{op.name}.bias", parts.bias, Quantisation(units)),
        )

    def version(self, code: int, of: str) -> int:
        """Version of the operator ``code`` that computes the op graph's tensor ``of``."""
        return WIDE_VERSIONS.get(code, 3) if is_wide(self.shapes[of]) else VERSIONS.get(code, 2)


def _tensor(file: TfliteFile, name: str, shape: Shape, how: Affine) -> int:
    steps = Quantisation(np.array([how.scale], np.float32), how.zero)
    return file.tensor(name, shape, np.int16 if how.bits > 8 else np.int8, steps)
