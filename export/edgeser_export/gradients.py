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

from edgeser_export import kernels
from edgeser_export.flow import Flow
from edgeser_export.graph import Add, BatchNorm, Concat, Conv, Linear, Op, Pool, Reduce, Relu, Shape


@dataclass(frozen=True)
class Gradient:
    """Gradient of the loss by a tensor: ``value``, broadcast to ``view``, reshaped as the tensor, times ``scale``.

    Attributes:
        value: Name of a tensor.
        shape: Of ``value``; as long as ``view``, with ones where it broadcasts.
        view: Another way to cut the tensor's positions into axes, in the same order.
        scale: Name of a vector (channels,) that multiplies along axis 1, or "" for none.
    """

    value: str
    shape: Shape
    view: Shape
    scale: str = ""


@dataclass(frozen=True)
class Found:
    """What the gradient rule of an operation finds.

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
        gradient: Of the operation's output.
        below: Whether the gradients of its sources are needed too.
    """
    return BACKWARD[type(op)](flow, op, gradient, below)


def accumulated(flow: Flow, name: str, gradients: list[Gradient]) -> Gradient:
    """The sum of the gradients that several readers of the tensor ``name`` sent."""
    total, *others = gradients
    if not others:
        return total
    view = flow.shape(name)
    total = _unscaled(flow, name, total)
    for other in others:
        addend = _unscaled(flow, name, other)
        shape = np.broadcast_shapes(total.shape, addend.shape)
        total = Gradient(flow.nodes.add("Add", total.value, addend.value), shape, view)
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
    return Gradient(nodes.add("Mul", nodes.add("Sub", labels, expected), share), shape, shape)


def _conv(flow: Flow, op: Conv, gradient: Gradient, below: bool) -> Found:
    nodes, geometry = flow.nodes, flow.geometry(op)
    weight = f"{op.name}.weight"
    wide = _spread(flow, op.name, gradient)
    scaled = partial(_scaled, flow, scale=gradient.scale, axis=0)
    found = {weight: scaled(kernels.gradient_of_weight(nodes, geometry, flow.tensors[op.source], wide), rank=4)}
    if op.bias:
        found[f"{op.name}.bias"] = scaled(nodes.sum(wide, (0, 2, 3)), rank=1)
    if not below:
        return Found((), found)
    shape = flow.shape(op.source)
    value = kernels.gradient_of_input(nodes, geometry, scaled(weight, rank=4), wide)
    return Found((Gradient(value, shape, shape),), found)


