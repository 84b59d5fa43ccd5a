"""An op graph as an ONNX file for inference.

    data = write_onnx(graph, weights, {"labels": '["angry", "calm"]'})

Input ``x``: float32 (items, channels, height, width), any number of items. Outputs ``logits`` and ``probabilities``:
float32 (items, classes). Batch normalisation is folded. Equal arguments give equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeser_export.graph import INPUT, Add, Concat, Conv, Linear, Op, Pool, Reduce, Relu, Weights, sources
from edgeser_export.graph import Graph as OpGraph
from edgeser_export.lowering import LOGITS, OUTPUTS, PROBABILITIES, InferenceGraph, lower

OPSET = 17
"""The last opset in which reductions carry their axes as attributes; every onnxruntime since 1.12 runs it."""
IR_VERSION = 8
"""What belongs to opset 17; onnx writes its newest by default, which older runtimes refuse."""
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
    lowered = lower(graph, weights)
    nodes = [*_nodes(lowered), helper.make_node("Softmax", [LOGITS], [PROBABILITIES], name=PROBABILITIES, axis=1)]
    return inference_model(lowered, nodes, _constants(lowered), metadata)


def write_every_tensor(lowered: InferenceGraph) -> bytes:
    """A model that computes the output of every operation, by their names in the file; for calibration."""
    model = onnx.load_from_string(
        inference_model(lowered, [*_nodes(lowered)], _constants(lowered), NOTHING, OUTPUTS[:1])
    )
    known = {output.name for output in model.graph.output}
    for op in lowered.graph.ops:
        name = lowered.names[op.name]
        if name not in known:
            model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def inference_model(
    lowered: InferenceGraph,
    nodes: Sequence[onnx.NodeProto],
    constants: Sequence[onnx.TensorProto],
    metadata: Mapping[str, str],
    outputs: Sequence[str] = OUTPUTS,
) -> bytes:
    """The content of a file: one input "x", outputs a row of classes an item, all float32."""
    body = helper.make_graph(
        nodes=nodes,
        name="student",
        inputs=[helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["items", *lowered.graph.input_shape])],
        outputs=[
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["items", lowered.classes]) for name in outputs
        ],
        initializer=constants,
    )
    model = helper.make_model(
        body, producer_name="edgeser", ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)]
    )
    helper.set_model_props(model, dict(sorted(metadata.items())))
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _constants(lowered: InferenceGraph) -> list[onnx.TensorProto]:
    return [
        numpy_helper.from_array(np.ascontiguousarray(lowered.weights[name]), name) for name in lowered.graph.parameters
    ]


def _nodes(lowered: InferenceGraph) -> Iterator[onnx.NodeProto]:
    for op in lowered.graph.ops:
        kind, attributes = attributes_of(op)
        parts = [f"{op.name}.{part}" for part in ("weight", "bias")]
        yield helper.make_node(
            kind,
            [lowered.names[source] for source in sources(op)] + [part for part in parts if part in lowered.weights],
            [lowered.names[op.name]],
            name=op.name,
            **attributes,
        )


def attributes_of(op: Op) -> tuple[str, dict[str, Any]]:
    """The ONNX operator of an operation, and its attributes."""
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
        case _:
            raise TypeError(f"no ONNX operator is written for {op}")
