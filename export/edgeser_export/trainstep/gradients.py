"""The gradient of each operation of a student as ONNX nodes: a table keyed by the operation.

A gradient travels from the loss down as a :class:`Gradient`, which is not always the plain tensor: averages spread one
number over many positions, and batch normalisation ends in a factor a channel. Both are kept apart until a rule needs
them, because the next rule often absorbs them for nothing: a ReLU multiplies by its mask and broadcasts, a convolution
multiplies its small weight instead of a large gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import prod
from types import MappingProxyType
from typing import Any

import numpy as np
from onnx import TensorProto

from edgeser_export.graph.op_graph import Add, BatchNorm, Concat, Conv, Linear, Op, Pool, Reduce, Relu, Shape
from edgeser_export.kernels import convolutions as kernels
from edgeser_export.kernels import winograd
from edgeser_export.trainstep.forward_ops import Flow

LARGE = 2.0**100
"""Makes a positive float32 of any ordinary size one above 1."""


@dataclass(frozen=True)
class Gradient:
    """Gradient of the loss by a tensor: ``value``, broadcast to the tensor's shape, times ``scale`` along axis 1.

    Attributes:
        value: Name of a tensor.
        shape: Shape of ``value``: the tensor's, with ones where it broadcasts.
        scale: Name of a vector (channels,), or "" for none.
    """

    value: str
    shape: Shape
    scale: str = ""


@dataclass(frozen=True)
class Found:
    """The gradients that the rule of an operation finds.

    Attributes:
        sources: Gradients of what the operation reads, in that order; empty where none was asked for.
        parameters: Gradients of its parameters by name, tensors of the parameter's shape.
    """

    sources: tuple[Gradient, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)


def write_backward(flow: Flow, op: Op, gradient: Gradient, below: bool) -> Found:
    """Write the gradients of what ``op`` reads and of its parameters.

    Args:
        flow: The step, its forward part already written.
        op: Any operation.
        gradient: The gradient of the loss by the operation's output.
        below: Whether the gradients of its sources are needed too.
    """
    return BACKWARD[type(op)](flow, op, gradient, below)


def accumulated(flow: Flow, name: str, gradients: list[Gradient]) -> Gradient:
    """The sum of the gradients that several readers of the tensor ``name`` sent."""
    total, *others = gradients
    if not others:
        return total
    total = _unscaled(flow, name, total)
    for other in others:
        addend = _unscaled(flow, name, other)
        shape = np.broadcast_shapes(total.shape, addend.shape)
        total = Gradient(flow.nodes.add("Add", total.value, addend.value), shape)
    return total


def write_loss(flow: Flow, labels: str, loss: str) -> Gradient:
    """Write the soft cross-entropy -mean over n of sum over k of q[n,k] log softmax(z)[n,k].

    Returns:
        Its gradient by the logits z: (softmax(z) sum over k of q - q) / batch. The labels q need not sum to one.
    """
    nodes, shape = flow.nodes, flow.shape(flow.graph.output)
    logs = nodes.add("LogSoftmax", flow.tensors[flow.graph.output], axis=1)
    share = nodes.number(-1.0 / flow.batch)
    nodes.add("Mul", nodes.sum(nodes.add("Mul", labels, logs), (0, 1)), share, into=loss)
    expected = nodes.add("Mul", nodes.add("Exp", logs), nodes.sum(labels, (1,), keep=True))
    return Gradient(nodes.add("Mul", nodes.add("Sub", labels, expected), share), shape)


def _conv(flow: Flow, op: Conv, gradient: Gradient, below: bool) -> Found:
    nodes, geometry = flow.nodes, flow.geometry(op)
    weight = f"{op.name}.weight"
    wide = _spread(flow, op.name, gradient)
    scaled = partial(_scaled, flow, scale=gradient.scale, axis=0)
    if op.name in flow.tiles:
        slope, source = winograd.gradients(nodes, geometry, flow.tiles[op.name], scaled(weight, rank=4), wide)
    else:
        slope = kernels.gradient_of_weight(nodes, geometry, flow.tensors[op.source], wide, flow.plain)
        source = kernels.gradient_of_input(nodes, geometry, scaled(weight, rank=4), wide) if below else ""
    found = {weight: scaled(slope, rank=4)}
    if op.bias:
        found[f"{op.name}.bias"] = scaled(nodes.sum(wide, (0, 2, 3)), rank=1)
    return Found((Gradient(source, flow.shape(op.source)),) if below else (), found)


def _batchnorm(flow: Flow, op: BatchNorm, gradient: Gradient, below: bool) -> Found:
    """Closed form of Ioffe and Szegedy 2015 (arXiv 1502.03167), section 3.

    With y = weight xhat + bias, xhat = r (x - mean), r = 1 / sqrt(var + eps), g = dL/dy and M numbers a channel:
    dbias = sum g, dweight = sum g xhat = r (sum g x - mean sum g), dx = weight r (g - dbias / M - xhat dweight / M), or
    weight r g where mean and variance are held constant. The factor weight r is left to the next rule.
    """
    nodes, shape = flow.nodes, flow.shape(op.name)
    axes = tuple(axis for axis in range(len(shape)) if axis != 1)
    source, mean, inverse = (flow.tensors[name] for name in (op.source, f"{op.name}.mean", f"{op.name}.inverse"))
    value = _plain(flow, op.name, gradient)
    shift = nodes.sum(value, axes)
    product = nodes.sum(nodes.add("Mul", value, source), axes)
    centred = nodes.add("Sub", product, nodes.add("Mul", mean, shift))
    slope = nodes.add("Mul", inverse, centred)
    found = {f"{op.name}.weight": slope, f"{op.name}.bias": shift}
    if not below:
        return Found((), found)
    if flow.batch_statistics:
        share = nodes.number(-1.0 / prod(shape[axis] for axis in axes))
        factor = nodes.add("Mul", nodes.add("Mul", inverse, slope), share)
        offset = nodes.add("Sub", nodes.add("Mul", shift, share), nodes.add("Mul", factor, mean))
        value = nodes.add("Add", value, flow.affine(source, factor, offset, shape[1], len(shape)))
    scale = nodes.add("Mul", f"{op.name}.weight", inverse)
    return Found((Gradient(value, shape, scale),), found)


def _relu(flow: Flow, op: Relu, gradient: Gradient, below: bool) -> Found:
    """G where the output is above 0, else 0, as torch has it."""
    if not below:
        return Found()
    nodes, shape = flow.nodes, flow.shape(op.name)
    value = nodes.add("Mul", gradient.value, _positive(flow, op))
    return Found((Gradient(value, shape, gradient.scale),))


def _positive(flow: Flow, op: Relu) -> str:
    """1 where the output of a ReLU is above 0, else 0.

    Where nothing else needs the output any more, it is not kept for this: its sign is that of the normalisation before
    it, whose source is kept anyway. Times a power of two the sign stays, and any positive number is above 1.
    """
    nodes, norm = flow.nodes, flow.normalisation_below(op)
    if flow.plain:
        above = nodes.add("Greater", flow.tensors[op.name], nodes.number(0.0))
        return nodes.add("Cast", above, to=TensorProto.FLOAT)
    if not norm:
        return nodes.add("HardSigmoid", flow.tensors[op.name], alpha=LARGE, beta=0.0)
    shape, mean = flow.shape(op.name), flow.tensors[f"{norm.name}.mean"]
    factor = nodes.add(
        "Mul", nodes.add("Mul", flow.tensors[f"{norm.name}.inverse"], f"{norm.name}.weight"), nodes.number(LARGE)
    )
    offset = nodes.add(
        "Sub", nodes.add("Mul", f"{norm.name}.bias", nodes.number(LARGE)), nodes.add("Mul", mean, factor)
    )
    again = flow.affine(flow.tensors[norm.source], factor, offset, shape[1], len(shape))
    return nodes.add("Clip", again, nodes.number(0.0), nodes.number(1.0))


def _pool(flow: Flow, op: Pool, gradient: Gradient, below: bool) -> Found:
    """The mean spreads g evenly; the maximum gives it to the largest, in equal parts where several are largest.

    torch's max_pool2d gives it to the first of several. After a ReLU both are the same for windows of zeros, and in
    constant regions equal parts give the same gradients of what lies below.
    """
    if not below:
        return Found()
    nodes, shape, count = flow.nodes, flow.shape(op.source), op.size**2
    value = _spread(flow, op.name, gradient)
    if op.how == "mean":
        wide = _unpooled(flow, op, nodes.add("Mul", value, nodes.number(1 / count)))
    else:
        largest = _unpooled(flow, op, flow.tensors[op.name])
        mask = nodes.add("Cast", nodes.add("Equal", flow.tensors[op.source], largest), to=TensorProto.FLOAT)
        share = kernels.pooled(nodes, "AveragePool", mask, shape, op.size)
        parts = nodes.add("Div", nodes.add("Mul", value, nodes.number(1 / count)), share)
        wide = nodes.add("Mul", _unpooled(flow, op, parts), mask)
    return Found((Gradient(wide, shape, gradient.scale),))


def _unpooled(flow: Flow, op: Pool, tensor: str) -> str:
    """Every number of the pooled ``tensor`` at all places of its window, 0 in dropped rows and columns."""
    shape, pooled = flow.shape(op.source), flow.shape(op.name)
    wide = kernels.enlarged(flow.nodes, tensor, op.size)
    dropped = [have - op.size * found for have, found in zip(shape[2:], pooled[2:], strict=True)]
    return flow.nodes.add("Pad", wide, flow.nodes.integers((0,) * 6 + (*dropped,))) if any(dropped) else wide


def _reduce(flow: Flow, op: Reduce, gradient: Gradient, below: bool) -> Found:
    """The mean spreads g evenly; the maximum gives it to the largest, in equal parts where several are largest."""
    if not below:
        return Found()
    nodes, shape = flow.nodes, flow.shape(op.source)
    axes = tuple(axis + 1 for axis in op.axes)
    kept = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    value = _spread(flow, op.name, gradient)
    if op.how == "mean":
        share = nodes.number(1.0 / prod(shape[axis] for axis in axes))
        return Found((Gradient(nodes.reshape(nodes.add("Mul", value, share), kept), kept, gradient.scale),))
    largest = nodes.reshape(flow.tensors[op.name], kept)
    mask = nodes.add("Cast", nodes.add("Equal", flow.tensors[op.source], largest), to=TensorProto.FLOAT)
    part = nodes.add("Div", nodes.reshape(value, kept), nodes.sum(mask, axes, keep=True))
    return Found((Gradient(nodes.add("Mul", mask, part), shape, gradient.scale),))


def _concat(flow: Flow, op: Concat, gradient: Gradient, below: bool) -> Found:
    if not below:
        return Found()
    value = _plain(flow, op.name, gradient)
    shapes = [flow.shape(source) for source in op.sources]
    ends = np.cumsum([shape[1] for shape in shapes]).tolist()
    return Found(
        tuple(
            Gradient(flow.nodes.slice(value, (1,), (end - shape[1],), (end,), (1,)), shape)
            for shape, end in zip(shapes, ends, strict=True)
        )
    )


def _add(_flow: Flow, _op: Add, gradient: Gradient, below: bool) -> Found:
    return Found((gradient, gradient) if below else ())


def _linear(flow: Flow, op: Linear, gradient: Gradient, below: bool) -> Found:
    nodes, shape = flow.nodes, flow.shape(op.source)
    weight = f"{op.name}.weight"
    value = _plain(flow, op.name, gradient)
    found = {weight: nodes.add("Gemm", value, flow.tensors[op.source], transA=1)}
    if op.bias:
        found[f"{op.name}.bias"] = nodes.sum(value, (0,))
    return Found((Gradient(nodes.add("MatMul", value, weight), shape),) if below else (), found)


BACKWARD: Mapping[type[Op], Callable[[Flow, Any, Gradient, bool], Found]] = MappingProxyType(
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


def _scaled(flow: Flow, tensor: str, rank: int, scale: str, axis: int) -> str:
    """``tensor`` times the vector ``scale`` along ``axis``."""
    if not scale:
        return tensor
    shape = tuple(-1 if position == axis else 1 for position in range(rank))
    return flow.nodes.add("Mul", tensor, flow.nodes.reshape(scale, shape) if rank > 1 else scale)


def _spread(flow: Flow, name: str, gradient: Gradient) -> str:
    """``gradient`` without its scale, as a tensor of the shape of ``name``."""
    shape = flow.shape(name)
    if gradient.shape == shape:
        return gradient.value
    return flow.nodes.add("Expand", gradient.value, flow.nodes.integers(shape))


def _plain(flow: Flow, name: str, gradient: Gradient) -> str:
    """``gradient`` as a tensor of the shape of ``name``."""
    return _scaled(flow, _spread(flow, name, gradient), len(flow.shape(name)), gradient.scale, 1)


def _unscaled(flow: Flow, name: str, gradient: Gradient) -> Gradient:
    """``gradient`` without a scale; it may still broadcast."""
    if not gradient.scale:
        return gradient
    return Gradient(_plain(flow, name, gradient), flow.shape(name))
