"""The forward pass of a student that is trained, as ONNX nodes: a table keyed by the operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from edgeser_export.graph.op_graph import (
    INPUT,
    NORM_EPSILON,
    Add,
    BatchNorm,
    Concat,
    Conv,
    Graph,
    Linear,
    Op,
    Pool,
    Reduce,
    Relu,
    Shape,
    sources,
)
from edgeser_export.kernels import winograd
from edgeser_export.kernels.convolutions import Geometry, pooled
from edgeser_export.writers.onnx_nodes import Nodes


@dataclass(frozen=True)
class Flow:
    """The state that the rules share while one step is written.

    Attributes:
        nodes: The list that nodes are added to.
        graph: The student.
        batch: Items a step.
        batch_statistics: Whether batch normalisations use the batch's own mean and variance, or running ones.
        tensors: Names of tensors by the name of the operation that computes them, and of what rules keep for gradients.
        plain: Only operators that every runtime computes alike: no normalisation in training mode, no convolution for
            the gradient of a weight, no tiles. Slower.
        tiles: By the name of a convolution by tiles, what it leaves for its gradients.
    """

    nodes: Nodes
    graph: Graph
    batch: int
    batch_statistics: bool
    tensors: dict[str, str] = field(default_factory=lambda: {INPUT: INPUT})
    plain: bool = False
    tiles: dict[str, str] = field(default_factory=dict)

    def shape(self, name: str) -> Shape:
        """Shape of a tensor of the student, with the batch."""
        return (self.batch, *self.graph.shapes[name])

    def geometry(self, conv: Conv) -> Geometry:
        """A convolution with its shapes."""
        return Geometry(conv, self.shape(conv.source), self.shape(conv.name))

    def tiled(self, conv: Conv) -> bool:
        """Whether a convolution and its gradients go by tiles.

        With running statistics the gradients of a weight's taps are often exactly 0, where a ReLU is silent but for a
        border. Tiles leave 1e-7 of the other taps' gradients there, which AdamW's division makes a whole step.
        """
        return self.batch_statistics and not self.plain and winograd.suits(self.geometry(conv))

    def normalisation_below(self, relu: Relu) -> BatchNorm | None:
        """The normalisation that a ReLU reads, where no gradient but the ReLU's own needs the ReLU's output."""
        below = next((op for op in self.graph.ops if op.name == relu.source), None)
        needed = any(self._reads_again(op) for op in self.graph.ops if relu.name in sources(op))
        return below if isinstance(below, BatchNorm) and not needed else None

    def _reads_again(self, op: Op) -> bool:
        """Whether the gradient of ``op`` reads what ``op`` reads."""
        match op:
            case Conv():
                return not self.tiled(op)
            case Pool() | Reduce():
                return op.how == "max"
            case Concat() | Add():
                return False
            case _:
                return True

    def affine(self, tensor: str, factor: str, offset: str, channels: int, rank: int) -> str:
        """Factor x + offset with vectors (channels,): a normalisation by mean 0 and variance 1 is the fastest way."""
        if self.plain:
            return self.nodes.add(
                "Add", self.nodes.add("Mul", tensor, self.along(factor, rank)), self.along(offset, rank)
            )
        zeros = self.nodes.constant(np.zeros(channels, np.float32))
        ones = self.nodes.constant(np.ones(channels, np.float32))
        return self.nodes.add("BatchNormalization", tensor, factor, offset, zeros, ones, epsilon=0.0)

    def along(self, vector: str, rank: int) -> str:
        """A vector (channels,) shaped to broadcast along axis 1 of a tensor of ``rank`` axes."""
        return self.nodes.reshape(vector, (1, -1, *[1] * (rank - 2)))


def write_forward(flow: Flow, op: Op) -> None:
    """Write what ``op`` computes and note the tensor's name in ``flow.tensors``."""
    flow.tensors[op.name] = FORWARD[type(op)](flow, op)


def _conv(flow: Flow, op: Conv) -> str:
    if flow.tiled(op):
        return _conv_by_tiles(flow, op)
    weights = (f"{op.name}.weight", *([f"{op.name}.bias"] if op.bias else []))
    window: dict[str, Any] = {"kernel_shape": (op.kernel,) * 2, "strides": (op.stride,) * 2, "pads": (op.padding,) * 4}
    return flow.nodes.add("Conv", flow.tensors[op.source], *weights, **window)