def _batchnorm(flow: Flow, op: BatchNorm, gradient: Gradient, below: bool) -> Found:
    """Closed form of Ioffe and Szegedy 2015 (arXiv 1502.03167), section 3.

    With y = weight xhat + bias, xhat = r (x - mean), r = 1 / sqrt(var + eps), g = dL/dy and M numbers a channel:
    dbias = sum g, dweight = sum g xhat = r (sum g x - mean sum g), and dx = weight r (g - dbias / M - xhat dweight / M),
    or weight r g where mean and variance are held constant. The factor weight r is left to the next rule.
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
        value = nodes.add("Add", value, flow.affine(source, factor, offset, shape[1]))
    scale = nodes.add("Mul", f"{op.name}.weight", inverse)
    return Found((Gradient(value, shape, shape, scale),), found)


def _relu(flow: Flow, op: Relu, gradient: Gradient, below: bool) -> Found:
    """g where the output is above 0, else 0, as torch has it."""
    if not below:
        return Found()
    nodes, shape = flow.nodes, flow.shape(op.name)
    mask = nodes.add("Cast", nodes.add("Greater", flow.tensors[op.name], nodes.number(0.0)), to=1)
    if gradient.view != shape:
        mask = nodes.reshape(mask, gradient.view)
    value = nodes.add("Mul", gradient.value, mask)
    if gradient.view != shape:
        value = nodes.reshape(value, shape)
    return Found((Gradient(value, shape, shape, gradient.scale),))


def _pool(flow: Flow, op: Pool, gradient: Gradient, below: bool) -> Found:
    if not below:
        return Found()
    value = _spread(flow, op.name, gradient)
    spread = _pool_mean if op.how == "mean" else _pool_max
    return Found((spread(flow, op, value, gradient.scale),))


def _pool_max(flow: Flow, op: Pool, value: str, scale: str) -> Gradient:
    """The whole gradient to the first maximum of each window, as torch has it."""
    nodes, shape = flow.nodes, flow.shape(op.source)
    window = (op.size, op.size)
    where = flow.tensors[f"{op.name}.indices"]
    placed = nodes.add("MaxUnpool", value, where, nodes.integers(shape), kernel_shape=window, strides=window)
    return Gradient(placed, shape, shape, scale)


def _pool_mean(flow: Flow, op: Pool, value: str, scale: str) -> Gradient:
    """g / size^2 at every position of a window, 0 in dropped rows and columns.

    Columns are repeated by a product with a 0-1 matrix, which is far faster than operators that copy single numbers;
    rows are left to broadcasting.
    """
    nodes, (batch, channels, height, width) = flow.nodes, flow.shape(op.source)
    rows, columns = flow.shape(op.name)[2:]
    repeat = np.zeros((columns, width), np.float32)
    repeat[np.arange(columns * op.size) // op.size, np.arange(columns * op.size)] = 1 / op.size**2
    wide = nodes.reshape(nodes.add("MatMul", value, nodes.constant(repeat)), (batch, channels, rows, 1, width))
    view = (batch, channels, rows, op.size, width)
    if rows * op.size == height:
        return Gradient(wide, (batch, channels, rows, 1, width), view, scale)
    filled = nodes.reshape(nodes.add("Expand", wide, nodes.integers(view)), (batch, channels, rows * op.size, width))
    dropped = height - rows * op.size
    shape = flow.shape(op.source)
    return Gradient(nodes.add("Pad", filled, nodes.integers((0,) * 6 + (dropped, 0))), shape, shape, scale)


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
        return Found((Gradient(nodes.reshape(nodes.add("Mul", value, share), kept), kept, shape, gradient.scale),))
    largest = nodes.reshape(flow.tensors[op.name], kept)
    mask = nodes.add("Cast", nodes.add("Equal", flow.tensors[op.source], largest), to=1)
    part = nodes.add("Div", nodes.reshape(value, kept), nodes.sum(mask, axes, keep=True))
    return Found((Gradient(nodes.add("Mul", mask, part), shape, shape, gradient.scale),))


def _concat(flow: Flow, op: Concat, gradient: Gradient, below: bool) -> Found:
    if not below:
        return Found()
    value = _plain(flow, op.name, gradient)
    shapes = [flow.shape(source) for source in op.sources]
    ends = np.cumsum([shape[1] for shape in shapes]).tolist()
    return Found(
        tuple(
            Gradient(flow.nodes.slice(value, (1,), (end - shape[1],), (end,), (1,)), shape, shape)
            for shape, end in zip(shapes, ends, strict=True)
        )
    )


def _add(flow: Flow, op: Add, gradient: Gradient, below: bool) -> Found:
    return Found((gradient, gradient) if below else ())


def _linear(flow: Flow, op: Linear, gradient: Gradient, below: bool) -> Found:
    nodes, shape = flow.nodes, flow.shape(op.source)
    weight = f"{op.name}.weight"
    value = _plain(flow, op.name, gradient)
    found = {weight: nodes.add("Gemm", value, flow.tensors[op.source], transA=1)}
    if op.bias:
        found[f"{op.name}.bias"] = nodes.sum(value, (0,))
    return Found((Gradient(nodes.add("MatMul", value, weight), shape, shape),) if below else (), found)


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
    value, shape = gradient.value, flow.shape(name)
    if gradient.shape != gradient.view:
        value = flow.nodes.add("Expand", value, flow.nodes.integers(gradient.view))
    return value if gradient.view == shape else flow.nodes.reshape(value, shape)


def _plain(flow: Flow, name: str, gradient: Gradient) -> str:
    """``gradient`` as a tensor of the shape of ``name``."""
    return _scaled(flow, _spread(flow, name, gradient), len(flow.shape(name)), gradient.scale, 1)


def _unscaled(flow: Flow, name: str, gradient: Gradient) -> Gradient:
    """``gradient`` without a scale, in the tensor's own axes; it may still broadcast."""
    shape = flow.shape(name)
    if gradient.view != shape or gradient.scale:
        return Gradient(_plain(flow, name, gradient), shape, shape)
    return gradient
