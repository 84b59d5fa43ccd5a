"""An op graph as an ONNX file for inference in eight bits: tensors quantised and dequantised around every operation.

    lowered = lower(graph, weights)
    data = write_plan(lowered, plan_int8(lowered, items), {"labels": "[]"})

Names, inputs and outputs are those of :mod:`edgeser_export.onnx`, in float32: the file takes the place of the other.
Between a QuantizeLinear and a DequantizeLinear onnxruntime computes in int8, activations and weights signed, as ARM's
kernels like it best. What is no map any more stays in float32 there: it has no kernels for sixteen bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgeser_export.graph import INPUT, Conv, Linear, Op, sources
from edgeser_export.lowering import LOGITS, PROBABILITIES, InferenceGraph, merged_relus
from edgeser_export.onnx import attributes_of, inference_model
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
        graph = self.lowered.graph
        merged = merged_relus(graph)
        self._rounded(INPUT, INPUT)
        for op in graph.ops:
            self._operation(op)
            if op.name not in merged and not is_wide(graph.shapes[op.name]):
                self._rounded(op.name, f"{op.name}.exact")
        self.nodes.append(helper.make_node("Softmax", [LOGITS], [PROBABILITIES], name=PROBABILITIES, axis=1))
        return inference_model(self.lowered, self.nodes, list(self.constants.values()), metadata)

    def _operation(self, op: Op) -> None:
        kind, attributes = attributes_of(op)
        # A ReLU that is merged reads what its operation computes, unrounded.
        merged = {relu: name for name, relu in merged_relus(self.lowered.graph).items()}
        inputs = [f"{merged[op.name]}.exact"] if op.name in merged else [self._read(name) for name in sources(op)]
        if isinstance(op, Conv | Linear):
            inputs += self._parameters(op)
        output = LOGITS if op.name == self.lowered.graph.output else f"{op.name}.exact"
        self.nodes.append(helper.make_node(kind, inputs, [output], name=op.name, **attributes))

    def _read(self, name: str) -> str:
        return f"{name}.exact" if is_wide(self.lowered.graph.shapes[name]) else f"{name}.rounded"

    def _rounded(self, name: str, source: str) -> None:
        pair = self._affine(name, self.plan.activations[name])
        self.nodes.append(helper.make_node("QuantizeLinear", [source, *pair], [f"{name}.steps"]))
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
