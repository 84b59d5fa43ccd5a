"""A speech encoder as an op graph, and as an ONNX file: mels of one window in, one vector out.

    graph = whisper_graph(mels=80, frames=300, width=384, heads=6, hidden=1536, taps=(1, 2))
    data = write_encoder(graph, weights, {"name": "smart-turn-2"})

The file has two inputs: ``mel``, float32 (windows, mels, frames), zero where a window is shorter; and ``tokens``, int64
(windows,), the number of real tokens of each window. Its output ``vector`` is float32 (windows, size).
Padding is masked in attention and left out of the moments, so that a short window gives what it would give alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgeser_export.graph.op_graph import (
    INPUT,
    NORM_EPSILON,
    Add,
    Attention,
    Concat,
    Conv1d,
    Gelu,
    Graph,
    LayerNorm,
    Moments,
    Offset,
    Op,
    TokenLinear,
    Tokens,
    Weights,
    sources,
)
from edgeser_export.graph.reference import compute
from edgeser_export.utilities.errors import GraphError
from edgeser_export.writers.onnx_nodes import INFERENCE_OPSET, Nodes, floats, model_bytes, weight_constants

MEL, TOKENS, VECTOR = "mel", "tokens", "vector"
"""Names of the file's inputs and of its output."""
FRAMES_PER_TOKEN = 2
"""The second convolution has a stride of two."""
MASKED = -1e9
"""The score that attention adds where there is no token: its softmax is 0 there in float32."""
NOTHING: Mapping[str, str] = MappingProxyType({})


def whisper_graph(*, mels: int, frames: int, width: int, heads: int, hidden: int, taps: Sequence[int]) -> Graph:
    """The op graph of Whisper's encoder (Radford et al. 2022, arXiv 2212.04356) up to its last tap.

    A tap after block b is what the next layer normalisation gives: the input of block b + 1.

    Args:
        mels: Mel bands.
        frames: Frames of a window, an even number.
        width: Channels of a token.
        heads: Heads of attention; they divide ``width``.
        hidden: Channels inside a block's dense part.
        taps: Blocks after which moments are taken, the first block being 1, in rising order.

    Raises:
        GraphError: The sizes do not fit together.
    """
    if frames % FRAMES_PER_TOKEN or not taps or list(taps) != sorted(set(taps)) or min(taps) < 1:
        raise GraphError(f"an encoder of {frames} frames with taps {tuple(taps)}", "use even frames and rising taps")
    ops: list[Op] = [
        Conv1d("conv1", INPUT, width, 3, padding=1),
        Gelu("conv1.gelu", "conv1"),
        Conv1d("conv2", "conv1.gelu", width, 3, stride=FRAMES_PER_TOKEN, padding=1),
        Gelu("conv2.gelu", "conv2"),
        Tokens("tokens", "conv2.gelu"),
        Offset("position", "tokens"),
    ]
    before, moments = "position", []
    for number in range(1, max(taps) + 1):
        block = f"block{number}"
        ops += _block(block, before, width, heads, hidden)
        before = f"{block}.sum"
        if number in taps:
            ops += [LayerNorm(f"{block}.tap", before), Moments(f"{block}.moments", f"{block}.tap")]
            moments.append(f"{block}.moments")
    if len(moments) > 1:
        ops.append(Concat(VECTOR, tuple(moments)))
    return Graph((mels, frames), tuple(ops))


def _block(name: str, source: str, width: int, heads: int, hidden: int) -> Iterator[Op]:
    yield LayerNorm(f"{name}.norm1", source)
    for part in ("query", "key", "value"):
        yield TokenLinear(f"{name}.{part}", f"{name}.norm1", width)
    yield Attention(f"{name}.attention", (f"{name}.query", f"{name}.key", f"{name}.value"), heads)
    yield TokenLinear(f"{name}.out", f"{name}.attention", width)
    yield Add(f"{name}.attended", (source, f"{name}.out"))
    yield LayerNorm(f"{name}.norm2", f"{name}.attended")
    yield TokenLinear(f"{name}.up", f"{name}.norm2", hidden)
    yield Gelu(f"{name}.gelu", f"{name}.up")
    yield TokenLinear(f"{name}.down", f"{name}.gelu", width)
    yield Add(f"{name}.sum", (f"{name}.attended", f"{name}.down"))


def encode_reference(graph: Graph, weights: Weights, mel: NDArray[np.float32]) -> NDArray[np.float64]:
    """The vector of one window in float64, computed without padding: what the written file is compared with.

    Args:
        graph: An encoder.
        weights: Its parameters.
        mel: Real frames only, (mels, an even number of frames), at most as many as the graph has.

    Returns:
        float64 (size,).

    Raises:
        GraphError: The weights do not fit the graph, or there are too many frames.
    """
    graph.check(weights)
    if mel.shape[0] != graph.input_shape[0] or not 0 < mel.shape[1] <= graph.input_shape[1]:
        raise GraphError(f"a window of the shape {mel.shape}, not {graph.input_shape}", "compute the mels again")
    wide = {name: weights[name].astype(np.float64) for name in graph.parameters}
    tensors = {INPUT: mel.astype(np.float64)}
    for op in graph.ops:
        tensors[op.name] = compute(op, [tensors[source] for source in sources(op)], wide)
    return tensors[graph.output]


def write_encoder(graph: Graph, weights: Weights, metadata: Mapping[str, str] = NOTHING) -> bytes:
    """An encoder as a float32 ONNX model of opset 17; equal arguments give equal bytes.

    Raises:
        GraphError: The weights do not fit the graph, or the graph holds an operation that no encoder has.
    """
    graph.check(weights)
    writer = _Writer(graph)
    mels, frames = graph.input_shape
    tokens = helper.make_tensor_value_info(TOKENS, TensorProto.INT64, ["windows"])
    inputs = [*floats([(MEL, ["windows", mels, frames])]), tokens]
    outputs = floats([(VECTOR, ["windows", *graph.shapes[graph.output]])])
    across = {f"{op.name}.weight" for op in graph.ops if isinstance(op, TokenLinear)}
    stored = {name: value.T if name in across else value for name, value in weights.items() if name in graph.parameters}
    constants = [*weight_constants(stored), *writer.nodes.constants]
    return model_bytes("encoder", writer.nodes.written, inputs, outputs, constants, metadata, INFERENCE_OPSET)


class _Writer:
    """The nodes of an encoder, written an operation at a time."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.nodes = graph, Nodes()
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
            into = VECTOR if op.name == graph.output else ""
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
                product = self.nodes.add("MatMul", *reads, f"{op.name}.weight")
                return self.nodes.add("Add", product, f"{op.name}.bias", into=into)
            case _:
                kind, attributes = _plain_node(op)
                names = (f"{op.name}.weight", f"{op.name}.bias")
                parts = [name for name in names if name in self.graph.parameters]
                return self.nodes.add(kind, *reads, *parts, into=into, **attributes)

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
        case _:
            raise GraphError(f"no encoder has the operation {op.name!r}", "correct the architecture")
