"""An op graph as an ONNX file for inference.

    data = write_onnx(graph, weights, {"labels": '["angry", "calm"]'})

Input ``x``: float32 (items, channels, height, width), any number of items. The one output is named after the last
operation: float32 (items, classes). Batch normalisation is folded. Equal arguments give equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeser_export.graph.op_graph import (
    INPUT,
    Add,
    Concat,
    Conv,
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
from edgeser_export.graph.op_graph import Graph as OpGraph
from edgeser_export.graph.transform import InferenceGraph, for_inference, numbers_of
from edgeser_export.writers.onnx_nodes import INFERENCE_OPSET, floats, model_bytes, weight_constants
from edgeser_export.writers.rounding import Affine, Int8Plan, is_wide

NOTHING: Mapping[str, str] = MappingProxyType({})


def write_onnx(graph: OpGraph, weights: Weights, metadata: Mapping[str, str] = NOTHING) -> bytes:
    """Write ``graph`` with ``weights`` as a float32 ONNX model.

    Args:
        graph: The op graph, with or without batch normalisation.
        weights: Its parameters and running statistics.
        metadata: Stored as the model's ``metadata_props``, sorted by key.

    Returns:
        The content of the file.

    Raises:
        GraphError: The weights do not fit the graph, or the graph is none for inference.
    """
    return _float32_model(for_inference(graph, weights), metadata)


def write_every_tensor(inference: InferenceGraph) -> bytes:
    """A model that computes the output of every operation, by their names in the file; for calibration."""
    model = onnx.load_from_string(_float32_model(inference, NOTHING))
    for op in inference.graph.ops[:-1]:
        model.graph.output.append(helper.make_tensor_value_info(op.name, TensorProto.FLOAT, None))
    return bytes(model.SerializeToString(deterministic=True))


def inference_model(
    inference: InferenceGraph,
    nodes: Iterable[onnx.NodeProto],
    constants: Iterable[onnx.TensorProto],
    metadata: Mapping[str, str],
) -> bytes:
    """The content of a file: one input "x", one output with a row of classes an item, both float32."""
    graph = inference.graph
    inputs, outputs = (
        floats([(INPUT, ("items", *graph.input_shape))]),
        floats([(graph.output, ("items", inference.classes))]),
    )
    return model_bytes("student", nodes, inputs, outputs, constants, metadata, INFERENCE_OPSET)


def _float32_model(inference: InferenceGraph, metadata: Mapping[str, str]) -> bytes:
    nodes: list[onnx.NodeProto] = []
    for op in inference.graph.ops:
        parts = [f"{op.name}.{part}" for part in ("weight", "bias")]
        nodes += nodes_of(op, [*sources(op), *(part for part in parts if part in inference.weights)])
    return inference_model(inference, nodes, weight_constants(inference.weights), metadata)


def nodes_of(op: Op, inputs: Sequence[str]) -> list[onnx.NodeProto]:
    """The nodes that compute an operation from tensors of these names; the last one writes the tensor ``op.name``."""
    mean, std, temperature = (f"{op.name}.{part}" for part in ("mean", "std", "temperature"))
    kind, attributes = attributes_of(op)
    before = []
    match op:
        case Normalise():
            centred = f"{op.name}.centred"
            before, inputs = [helper.make_node("Sub", [*inputs, mean], [centred], name=centred)], [centred, std]
        case Softmax():
            scores = f"{op.name}.scores"
            before, inputs = [helper.make_node("Div", [*inputs, temperature], [scores], name=scores)], [scores]
    return [*before, helper.make_node(kind, inputs, [op.name], name=op.name, **attributes)]


def attributes_of(op: Op) -> tuple[str, dict[str, Any]]:
    """The ONNX operator that writes an operation's tensor, and its attributes."""
    match op:
        case Conv():
            square = [op.kernel] * 2
            return "Conv", {"kernel_shape": square, "strides": [op.stride] * 2, "pads": [op.padding] * 4}
        case Relu():
            return "Relu", {}
        case Pool():
            kind = "AveragePool" if op.how == "mean" else "MaxPool"
            return kind, {"kernel_shape": [op.size] * 2, "strides": [op.size] * 2}
        case Reduce():
            kind = "ReduceMean" if op.how == "mean" else "ReduceMax"
            return kind, {"axes": [axis + 1 for axis in op.axes], "keepdims": 0}
        case Concat():
            return "Concat", {"axis": 1}
        case Add():
            return "Add", {}
        case Linear():
            return "Gemm", {"transB": 1}
        case Normalise():
            return "Div", {}
        case Softmax():
            return "Softmax", {"axis": 1}
        case _:
            raise TypeError(f"no ONNX operator is written for {op}")


def write_plan(inference: InferenceGraph, plan: Int8Plan, metadata: Mapping[str, str] = NOTHING) -> bytes:
    """Write a student as an int8 ONNX model.

    Args:
        inference: The student, without batch normalisation.
        plan: The rounding of its tensors.
        metadata: Stored as the model's ``metadata_props``, sorted by key.

    Returns:
        The content of the file.
    """
    return _Writer(inference, plan).write(metadata)


class _Writer:
    def __init__(self, inference: InferenceGraph, plan: Int8Plan) -> None:
        self.inference, self.plan = inference, plan
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def write(self, metadata: Mapping[str, str]) -> bytes:
        self._round(INPUT)
        for op in self.inference.graph.ops:
            self._operation(op)
            self._round(op.name)
        return inference_model(self.inference, self.nodes, list(self.constants.values()), metadata)

    def _operation(self, op: Op) -> None:
        inputs = [f"{name}.rounded" if self._is_rounded(name) else name for name in sources(op)]
        if isinstance(op, Conv | Linear):
            inputs += self._parameters(op)
        for part in numbers_of(op):
            self._constant(f"{op.name}.{part}", self.inference.weights[f"{op.name}.{part}"])
        self.nodes += nodes_of(op, inputs)

    def _is_rounded(self, name: str) -> bool:
        return name in self.plan.activations and not is_wide(self.inference.graph.shapes[name])

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
