"""An op graph as an ONNX file for inference in eight bits: tensors quantised and dequantised around every operation.

    lowered = lower(graph, weights)
    data = write_plan(lowered, plan_int8(lowered, items), {"labels": "[]"})

Names, inputs and outputs are those of :mod:`edgeser_export.onnx`, in float32: the file takes the place of the other.
Between a QuantizeLinear and a DequantizeLinear onnxruntime computes in int8, activations and weights signed, as ARM's
kernels like it best. What is no map any more stays in float32 there: it has no kernels for sixteen bits. So do levels
in dB before they are normalised, and probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgeser_export.graph import INPUT, Conv, Linear, Op, sources
from edgeser_export.lowering import InferenceGraph, numbers_of
from edgeser_export.onnx import inference_model, nodes_of
from edgeser_export.quantize import Affine, Int8Plan, is_wide

NOTHING: Mapping[str, str] = MappingProxyType({})


def write_plan(lowered: InferenceGraph, plan: Int8Plan, metadata: Mapping[str, str] = NOTHING) -> bytes:
    """Write a student as an int8 ONNX model.

    Args:
        lowered: The student, without batch normalisation.
        plan: How it is rounded.
        metadata: Stored as the model's ``metadata_props``, sorted by key.

    Returns:
        The content of the file.
    """
    return _Writer(lowered, plan).write(metadata)


class _Writer:
    def __init__(self, lowered: InferenceGraph, plan: Int8Plan) -> None:
        self.lowered, self.plan = lowered, plan
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def write(self, metadata: Mapping[str, str]) -> bytes:
        self._round(INPUT)
        for op in self.lowered.graph.ops:
            self._operation(op)
            self._round(op.name)
        return inference_model(self.lowered, self.nodes, list(self.constants.values()), metadata)

    def _operation(self, op: Op) -> None:
        inputs = [f"{name}.rounded" if self._is_rounded(name) else name for name in sources(op)]
        if isinstance(op, Conv | Linear):
            inputs += self._parameters(op)
        for part in numbers_of(op):
            self._constant(f"{op.name}.{part}", self.lowered.weights[f"{op.name}.{part}"])
        self.nodes += nodes_of(op, inputs)

    def _is_rounded(self, name: str) -> bool:
        return name in self.plan.activations and not is_wide(self.lowered.graph.shapes[name])

    def _round(self, name: str) -> None:
        if self._is_rounded(name):
            pair = self._affine(name, self.plan.activations[name])
            self.nodes.append(helper.make_node("QuantizeLinear", [name, *pair], [f"{name}.steps"]))
            self.nodes.append(helper.make_node("DequantizeLinear", [f"{name}.steps", *pair], [f"{name}.rounded"]))

    def _affine(self, name: str, how: Affine) -> list[str]:
        scale = self._constant(f"{name}.scale", np.array(how.scale, np.float32))
        return [scale, self._constant(f"{name}.zero", np.array(how.zero, np.int8))]

    def _parameters(self, op: Conv | Linear) -> list[str]:
        parts, found = self.plan.parameters[op.name], []
        for part, steps, scales in (
            ("weight", parts.weight, parts.scales),
            ("bias", parts.bias, parts.bias_scales if len(parts.scales) > 1 else parts.bias_scales[:1]),
        ):
            name, alone = f"{op.name}.{part}", len(scales) == 1
            inputs = [
                self._constant(name, steps),
                self._constant(f"{name}.scale", scales.reshape(()) if alone else scales),
                self._constant(f"{name}.zero", np.zeros(() if alone else len(scales), steps.dtype)),
            ]
            self.nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{name}.rounded"], axis=0))
            found.append(f"{name}.rounded")
        return found

    def _constant(self, name: str, value: NDArray[np.generic]) -> str:
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name)
        return name