def _conv_by_tiles(flow: Flow, op: Conv) -> str:
    geometry, weight = flow.geometry(op), f"{op.name}.weight"
    output, flow.tiles[op.name] = winograd.convolution(flow.nodes, geometry, flow.tensors[op.source], weight)
    return flow.nodes.add("Add", output, flow.along(f"{op.name}.bias", 4)) if op.bias else output


def _batchnorm(flow: Flow, op: BatchNorm) -> str:
    """(x - mean) / sqrt(var + eps) weight + bias, by the batch's statistics or by running ones.

    With training_mode, onnxruntime overwrites the two running statistics that it reads. They are therefore computed
    here as 0 times two parameters, so that every normalisation has its own; a constant would be shared. With momentum 0
    the operator's new running statistics are the batch's mean and biased variance.
    """
    nodes, source = flow.nodes, flow.tensors[op.source]
    weight, bias = f"{op.name}.weight", f"{op.name}.bias"
    if flow.plain and flow.batch_statistics:
        mean, variance, output = _normalised_plainly(flow, op)
    elif flow.batch_statistics:
        scratch = [nodes.add("Mul", name, nodes.number(0.0)) for name in (weight, bias)]
        settings = {"training_mode": 1, "momentum": 0.0, "epsilon": NORM_EPSILON}
        output, mean, variance = nodes.add_many("BatchNormalization", 3, source, weight, bias, *scratch, **settings)
    else:
        mean, variance = f"{op.name}.running_mean", f"{op.name}.running_var"
        output = nodes.add("BatchNormalization", source, weight, bias, mean, variance, epsilon=NORM_EPSILON)
    flow.tensors[f"{op.name}.mean"], flow.tensors[f"{op.name}.variance"] = mean, variance
    deviation = nodes.add("Sqrt", nodes.add("Add", variance, nodes.number(NORM_EPSILON)))
    flow.tensors[f"{op.name}.inverse"] = nodes.add("Reciprocal", deviation)
    return output


def _normalised_plainly(flow: Flow, op: BatchNorm) -> tuple[str, str, str]:
    """Mean and biased variance of the batch, (channels,), and the normalised tensor."""
    nodes, source, rank = flow.nodes, flow.tensors[op.source], len(flow.shape(op.name))
    axes = nodes.integers(axis for axis in range(rank) if axis != 1)
    mean = nodes.add("ReduceMean", source, axes, keepdims=1)
    centred = nodes.add("Sub", source, mean)
    variance = nodes.add("ReduceMean", nodes.add("Mul", centred, centred), axes, keepdims=1)
    deviation = nodes.add("Sqrt", nodes.add("Add", variance, nodes.number(NORM_EPSILON)))
    scaled = nodes.add("Mul", nodes.add("Div", centred, deviation), flow.along(f"{op.name}.weight", rank))
    output = nodes.add("Add", scaled, flow.along(f"{op.name}.bias", rank))
    return nodes.reshape(mean, (-1,)), nodes.reshape(variance, (-1,)), output


def _relu(flow: Flow, op: Relu) -> str:
    return flow.nodes.add("Relu", flow.tensors[op.source])


def _pool(flow: Flow, op: Pool) -> str:
    kind = {"mean": "AveragePool", "max": "MaxPool"}[op.how]
    return pooled(flow.nodes, kind, flow.tensors[op.source], flow.shape(op.source), op.size)


def _reduce(flow: Flow, op: Reduce) -> str:
    kind = {"mean": "ReduceMean", "max": "ReduceMax"}[op.how]
    axes = flow.nodes.integers(axis + 1 for axis in op.axes)
    return flow.nodes.add(kind, flow.tensors[op.source], axes, keepdims=0)


def _concat(flow: Flow, op: Concat) -> str:
    return flow.nodes.add("Concat", *[flow.tensors[source] for source in op.sources], axis=1)


def _add(flow: Flow, op: Add) -> str:
    return flow.nodes.add("Add", *[flow.tensors[source] for source in op.sources])


def _linear(flow: Flow, op: Linear) -> str:
    weights = (f"{op.name}.weight", *([f"{op.name}.bias"] if op.bias else []))
    return flow.nodes.add("Gemm", flow.tensors[op.source], *weights, transB=1)


FORWARD: Mapping[type[Op], Callable[[Flow, Any], str]] = MappingProxyType(
    {
        Conv: _conv,
        BatchNorm: _batchnorm,
        Relu: _relu,
        Pool: _pool,
        Reduce: _reduce,
        Concat: _concat,
        Add: _add,
        Linear: _linear,
    }
)
