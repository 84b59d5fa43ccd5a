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
import onnx
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
from edgeser_export.writers.onnx_nodes import INFERENCE_OPSET, floats, model_bytes, weight_constants

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
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, NDArray[np.generic]] = {}
    _Writer(graph, weights, nodes, constants).write()
    mels, frames = graph.input_shape
    tokens = helper.make_tensor_value_info(TOKENS, TensorProto.INT64, ["windows"])
    inputs = [*floats([(MEL, ["windows", mels, frames])]), tokens]
    outputs = floats([(VECTOR, ["windows", *graph.shapes[graph.output]])])
    return model_bytes("encoder", nodes, inputs, outputs, weight_constants(constants), metadata, INFERENCE_OPSET)


class _Writer:
    """Appends the nodes of an encoder, an operation at a time."""

    def __init__(
        self,
        graph: Graph,
        weights: Weights,
        nodes: list[onnx.NodeProto],
        constants: dict[str, NDArray[np.generic]],
    ) -> None:
        self.graph, self.weights, self.nodes, self.constants = graph, weights, nodes, constants
        last = graph.output
        self.names = {INPUT: MEL} | {op.name: VECTOR if op.name == last else f"{op.name}:0" for op in graph.ops}

    def write(self) -> None:
        tokens = next(self.graph.shapes[op.name][0] for op in self.graph.ops if isinstance(op, Tokens))
        self.constant("mask.places", np.arange(tokens, dtype=np.int64)[None])
        self.constant("mask.column", np.array([1], dtype=np.int64))
        count = self.node("Unsqueeze", [TOKENS, "mask.column"], "mask.count")
        real = self.node("Cast", [self.node("Less", ["mask.places", count], "mask.bool")], "mask.real", to=1)
        self.constant("mask.one", np.float32(1))
        self.constant("mask.least", np.float32(-MASKED))
        absent = self.node("Sub", [real, "mask.one"], "mask.absent")
        scaled = self.node("Mul", [absent, "mask.least"], "mask.scaled")
        self.constant("mask.heads", np.array([1, 2], dtype=np.int64))
        self.node("Unsqueeze", [scaled, "mask.heads"], "mask.bias")  # (windows, 1, 1, tokens)
        self.node("Unsqueeze", [real, "mask.column"], "mask.row")  # (windows, 1, tokens)
        self.node("Cast", [count], "mask.number", to=1)  # (windows, 1)
        for op in self.graph.ops:
            self.operation(op)

    def operation(self, op: Op) -> None:
        reads, out = [self.names[source] for source in sources(op)], self.names[op.name]
        match op:
            case Gelu():
                self.gelu(reads[0], out)
            case Attention():
                self.attention(op, reads, out)
            case Moments():
                self.moments(reads[0], out)
            case TokenLinear():
                self.constant(f"{op.name}.weight", self.weights[f"{op.name}.weight"].T)
                product = self.node("MatMul", [*reads, f"{op.name}.weight"], f"{op.name}:product")
                self.node("Add", [product, self.weight(f"{op.name}.bias")], out)
            case _:
                kind, attributes = _plain_node(op)
                parts = [name for name in (f"{op.name}.weight", f"{op.name}.bias") if name in self.weights]
                self.node(kind, [*reads, *map(self.weight, parts)], out, **attributes)

    def gelu(self, source: str, out: str) -> None:
        for name, value in (("gelu.root", np.sqrt(2)), ("gelu.one", 1), ("gelu.half", 0.5)):
            self.constant(name, np.float32(value))
        inner = self.node("Erf", [self.node("Div", [source, "gelu.root"], f"{out}:divided")], f"{out}:erf")
        grown = self.node("Mul", [source, self.node("Add", [inner, "gelu.one"], f"{out}:plus")], f"{out}:grown")
        self.node("Mul", [grown, "gelu.half"], out)

    def attention(self, op: Attention, reads: Sequence[str], out: str) -> None:
        tokens, channels = self.graph.shapes[op.name]
        width = channels // op.heads
        self.constant("split", np.array([0, tokens, op.heads, width], dtype=np.int64))
        self.constant("join", np.array([0, tokens, channels], dtype=np.int64))
        self.constant("scale", np.float32(1 / np.sqrt(width)))
        orders = {"query": [0, 2, 1, 3], "key": [0, 2, 3, 1], "value": [0, 2, 1, 3]}
        parts = [
            self.node(
                "Transpose", [self.node("Reshape", [read, "split"], f"{out}:{part}.split")], f"{out}:{part}", perm=order
            )
            for read, (part, order) in zip(reads, orders.items(), strict=True)
        ]
        scores = self.node("Mul", [self.node("MatMul", parts[:2], f"{out}:product"), "scale"], f"{out}:scores")
        shares = self.node(
            "Softmax", [self.node("Add", [scores, "mask.bias"], f"{out}:masked")], f"{out}:shares", axis=-1
        )
        mixed = self.node("MatMul", [shares, parts[2]], f"{out}:mixed")
        self.node("Reshape", [self.node("Transpose", [mixed], f"{out}:joined", perm=[0, 2, 1, 3]), "join"], out)

    def moments(self, source: str, out: str) -> None:
        self.constant("moments.row", np.array([1], dtype=np.int64))
        self.constant("moments.column", np.array([2], dtype=np.int64))
        total = self.node("MatMul", ["mask.row", source], f"{out}:total")  # (windows, 1, channels)
        number = self.node("Unsqueeze", ["mask.number", "moments.column"], f"{out}:number")
        mean = self.node("Div", [total, number], f"{out}:mean")
        centred = self.node("Sub", [source, mean], f"{out}:centred")
        squares = self.node("Mul", [centred, centred], f"{out}:squares")
        less = self.node("Sub", [number, "mask.one"], f"{out}:less")
        variance = self.node("Div", [self.node("MatMul", ["mask.row", squares], f"{out}:sum"), less], f"{out}:variance")
        spread = self.node("Sqrt", [variance], f"{out}:spread")
        both = self.node("Concat", [mean, spread], f"{out}:both", axis=2)
        self.node("Squeeze", [both, "moments.row"], out)

    def weight(self, name: str) -> str:
        return self.constant(name, self.weights[name])

    def constant(self, name: str, value: NDArray[np.generic] | np.generic) -> str:
        self.constants.setdefault(name, np.asarray(value))
        return name

    def node(self, kind: str, reads: Sequence[str], out: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(reads), [out], name=out, **attributes))
        return out


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
