"""A speech encoder, alone or with a head behind it, as an ONNX file: mels of one window in, one vector out.

    data = write_encoder(graph, weights, {"name": "smart-turn-2"})

The file has two inputs: ``mel``, float32 (windows, mels, frames), zero where a window is shorter; and ``tokens``, int64
(windows,), the number of real tokens of each window. Its output ``vector`` is float32 (windows, size).
Padding is masked in attention and left out of the moments, so that a short window gives what it would give alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeser_export.graph.encoder_graph import MASKED, VECTOR, whisper_graph
from edgeser_export.graph.op_graph import (
    INPUT,
    MEL,
    NORM_EPSILON,
    TOKENS,
    Add,
    Attention,
    Concat,
    Conv1d,
    Gelu,
    Graph,
    LayerNorm,
    Linear,
    Moments,
    Offset,
    Op,
    Relu,
    Softmax,
    TokenLinear,
    Tokens,
    Weights,
    sources,
)
from edgeser_export.utilities.errors import GraphError
from edgeser_export.writers.formats import NOTHING, Precision
from edgeser_export.writers.onnx_nodes import INFERENCE_OPSET, Nodes, floats, model_bytes, weight_constants
from edgeser_export.writers.rounding import round_rows

UNSIGNED = 128
"""Added to signed numbers of eight bits where they are stored as unsigned ones."""


def write_encoder(
    graph: Graph, weights: Weights, metadata: Mapping[str, str] = NOTHING, precision: Precision = "float32"
) -> bytes:
    """An encoder as an ONNX model of opset 17; equal arguments give equal bytes.

    Args:
        graph: An encoder, alone or with a head behind it (:func:`edgeser_export.graph.encoder_graph.joined`).
        weights: Its parameters.
        metadata: Stored as the model's ``metadata_props``, sorted by key.
        precision: In "int8" the weights of convolutions and of dense layers over tokens have eight bits; activations
            are float32, and such a dense layer rounds what it reads by the range of that window.

    Raises:
        GraphError: The weights do not fit the graph, or the graph holds an operation that no encoder has.
    """
    graph.check(weights)
    writer = _Writer(graph, weights, precision)
    mels, frames = graph.input_shape
    tokens = helper.make_tensor_value_info(TOKENS, TensorProto.INT64, ["windows"])
    inputs = [*floats([(MEL, ["windows", mels, frames])]), tokens]
    outputs = floats([(writer.output, ["windows", *graph.shapes[graph.output]])])
    constants = [*weight_constants(writer.stored), *writer.nodes.constants]
    return model_bytes("encoder", writer.nodes.written, inputs, outputs, constants, metadata, INFERENCE_OPSET)


class _Writer:
    """The nodes of an encoder, written an operation at a time."""

    def __init__(self, graph: Graph, weights: Weights, precision: Precision) -> None:
        self.graph, self.nodes, self.in_int8 = graph, Nodes(), precision == "int8"
        self.output = graph.output if isinstance(graph.ops[-1], Softmax) else VECTOR
        across = _across(graph)
        self.stored: dict[str, NDArray[Any]] = {
            name: weights[name].T if name in across else weights[name] for name in weights if name in graph.parameters
        }
        nodes, one = self.nodes, self.nodes.integers([1])
        tokens = next(graph.shapes[op.name][0] for op in graph.ops if isinstance(op, Tokens))
        count = nodes.add("Unsqueeze", TOKENS, one)
        places = nodes.constant(np.arange(tokens, dtype=np.int64)[None])
        real = nodes.add("Cast", nodes.add("Less", places, count), to=TensorProto.FLOAT)
        absent = nodes.add("Mul", nodes.add("Sub", real, nodes.number(1)), nodes.number(-MASKED))
        self.bias = nodes.add("Unsqueeze", absent, nodes.integers([1, 2]))
        """0 for a token and ``MASKED`` elsewhere, (windows, 1, 1, tokens)."""
        self.row = nodes.add("Unsqueeze", real, one)
        """1 for a token and 0 elsewhere, (windows, 1, tokens)."""
        self.count = nodes.add("Unsqueeze", nodes.add("Cast", count, to=TensorProto.FLOAT), nodes.integers([2]))
        """Number of tokens, (windows, 1, 1)."""
        names = {INPUT: MEL}
        for op in graph.ops:
            into = self.output if op.name == graph.output else ""
            names[op.name] = self.operation(op, [names[source] for source in sources(op)], into)

    def operation(self, op: Op, reads: Sequence[str], into: str) -> str:
        """Write an operation; the name of its tensor, ``into`` where that is given."""
        match op:
            case Gelu():
                return self.gelu(reads[0], into)
            case Attention():
                return self.attention(op, reads, into)
            case Moments():
                return self.moments(reads[0], into)
            case TokenLinear():
                product = self.product(reads[0], f"{op.name}.weight")
                return self.nodes.add("Add", product, f"{op.name}.bias", into=into)
            case Softmax():
                scores = self.nodes.add("Div", reads[0], self.nodes.number(op.temperature))
                return self.nodes.add("Softmax", scores, into=into, axis=-1)
            case _:
                kind, attributes = _plain_node(op)
                names = (f"{op.name}.weight", f"{op.name}.bias")
                parts = [name for name in names if name in self.graph.parameters]
                if self.in_int8 and isinstance(op, Conv1d):
                    parts[0] = self.nodes.add("DequantizeLinear", *self.rounded(parts[0], 0), axis=0)
                return self.nodes.add(kind, *reads, *parts, into=into, **attributes)

    def rounded(self, name: str, axis: int) -> tuple[str, str]:
        """Store a weight in eight bits; the names of its steps and of their sizes along ``axis``."""
        steps, sizes = round_rows(np.moveaxis(self.stored[name], axis, 0))
        self.stored |= {name: np.moveaxis(steps, 0, axis), f"{name}.scale": sizes}
        return name, f"{name}.scale"

    def product(self, source: str, name: str) -> str:
        """The product of tokens and a weight, (windows, tokens, features)."""
        nodes = self.nodes
        if not self.in_int8:
            return nodes.add("MatMul", source, name)
        steps, sizes = self.rounded(name, axis=1)
        # x86 processors without VNNI cut off sums of unsigned and signed numbers of eight bits; of two unsigned, not.
        self.stored[steps] = (self.stored[steps].astype(np.int16) + UNSIGNED).astype(np.uint8)
        levels, scale, zero = nodes.add_many("DynamicQuantizeLinear", 3, source)
        total = nodes.add("MatMulInteger", levels, steps, zero, nodes.constant(np.array(UNSIGNED, np.uint8)))
        return nodes.add("Mul", nodes.add("Cast", total, to=TensorProto.FLOAT), nodes.add("Mul", scale, sizes))

    def gelu(self, source: str, into: str) -> str:
        nodes = self.nodes
        error = nodes.add("Erf", nodes.add("Div", source, nodes.number(np.sqrt(2))))
        grown = nodes.add("Mul", source, nodes.add("Add", error, nodes.number(1)))
        return nodes.add("Mul", grown, nodes.number(0.5), into=into)

    def attention(self, op: Attention, reads: Sequence[str], into: str) -> str:
        nodes, (tokens, channels) = self.nodes, self.graph.shapes[op.name]
        width = channels // op.heads
        split, orders = nodes.integers([0, tokens, op.heads, width]), ((0, 2, 1, 3), (0, 2, 3, 1), (0, 2, 1, 3))
        queries, keys, values = (
            nodes.add("Transpose", nodes.add("Reshape", read, split), perm=order)
            for read, order in zip(reads, orders, strict=True)
        )
        scores = nodes.add("Mul", nodes.add("MatMul", queries, keys), nodes.number(1 / np.sqrt(width)))
        shares = nodes.add("Softmax", nodes.add("Add", scores, self.bias), axis=-1)
        joined = nodes.add("Transpose", nodes.add("MatMul", shares, values), perm=(0, 2, 1, 3))
        return nodes.add("Reshape", joined, nodes.integers([0, tokens, channels]), into=into)

    def moments(self, source: str, into: str) -> str:
        nodes = self.nodes
        mean = nodes.add("Div", nodes.add("MatMul", self.row, source), self.count)  # (windows, 1, channels)
        centred = nodes.add("Sub", source, mean)
        squares = nodes.add("MatMul", self.row, nodes.add("Mul", centred, centred))
        spread = nodes.add("Sqrt", nodes.add("Div", squares, nodes.add("Sub", self.count, nodes.number(1))))
        return nodes.add("Squeeze", nodes.concat([mean, spread], 2), nodes.integers([1]), into=into)


def read_encoder(data: bytes) -> tuple[Graph, dict[str, NDArray[np.float32]]]:
    """The graph and the weights of a float32 file of :func:`write_encoder`, by the names of its constants.

    The nodes are not read: compare what the graph computes with what the file computes.

    Raises:
        GraphError: The file lacks a weight of such an encoder.
    """
    try:
        model = onnx.load_from_string(data)
        found = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
        mels, frames = (each.dim_value for each in model.graph.input[0].type.tensor_type.shape.dim[1:])
        width, hidden = found["block1.up.weight"].shape
        splits = (value.tolist() for value in found.values() if value.shape == (4,) and value.dtype == np.int64)
        heads = next(heads for _, tokens, heads, own in splits if (2 * tokens, heads * own) == (frames, width))
        taps = [number for number in range(1, len(found)) if f"block{number}.tap.weight" in found]
        graph = whisper_graph(mels=mels, frames=frames, width=width, heads=heads, hidden=hidden, taps=taps)
        across = _across(graph)
        stored = {name: found[name].T if name in across else found[name] for name in graph.parameters}
        weights = {name: np.ascontiguousarray(value) for name, value in stored.items()}
        graph.check(weights)
    except Exception as error:  # protobuf's errors are of no public class
        raise GraphError(
            "the encoder's file does not hold the weights of a Whisper encoder",
            "only named encoders, and those that were added from Whisper's weights, can be written again",
        ) from error
    return graph, weights


def _across(graph: Graph) -> set[str]:
    """Names of the weights that a file holds with the input channel first."""
    return {f"{op.name}.weight" for op in graph.ops if isinstance(op, TokenLinear)}


def _plain_node(op: Op) -> tuple[str, dict[str, Any]]:
    """The ONNX operator of an operation that is one node, and its attributes."""
    match op:
        case Conv1d():
            return "Conv", {"kernel_shape": [op.kernel], "strides": [op.stride], "pads": [op.padding] * 2}
        case Tokens():
            return "Transpose", {"perm": [0, 2, 1]}
        case LayerNorm():
            return "LayerNormalization", {"axis": -1, "epsilon": NORM_EPSILON}
        case Offset() | Add():
            return "Add", {}
        case Concat():
            return "Concat", {"axis": 1}
        case Linear():
            return "Gemm", {"transB": 1}
        case Relu():
            return "Relu", {}
        case _:
            raise GraphError(f"no encoder has the operation {op.name!r}", "correct the architecture")
