"""An op graph as a TFLite file for inference.

    data = write_tflite(graph, weights, {"labels": '["angry", "calm"]'})

Input ``x``: float32 (1, height, width, channels), so one item at a time and channels last. The one output is named
after the last operation: float32 (1, classes). Batch normalisation is folded, a ReLU becomes part of the operator
before it.
Equal arguments give equal bytes on every machine: folding is IEEE arithmetic element by element, the rest is layout.

The two writers differ in how weights are stored, in the tensors around them, and in the operators' versions.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from ai_edge_litert.schema_py_generated import ActivationFunctionType, BuiltinOperator, Padding
from numpy.typing import NDArray

from edgeser_export.graph.op_graph import (
    INPUT,
    Add,
    Concat,
    Conv,
    Graph,
    Linear,
    Normalise,
    Op,
    Pool,
    Reduce,
    Relu,
    Shape,
    Softmax,
    Weights,
    sources,
)
from edgeser_export.graph.transform import InferenceGraph, for_inference, merged_relus
from edgeser_export.writers.rounding import Affine, Int8Plan, is_wide, keeps_scale
from edgeser_export.writers.tflite_flatbuffer import Quantisation, TfliteFile, read_tflite_metadata

__all__ = ["read_tflite_metadata", "write_tflite"]
NOTHING: Mapping[str, str] = MappingProxyType({})


def write_tflite(graph: Graph, weights: Weights, metadata: Mapping[str, str] = NOTHING) -> bytes:
    """Write ``graph`` with ``weights`` as a float32 TFLite model.

    Args:
        graph: The op graph, with or without batch normalisation.
        weights: Its parameters and running statistics.
        metadata: Stored as one JSON object in the metadata entry ``edgeser``; see :func:`read_tflite_metadata`.

    Returns:
        The content of the file.

    Raises:
        GraphError: The weights do not fit the graph, or the graph is none for inference.
    """
    return _Writer(for_inference(graph, weights)).write(metadata)


class _Writer:
    """Writes a file in float32; :class:`_Int8Writer` changes the methods that depend on the type of the numbers."""

    def __init__(self, inference: InferenceGraph) -> None:
        self.inference, self.file = inference, TfliteFile()
        self.graph, self.weights = inference.graph, inference.weights
        self.fused = merged_relus(self.graph)
        self.numbers_of: dict[str, int] = {}

    def write(self, metadata: Mapping[str, str]) -> bytes:
        shape, output = channels_last(self.graph.shapes[INPUT]), self.graph.output
        entrance = self.file.tensor(INPUT, shape)
        self.numbers_of[INPUT] = self.entered(entrance, INPUT, shape)
        absorbed = set(self.fused.values())
        for op in self.graph.ops:
            if op.name not in absorbed:
                self._operation(op)
        found = self.left(self.numbers_of[output], output, (1, self.inference.classes))
        self.file.metadata(metadata)
        return self.file.finish([entrance], [found])

    def _operation(self, op: Op) -> None:
        inputs = [self.read(self.numbers_of[source], source, op) for source in sources(op)]
        match op:
            case Conv():
                self._convolution(op)
            case Linear():
                parameters = self._parameters(op)
                self._activated("FULLY_CONNECTED", op, inputs + parameters, "FullyConnectedOptions")
            case Add():
                self._activated("ADD", op, inputs, "AddOptions", potScaleInt16=False)
            case Relu():
                self._operator("RELU", op, inputs, self._activation(op.name))
            case Pool():
                self._pool(op, inputs[0])
            case Reduce():
                # Channels last: axis 1 is still the first after the item, and so on.
                axes = self.file.constant(f"{op.name}.axes", np.array(op.axes, dtype=np.int32))
                code = "MEAN" if op.how == "mean" else "REDUCE_MAX"
                self._operator(code, op, [*inputs, axes], self._activation(op.name), "ReducerOptions", keepDims=False)
            case Concat():
                last = len(self.graph.shapes[op.name])
                output = self._activation(op.name)
                self._operator("CONCATENATION", op, inputs, output, "ConcatenationOptions", axis=last)
            case Normalise():
                self._normalisation(op, inputs[0])
            case Softmax():
                output = self.numbers_of[op.name] = self.file.tensor(op.name, (1, self.inference.classes))
                self.file.operator(BuiltinOperator.SOFTMAX, inputs, output, "SoftmaxOptions", beta=1 / op.temperature)
            case _:
                raise TypeError(f"no TFLite operator is written for {op}")

    def _normalisation(self, op: Normalise, number: int) -> None:
        """In float32, whatever the numbers behind it are: levels in dB lie far from zero."""
        shape = channels_last(self.graph.shapes[op.name])
        for code, options, part in (("SUB", "SubOptions", "mean"), ("DIV", "DivOptions", "std")):
            name = f"{op.name}.{part}"
            inputs = [number, self.file.constant(name, self.weights[name])]
            number = self.file.tensor(op.name if part == "std" else f"{op.name}.centred", shape)
            self.file.operator(getattr(BuiltinOperator, code), inputs, number, options)
        self.numbers_of[op.name] = self.entered(number, op.name, shape)

    def _pool(self, op: Pool, source: int) -> None:
        output = self._activation(op.name)
        if op.how == "mean":
            self.mean_pool(op, source, output)
        else:
            self._pool_by("MAX_POOL_2D", op, source, output)

    def _pool_by(self, code: str, op: Pool, source: int, output: int) -> None:
        window = {"filterHeight": op.size, "filterWidth": op.size, "strideH": op.size, "strideW": op.size}
        self._operator(code, op, [source], output, "Pool2DOptions", padding=Padding.VALID, **window)

    def _convolution(self, op: Conv) -> None:
        source, padding = self.numbers_of[op.source], Padding.VALID
        if op.padding and pads_as_same(op, self.graph.shapes[op.source]):
            padding = Padding.SAME
        elif op.padding:
            source = self._padded(op, source)
        strides = {"padding": padding, "strideH": op.stride, "strideW": op.stride}
        self._activated("CONV_2D", op, [source, *self._parameters(op)], "Conv2DOptions", **strides)

    def _padded(self, op: Conv, source: int) -> int:
        edge = [op.padding, op.padding]
        margins = self.file.constant(f"{op.name}.margins", np.array([[0, 0], edge, edge, [0, 0]], dtype=np.int32))
        _, height, width, channels = channels_last(self.graph.shapes[op.source])
        shape = (1, height + 2 * op.padding, width + 2 * op.padding, channels)
        output = self.activation(f"{op.name}.padded", op.source, shape)
        self._operator("PAD", op, [source, margins], output, "PadOptions")
        return output

    def _parameters(self, op: Conv | Linear) -> list[int]:
        weight = self.weights[f"{op.name}.weight"]
        if isinstance(op, Conv):
            weight = weight.transpose(0, 2, 3, 1)
        # Some kernels insist on a bias: a layer without one gets zeros.
        bias = self.weights.get(f"{op.name}.bias", np.zeros(len(weight), dtype=np.float32))
        return self.parameters(op, np.ascontiguousarray(weight), bias)

    def _activated(self, code: str, op: Op, inputs: list[int], options: str, **settings: float) -> None:
        relu = self.fused.get(op.name)
        function = ActivationFunctionType.RELU if relu else ActivationFunctionType.NONE
        output = self._activation(relu or op.name)
        self._operator(code, op, inputs, output, options, fusedActivationFunction=function, **settings)

    def _operator(self, code: str, op: Op, inputs: list[int], output: int, options: str = "", **settings: Any) -> None:
        number = getattr(BuiltinOperator, code)
        self.file.operator(number, inputs, output, options, self.version(number, op.name), **settings)

    def _activation(self, name: str) -> int:
        shape = channels_last(self.graph.shapes[name])
        self.numbers_of[name] = self.activation(name, name, shape)
        return self.numbers_of[name]

    # What depends on the type of the numbers -------------------------------------------------------------------------

    def activation(self, name: str, of: str, shape: Shape) -> int:  # noqa: ARG002  int8 needs it
        """Add a tensor that the runtime computes: ``name``, in numbers like those of the op graph's tensor ``of``."""
        return self.file.tensor(name, shape)

    def parameters(self, op: Conv | Linear, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> list[int]:
        """Add the weight, output channel first and input channel last, and the bias of ``op``."""
        return [self.file.constant(f"{op.name}.weight", weight), self.file.constant(f"{op.name}.bias", bias)]

    def entered(self, number: int, name: str, shape: Shape) -> int:  # noqa: ARG002  int8 needs them
        """The float32 tensor ``number``, which is the op graph's ``name``, as the operators read it."""
        return number

    def left(self, number: int, name: str, shape: Shape) -> int:  # noqa: ARG002
        """The tensor ``number``, which is the op graph's ``name``, as it leaves the file: in float32."""
        return number

    def read(self, number: int, source: str, op: Op) -> int:  # noqa: ARG002
        """The tensor ``number``, which is the op graph's ``source``, as ``op`` reads it."""
        return number

    def mean_pool(self, op: Pool, number: int, output: int) -> None:
        """Add the operator that averages the tensor ``number`` into ``output``."""
        self._pool_by("AVERAGE_POOL_2D", op, number, output)

    def version(self, code: int, of: str) -> int:  # noqa: ARG002
        """Version of the operator ``code`` that computes the op graph's tensor ``of``."""
        return 1


def channels_last(shape: Shape) -> Shape:
    """The shape of one item with the batch of one in front and the channels at the end."""
    return (1, *shape[1:], shape[0])


def pads_as_same(op: Conv, source: Shape) -> bool:
    """Whether TFLite's SAME padding, which may be one-sided, puts the windows where ``op.padding`` puts them."""
    return all(_same_margin(size, op) == op.padding for size in source[1:])


def _same_margin(size: int, op: Conv) -> int | None:
    """Rows that SAME adds before the first one, or None where it yields another number of windows."""
    windows = -(-size // op.stride)
    if windows != (size + 2 * op.padding - op.kernel) // op.stride + 1:
        return None
    return max((windows - 1) * op.stride + op.kernel - size, 0) // 2


VERSIONS: Mapping[int, int] = MappingProxyType({BuiltinOperator.CONV_2D: 3, BuiltinOperator.FULLY_CONNECTED: 4})
"""First versions of the operators that take int8; of all others it is 2."""
WIDE_VERSIONS: Mapping[int, int] = MappingProxyType({BuiltinOperator.FULLY_CONNECTED: 7})
"""First versions of the operators that take int16, with scales of any size; of all others it is 3."""
POOL_STEP = 64
"""The number that stands for one share of a mean in the weights of a pool; the unit is as much smaller."""


def write_plan(inference: InferenceGraph, plan: Int8Plan, metadata: Mapping[str, str] = NOTHING) -> bytes:
    """Write a student as an int8 TFLite model.

    Args:
        inference: The student, without batch normalisation.
        plan: The rounding of its tensors.
        metadata: Stored as one JSON object in the metadata entry ``edgeser``.

    Returns:
        The content of the file.
    """
    return _Int8Writer(inference, plan).write(metadata)


class _Int8Writer(_Writer):
    """Writes a file in whole numbers, as a plan rounds them."""

    def __init__(self, inference: InferenceGraph, plan: Int8Plan) -> None:
        super().__init__(inference)
        self.plan, self.shapes = plan, inference.graph.shapes

    def activation(self, name: str, of: str, shape: Shape) -> int:
        """Add a tensor that the runtime computes."""
        return self._rounded(f"{name}.steps", shape, self.plan.activations[of])

    def entered(self, number: int, name: str, shape: Shape) -> int:
        """The tensor, rounded where the plan rounds it."""
        if name not in self.plan.activations:
            return number
        rounded = self.activation(name, name, shape)
        self.file.operator(BuiltinOperator.QUANTIZE, [number], rounded, "QuantizeOptions")
        return rounded

    def left(self, number: int, name: str, shape: Shape) -> int:
        """The tensor in float32."""
        if name not in self.plan.activations:
            return number
        plain = self.file.tensor(name, shape)
        version = 3 if is_wide(shape[1:]) else 2
        self.file.operator(BuiltinOperator.DEQUANTIZE, [number], plain, "DequantizeOptions", version)
        return plain

    def read(self, number: int, source: str, op: Op) -> int:
        """The tensor itself, in float32 for a softmax, or in sixteen bits where those are computed from eight.

        It goes by way of float32, which holds both exactly: not every interpreter has a direct way.
        """
        if isinstance(op, Softmax):
            return self.left(number, source, (1, *self.shapes[source]))
        if is_wide(self.shapes[source]) or not is_wide(self.shapes[op.name]):
            return number
        how = self.plan.activations[op.name] if keeps_scale(op) else self.plan.activations[source].widened
        channels, *rest = self.shapes[source]
        plain = self.file.tensor(f"{source}.plain", (1, *rest, channels))
        self.file.operator(BuiltinOperator.DEQUANTIZE, [number], plain, "DequantizeOptions", 2)
        wide = self._rounded(f"{source}.wide", (1, *rest, channels), how)
        self.file.operator(BuiltinOperator.QUANTIZE, [plain], wide, "QuantizeOptions")
        return wide

    def mean_pool(self, op: Pool, number: int, output: int) -> None:
        """A convolution of each channel with equal weights: a pool of TFLite's could not change the scale."""
        share = np.float32(1 / (POOL_STEP * op.size**2))
        read, channels = self.plan.activations[op.source].scale, self.shapes[op.name][0]
        weight = np.full((1, op.size, op.size, channels), POOL_STEP, np.int8)
        inputs = [
            number,
            self.file.constant(f"{op.name}.shares", weight, Quantisation(np.array([share]))),
            self.file.constant(
                f"{op.name}.zeros", np.zeros(channels, np.int32), Quantisation(np.array([share * read]))
            ),
        ]
        settings = {"padding": Padding.VALID, "strideH": op.size, "strideW": op.size, "depthMultiplier": 1}
        code = BuiltinOperator.DEPTHWISE_CONV_2D
        self.file.operator(code, inputs, output, "DepthwiseConv2DOptions", 3, **settings)

    def parameters(
        self,
        op: Conv | Linear,
        weight: NDArray[np.float32],
        bias: NDArray[np.float32],  # noqa: ARG002  the plan has them
    ) -> list[int]:
        """Add the rounded weight and bias of ``op``."""
        parts = self.plan.parameters[op.name]
        steps = parts.weight.transpose(0, 2, 3, 1) if weight.ndim == 4 else parts.weight
        units = parts.bias_scales if len(parts.scales) > 1 else parts.bias_scales[:1]
        return [
            self.file.constant(f"{op.name}.weight", np.ascontiguousarray(steps), Quantisation(parts.scales)),
            self.file.constant(f"{op.name}.bias", parts.bias, Quantisation(units)),
        ]

    def version(self, code: int, of: str) -> int:
        """Version of the operator ``code`` that computes the op graph's tensor ``of``."""
        return WIDE_VERSIONS.get(code, 3) if is_wide(self.shapes[of]) else VERSIONS.get(code, 2)

    def _rounded(self, name: str, shape: Shape, how: Affine) -> int:
        steps = Quantisation(np.array([how.scale], np.float32), how.zero)
        return self.file.tensor(name, shape, np.int16 if how.bits > 8 else np.int8, steps)
