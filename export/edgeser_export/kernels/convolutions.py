"""Gradients of a convolution from operators that every runtime has, in several ways of different speed.

With y[n,o,p] = sum over c, i, j of w[o,c,i,j] x[n,c, s p + (i,j) - padding], the gradients for g = dL/dy are

    dL/dw[o,c,i,j] = sum over n, p of g[n,o,p] x[n,c, s p + (i,j) - padding]
    dL/dx[n,c,q]   = sum over o, i, j of w[o,c,i,j] g[n,o, (q + padding - (i,j)) / s]     where s divides

The first is a matrix product of the gradient with shifted copies of the source, or a convolution in which the batch
plays the channels, so that the runtime makes the copies in its cache; the second is the transposed convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from edgeser_export.graph.op_graph import Conv, Shape
from edgeser_export.writers.onnx_nodes import Nodes


@dataclass(frozen=True)
class Geometry:
    """A convolution with the shapes of what it reads and writes, batch included."""

    conv: Conv
    source: Shape
    output: Shape

    @property
    def offsets(self) -> tuple[tuple[int, int], ...]:
        """Positions (i, j) inside the kernel, row by row."""
        size = range(self.conv.kernel)
        return tuple((i, j) for i in size for j in size)


WeightGradient = Callable[[Nodes, Geometry, str, str], str]
"""(nodes, geometry, source, gradient) -> gradient of the weight, (out, in, kernel, kernel)."""


def by_columns(nodes: Nodes, geometry: Geometry, source: str, gradient: str) -> str:
    """The shifted copies of a row of the kernel side by side, one matrix product an image.

    All rows at once are no faster, and their copies are the largest tensors of a step.
    """
    return _by_copies(nodes, geometry, source, gradient, geometry.conv.kernel)


def by_shifts(nodes: Nodes, geometry: Geometry, source: str, gradient: str) -> str:
    """One shifted copy at a time: least memory."""
    return _by_copies(nodes, geometry, source, gradient, 1)


def as_convolution(nodes: Nodes, geometry: Geometry, source: str, gradient: str) -> str:
    """One convolution, the batch as its channels, the gradient as its kernels, dilated by the stride.

    The source lies with its channels last, rows of (width, channels) seen as one axis. A step of one position there is
    a step of ``channels``, so a dilation by as much keeps the channels apart and all of them are found at once.
    """
    conv, (batch, channels, height, width) = geometry.conv, geometry.source
    last = nodes.add("Transpose", source, perm=(0, 2, 3, 1)) if channels > 1 else source
    found = nodes.add(
        "Conv",
        nodes.reshape(last, (1, batch, height, width * channels)),
        nodes.add("Transpose", gradient, perm=(1, 0, 2, 3)),
        kernel_shape=geometry.output[2:],
        pads=(conv.padding, conv.padding * channels) * 2,
        dilations=(conv.stride, conv.stride * channels),
    )
    if conv.stride > 1:  # positions of the source that no window fills up
        found = nodes.slice(found, (2, 3), (0, 0), (conv.kernel, conv.kernel * channels), (1, 1))
    shaped = nodes.reshape(found, (geometry.output[1], conv.kernel, conv.kernel, channels))
    return nodes.add("Transpose", shaped, perm=(0, 3, 1, 2))


def gradient_of_input(nodes: Nodes, geometry: Geometry, weight: str, gradient: str) -> str:
    """dL/dx, the shape of the source: the transposed convolution, which is as fast as any other way."""
    conv, size = geometry.conv, geometry.conv.kernel - 2 * geometry.conv.padding
    missing = [
        have - ((found - 1) * conv.stride + size)
        for have, found in zip(geometry.source[2:], geometry.output[2:], strict=True)
    ]
    return nodes.add(
        "ConvTranspose",
        gradient,
        weight,
        kernel_shape=(conv.kernel,) * 2,
        strides=(conv.stride,) * 2,
        pads=(conv.padding,) * 4,
        output_padding=missing,
    )


WEIGHT_GRADIENTS: Mapping[str, WeightGradient] = {
    "convolution": as_convolution,
    "columns": by_columns,
    "shifts": by_shifts,
}


def choose_weight_gradient(geometry: Geometry) -> str:
    """The fastest way for such a size, as benchmarks/training_step.py --kernels measures it.

    A convolution copies runs of kernel times channels numbers; with one channel they are long enough for large kernels
    alone, and a stride tears them apart.
    """
    conv = geometry.conv
    return "convolution" if geometry.source[1] > 1 or (conv.kernel > 4 and conv.stride == 1) else "columns"


def gradient_of_weight(nodes: Nodes, geometry: Geometry, source: str, gradient: str, plain: bool = False) -> str:
    """dL/dw, (out, in, kernel, kernel); where ``plain``, by matrix products alone."""
    way = "shifts" if plain else choose_weight_gradient(geometry)
    return WEIGHT_GRADIENTS[way](nodes, geometry, source, gradient)


def enlarged(nodes: Nodes, tensor: str, size: int) -> str:
    """Every number of an image repeated in a square of size x size."""
    scales = nodes.constant(np.array([1, 1, size, size], np.float32))
    how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return nodes.add("Resize", tensor, "", scales, **how)


def pooled(nodes: Nodes, kind: str, tensor: str, shape: Shape, size: int) -> str:
    """AveragePool or MaxPool over squares that do not overlap, of a tensor (batch, channels, height, width).

    Channels are handed over as images: where channels fill vector registers, onnxruntime would otherwise reorder the
    tensor before and after, which costs more than the pooling.
    """
    batch, channels, height, width = shape
    images = nodes.reshape(tensor, (batch * channels, 1, height, width))
    found = nodes.add(kind, images, kernel_shape=(size, size), strides=(size, size))
    return nodes.reshape(found, (batch, channels, height // size, width // size))


def _by_copies(nodes: Nodes, geometry: Geometry, source: str, gradient: str, together: int) -> str:
    batch, out, *positions = geometry.output
    turned = nodes.add("Transpose", nodes.reshape(gradient, (batch, out, prod(positions))), perm=(0, 2, 1))
    phases, offsets, parts = _phases(nodes, geometry, source), geometry.offsets, []
    for start in range(0, len(offsets), together):
        group = [_shifted(nodes, geometry, phases, offset) for offset in offsets[start : start + together]]
        columns = nodes.reshape(nodes.concat(group, 1), (batch, len(group) * geometry.source[1], prod(positions)))
        parts.append(nodes.sum(nodes.add("MatMul", columns, turned), (0,)))
    size = geometry.conv.kernel
    products = nodes.reshape(nodes.concat(parts, 0), (size, size, geometry.source[1], out))
    return nodes.add("Transpose", products, perm=(3, 2, 0, 1))


def _phases(nodes: Nodes, geometry: Geometry, source: str) -> str:
    """The padded source; with a stride, its stride x stride interleaved images one after the other as channels.

    A step of the stride is then a step of one, and a copy of whole rows instead of single numbers.
    """
    conv = geometry.conv
    ends = [conv.padding + -(size + 2 * conv.padding) % conv.stride for size in geometry.source[2:]]
    if any(ends) or conv.padding:
        source = nodes.add("Pad", source, nodes.integers((0, 0, conv.padding, conv.padding, 0, 0, *ends)))
    return nodes.add("SpaceToDepth", source, blocksize=conv.stride) if conv.stride > 1 else source


def _shifted(nodes: Nodes, geometry: Geometry, phases: str, offset: tuple[int, int]) -> str:
    """The slice of the padded source that the kernel's position ``offset`` sees at every output position."""
    stride, channels = geometry.conv.stride, geometry.source[1]
    (row, above), (column, left) = ((place // stride, place % stride) for place in offset)
    first = (above * stride + left) * channels
    starts, sizes = (first, row, column), (channels, *geometry.output[2:])
    ends = [start + size for start, size in zip(starts, sizes, strict=True)]
    return nodes.slice(phases, (1, 2, 3), starts, ends, (1, 1, 1))
