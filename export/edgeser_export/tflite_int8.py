"""An op graph as a TFLite file for inference in eight bits.

    data = write_tflite_int8(graph, weights, {"labels": "[]"}, items)

Input and outputs are those of :mod:`edgeser_export.tflite`, in float32: the file takes the place of the other. It
rounds its input, computes in int8 throughout, and turns the logits into float32 again before the softmax.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from ai_edge_litert.schema_py_generated import BuiltinOperator
from numpy.typing import NDArray

from edgeser_export.graph import INPUT, Conv, Graph, Linear, Shape, Weights
from edgeser_export.lowering import lower
from edgeser_export.quantize import Affine, Int8Plan, plan_int8
from edgeser_export.tflite import Float32, write_lowered
from edgeser_export.tflite_file import Quantisation, TfliteFile

NOTHING: Mapping[str, str] = MappingProxyType({})
VERSIONS: Mapping[int, int] = MappingProxyType(
    {BuiltinOperator.CONV_2D: 3, BuiltinOperator.FULLY_CONNECTED: 4, BuiltinOperator.QUANTIZE: 1}
)
"""First versions of the operators that take int8; of all others it is 2."""


def write_tflite_int8(
    graph: Graph, weights: Weights, metadata: Mapping[str, str] = NOTHING, items: NDArray[np.float32] | None = None
) -> bytes:
    """Write ``graph`` with ``weights`` as an int8 TFLite model, calibrated on ``items``.

    Args:
        graph: The op graph, with or without batch normalisation.
        weights: Its parameters and running statistics.
        metadata: Stored as one JSON object in the metadata entry ``edgeser``.
        items: Float32 (items, channels, height, width).

    Returns:
        The content of the file.

    Raises:
        GraphError: The weights do not fit the graph, or the graph is none for inference.
        ExportError: There are no items.
        MissingRuntime: onnxruntime, which calibrates, is missing.
    """
    lowered = lower(graph, weights)
    plan = plan_int8(lowered, np.zeros((0, *graph.input_shape), np.float32) if items is None else items)
    return write_lowered(lowered, Int8(plan), metadata)


class Int8(Float32):
    """Numbers in eight bits, as a plan rounds them."""

    def __init__(self, plan: Int8Plan) -> None:
        self.plan = plan

    def activation(self, file: TfliteFile, name: str, of: str, shape: Shape) -> int:
        """Add a tensor that the runtime computes."""
        return file.tensor(f"{name}.steps", shape, np.int8, _steps(self.plan.activations[of]))

    def entered(self, file: TfliteFile, number: int, name: str, shape: Shape) -> int:
        """The input, rounded."""
        rounded = self.activation(file, name, INPUT, shape)
        file.operator(BuiltinOperator.QUANTIZE, [number], rounded, "QuantizeOptions")
        return rounded

    def left(self, file: TfliteFile, number: int, name: str, shape: Shape) -> int:
        """The logits in float32."""
        plain = file.tensor(name, shape)
        file.operator(BuiltinOperator.DEQUANTIZE, [number], plain, "DequantizeOptions", 2)
        return plain

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

    def version(self, code: int) -> int:
        """Version of the operator ``code``."""
        return VERSIONS.get(code, 2)


def _steps(how: Affine) -> Quantisation:
    return Quantisation(np.array([how.scale], np.float32), how.zero)
