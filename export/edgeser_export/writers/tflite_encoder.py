"""A speech encoder, alone or with a head behind it, as a TFLite file: mels of one window in, one vector out.

    data = write_encoder(graph, weights, {"name": "smart-turn-2"})

The file has two inputs: ``mel``, float32 (1, mels, frames), zero where a window is shorter; and ``tokens``, int32 (1,),
the number of real tokens. Its output is float32 (1, size). Equal arguments give equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ai_edge_litert.schema_py_generated import BuiltinOperator, Padding, TensorType
from numpy.typing import NDArray

from edgeser_export.graph.encoder_graph import MASKED
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
    Shape,
    Softmax,
    TokenLinear,
    Tokens,
    Weights,
    sources,
)
from edgeser_export.utilities.errors import GraphError
from edgeser_export.writers.formats import NOTHING, Precision
from edgeser_export.writers.rounding import round_rows
from edgeser_export.writers.tflite_flatbuffer import Quantisation, TfliteFile

DENSE_VERSION, ROUNDED_DENSE_VERSION = 5, 12
"""First versions of dense layers that keep their dimensions, and of those with a step size for each output."""


def write_encoder(
    graph: Graph, weights: Weights, metadata: Mapping[str, str] = NOTHING, precision: Precision = "float32"
) -> bytes:
    """Write an encoder.

    Args:
        graph: An encoder, alone or with a head behind it (:func:`edgeser_export.graph.encoder_graph.joined`).
        weights: Its parameters.
        metadata: Stored as one JSON object in the metadata entry ``edgeser``.
        precision: In "int8" the weights of convolutions and of dense layers over tokens have eight bits; activations
            are float32, and the runtime rounds what such a dense layer reads by its range.

    Returns:
        The content of the file.

    Raises:
        GraphError: The weights do not fit the graph, or the graph holds an operation that no encoder has.
    """
    graph.check(weights)
    return _Writer(graph, weights, precision).write(metadata)


class _Writer:
    """The operators of an encoder, written an operation at a time. Tensors are known by their numbers."""

    def __init__(self, graph: Graph, weights: Weights, precision: Precision) -> None:
        self.graph, self.weights, self.in_int8 = graph, weights, precision == "int8"
        self.file = TfliteFile()
        self.row = self.column = self.count = self.absent = -1

    def write(self, metadata: Mapping[str, str]) -> bytes:
        graph, file = self.graph, self.file
        entrance, real = file.tensor(MEL, (1, *graph.input_shape)), file.tensor(TOKENS, (1,), np.int32)
        tokens = next(graph.shapes[op.name][0] for op in graph.ops if isinstance(op, Tokens))
        self._masks(real, tokens)
        # Time is the first dimension everywhere here, as convolutions of TFLite read it.
        mels, frames = graph.input_shape
        numbers = {INPUT: self._turned(entrance, "mel.time", (1, frames, mels), (0, 2, 1))}
        for op in graph.ops:
            numbers[op.name] = self._operation(op, [numbers[source] for source in sources(op)])
        file.metadata(metadata)
        return file.finish([entrance, real], [numbers[graph.output]])

    def _masks(self, real: int, tokens: int) -> None:
        """1 and 0 for a token that is there or not, and what attention adds to its scores."""
        places = self.file.constant("places", np.arange(tokens, dtype=np.int32)[None])
        there = self._operator("LESS", "there", (1, tokens), [places, real], "LessOptions", dtype=np.bool_)
        kinds = {"inDataType": TensorType.BOOL, "outDataType": TensorType.FLOAT32}
        flat = self._operator("CAST", "there.number", (1, tokens), [there], "CastOptions", **kinds)
        self.row = self._shaped(flat, "there.row", (1, 1, tokens))
        kinds["inDataType"] = TensorType.INT32
        self.count = self._operator("CAST", "count", (1,), [real], "CastOptions", **kinds)
        gap = self._operator("SUB", "absent", (1, 1, tokens), [self.row, self._number("one", 1)], "SubOptions")
        scaled = self._operator(
            "MUL", "absent.scaled", (1, 1, tokens), [gap, self._number("masked", -MASKED)], "MulOptions"
        )
        self.absent = self._shaped(scaled, "absent.scores", (1, 1, 1, tokens))

    def _operation(self, op: Op, reads: Sequence[int]) -> int:
        shape = (1, *self.graph.shapes[op.name])
        match op:
            case Conv1d():
                return self._convolution(op, reads[0])
            case Tokens():
                return reads[0]  # time is first already
            case LayerNorm():
                return self._normalisation(op, reads[0], shape)
            case Linear():
                return self._dense(op, reads[0], shape)
            case Attention():
                return self._attention(op, reads, shape)
            case Moments():
                return self._moments(op, reads[0])
            case _:
                return self._one_operator(op, reads, shape)

    def _one_operator(self, op: Op, reads: Sequence[int], shape: Shape) -> int:
        name = op.name
        match op:
            case Gelu():
                read = self.file.shape(reads[0])  # before tokens are made time is the last in the op graph, not here
                return self._operator("GELU", name, read, reads, "GeluOptions", approximate=False)
            case Offset():
                return self._operator("ADD", name, shape, [reads[0], self._stored(f"{name}.weight")], "AddOptions")
            case Add():
                return self._operator("ADD", name, shape, reads, "AddOptions")
            case Concat():
                return self._operator("CONCATENATION", name, shape, reads, "ConcatenationOptions", axis=1)
            case Relu():
                return self._operator("RELU", name, shape, reads)
            case Softmax():
                return self._operator("SOFTMAX", name, shape, reads, "SoftmaxOptions", beta=1 / op.temperature)
            case _:
                raise GraphError(f"no encoder has the operation {name!r}", "correct the architecture")

    def _convolution(self, op: Conv1d, source: int) -> int:
        """A convolution of height one over time."""
        channels, time = self.graph.shapes[op.source]
        _, after = self.graph.shapes[op.name]
        flat = self._shaped(source, f"{op.name}.map", (1, 1, time, channels))
        margins = np.array([[0, 0], [0, 0], [op.padding, op.padding], [0, 0]], np.int32)
        inputs = [flat, self.file.constant(f"{op.name}.margins", margins)]
        padded = self._operator(
            "PAD", f"{op.name}.padded", (1, 1, time + 2 * op.padding, channels), inputs, "PadOptions"
        )
        weight = np.ascontiguousarray(self.weights[f"{op.name}.weight"].transpose(0, 2, 1))[:, None]
        inputs = [padded, self._weight(op.name, weight, unpacked=True), self._stored(f"{op.name}.bias")]
        settings = {"padding": Padding.VALID, "strideH": 1, "strideW": op.stride}
        shape = (1, 1, after, op.channels)
        found = self._operator("CONV_2D", f"{op.name}.time", shape, inputs, "Conv2DOptions", **settings)
        return self._shaped(found, op.name, (1, after, op.channels))

    def _weight(self, name: str, weight: NDArray[np.float32], unpacked: bool) -> int:
        """A weight, output channel first; with ``unpacked`` the runtime makes float32 of eight bits when it loads."""
        if not self.in_int8:
            return self.file.constant(f"{name}.weight", weight)
        steps, sizes = round_rows(weight)
        stored = self.file.constant(f"{name}.weight", steps, Quantisation(sizes))
        if not unpacked:
            return stored
        return self._operator(
            "DEQUANTIZE", f"{name}.weight.float", weight.shape, [stored], "DequantizeOptions", version=5
        )

    def _dense(self, op: Linear, source: int, shape: Shape) -> int:
        tokens = isinstance(op, TokenLinear)
        if tokens:
            weight = self._weight(op.name, self.weights[f"{op.name}.weight"], unpacked=False)
        else:
            weight = self._stored(f"{op.name}.weight")
        rounded = tokens and self.in_int8
        return self._operator(
            "FULLY_CONNECTED",
            op.name,
            shape,
            [source, weight, self._stored(f"{op.name}.bias")],
            "FullyConnectedOptions",
            version=ROUNDED_DENSE_VERSION if rounded else DENSE_VERSION,
            keepNumDims=True,
            asymmetricQuantizeInputs=rounded,
        )

    def _normalisation(self, op: LayerNorm, source: int, shape: Shape) -> int:
        name, narrow = op.name, (*shape[:-1], 1)
        axes = self.file.constant(f"{name}.axes", np.array([-1], np.int32))

        def mean(of: int, kind: str) -> int:
            return self._operator("MEAN", f"{name}.{kind}", narrow, [of, axes], "ReducerOptions", keepDims=True)

        centred = self._operator("SUB", f"{name}.centred", shape, [source, mean(source, "mean")], "SubOptions")
        squares = self._operator("MUL", f"{name}.squares", shape, [centred, centred], "MulOptions")
        inputs = [mean(squares, "variance"), self._number(f"{name}.epsilon", NORM_EPSILON)]
        wide = self._operator("ADD", f"{name}.wide", narrow, inputs, "AddOptions")
        factor = self._operator("RSQRT", f"{name}.factor", narrow, [wide])
        plain = self._operator("MUL", f"{name}.plain", shape, [centred, factor], "MulOptions")
        scaled = self._operator("MUL", f"{name}.scaled", shape, [plain, self._stored(f"{name}.weight")], "MulOptions")
        return self._operator("ADD", name, shape, [scaled, self._stored(f"{name}.bias")], "AddOptions")

    def _attention(self, op: Attention, reads: Sequence[int], shape: Shape) -> int:
        name, (_, tokens, channels) = op.name, shape
        width = channels // op.heads
        split, across = (1, tokens, op.heads, width), (1, op.heads, tokens, width)
        queries, keys, values = (
            self._turned(self._shaped(read, f"{name}.{part}.split", split), f"{name}.{part}", across, (0, 2, 1, 3))
            for read, part in zip(reads, ("queries", "keys", "values"), strict=True)
        )
        square = (1, op.heads, tokens, tokens)
        scores = self._operator(
            "BATCH_MATMUL", f"{name}.scores", square, [queries, keys], "BatchMatMulOptions", adjY=True
        )
        masked = self._operator("ADD", f"{name}.masked", square, [scores, self.absent], "AddOptions")
        shares = self._operator("SOFTMAX", f"{name}.shares", square, [masked], "SoftmaxOptions", beta=width**-0.5)
        mixed = self._operator("BATCH_MATMUL", f"{name}.mixed", across, [shares, values], "BatchMatMulOptions")
        joined = self._turned(mixed, f"{name}.joined", split, (0, 2, 1, 3))
        return self._shaped(joined, name, shape)

    def _moments(self, op: Moments, source: int) -> int:
        name, (tokens, channels) = op.name, self.graph.shapes[op.source]
        narrow, wide = (1, 1, channels), (1, tokens, channels)

        def summed(of: int, kind: str) -> int:
            return self._operator("BATCH_MATMUL", f"{name}.{kind}", narrow, [self.row, of], "BatchMatMulOptions")

        mean = self._operator("DIV", f"{name}.mean", narrow, [summed(source, "sum"), self.count], "DivOptions")
        centred = self._operator("SUB", f"{name}.centred", wide, [source, mean], "SubOptions")
        squares = self._operator("MUL", f"{name}.squares", wide, [centred, centred], "MulOptions")
        fewer = self._operator("SUB", f"{name}.fewer", (1,), [self.count, self._number(f"{name}.one", 1)], "SubOptions")
        inputs = [summed(squares, "squares.sum"), fewer]
        variance = self._operator("DIV", f"{name}.variance", narrow, inputs, "DivOptions")
        spread = self._operator("SQRT", f"{name}.spread", narrow, [variance])
        both = (1, 1, 2 * channels)
        joined = self._operator("CONCATENATION", f"{name}.both", both, [mean, spread], "ConcatenationOptions", axis=2)
        return self._shaped(joined, name, (1, 2 * channels))

    def _turned(self, source: int, name: str, shape: Shape, order: Sequence[int]) -> int:
        inputs = [source, self.file.constant(f"{name}.order", np.array(order, np.int32))]
        return self._operator("TRANSPOSE", name, shape, inputs, "TransposeOptions")

    def _shaped(self, source: int, name: str, shape: Shape) -> int:
        sizes = np.array(shape, np.int32)
        inputs = [source, self.file.constant(f"{name}.shape", sizes)]
        return self._operator("RESHAPE", name, shape, inputs, "ReshapeOptions", newShape=sizes)

    def _number(self, name: str, value: float) -> int:
        return self.file.constant(name, np.array([value], np.float32))

    def _stored(self, name: str) -> int:
        return self.file.constant(name, self.weights[name])

    def _operator(
        self,
        code: str,
        name: str,
        shape: Shape,
        inputs: Sequence[int],
        options: str = "",
        version: int = 1,
        dtype: Any = np.float32,
        **settings: Any,
    ) -> int:
        output = self.file.tensor(name, shape, dtype)
        self.file.operator(getattr(BuiltinOperator, code), inputs, output, options, version, **settings)
        return output
