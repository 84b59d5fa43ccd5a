"""A convolution and both its gradients by minimal filtering of tiles, written as matrix products.

With the matrices S, K, L of :mod:`edgeser_export.kernels.bilinear` for rows and for columns, each tile of a channel is

    Y[o] = S (sum over c of U[o,c] * X[c]) S',   U[o,c] = K w[o,c] K',   X[c] = L x[c] L'

(Lavin and Gray 2015, arXiv 1509.09308). The sum over channels is, for every product (p, q) of rows and columns, a
matrix product over the tiles. The gradients are the same form transposed, for g = dL/dY and E[o] = S' g[o] S:

    dL/dx[c] = L' (sum over o of U[o,c] * E[o]) L,   dL/dw[o,c] = K' (sum over tiles of X[c] * E[o]) K

so that X serves the convolution and the weight's gradient, E both gradients, and U the convolution and the source's.

Images are turned to (height, width, batch * channels) first, which is one transposed matrix. The matrix of a side then
multiplies the whole axis: its rows hold every tile's part of L, so that tiles overlap, padding is left out and last
tiles need not fill without a copy of anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import ceil

import numpy as np
from numpy.typing import NDArray

from edgeser_export.kernels.bilinear import fast_filter
from edgeser_export.kernels.convolutions import Geometry
from edgeser_export.writers.onnx_nodes import Nodes

Matrix = NDArray[np.float32]
TILE_ROWS, TILE_COLUMNS = 16, 12
"""Largest tiles: larger ones save few products, and their matrices are no longer small."""
TOGETHER = 2
"""Neighbouring tiles of a row that share a matrix product: half as many products of twice the rows."""
MOST_POSITIONS = {3: 128, 5: 2048}
"""By the size of the kernel: with more positions of the output, moving numbers costs more than products save."""
FEWEST_CHANNELS = 10
"""The least value of 1 / (1 / in + 1 / out): each number that is moved serves so many products."""


def suits(geometry: Geometry) -> bool:
    """Whether tiles are faster than direct convolutions, as benchmarks/training_step.py --kernels measures it."""
    (_, source, *_), (_, out, height, width) = geometry.source, geometry.output
    most = MOST_POSITIONS.get(geometry.conv.kernel, 0)
    fewest = source * out >= FEWEST_CHANNELS * (source + out)
    return geometry.conv.stride == 1 and fewest and height * width <= most


@dataclass(frozen=True)
class Side:
    """One axis of the images, cut in tiles.

    Attributes:
        source: Positions of the source.
        output: Positions of the output.
        taps: Size of the kernel.
        padding: Zeros before the source's first position.
        tile: Outputs of a tile.
        together: Tiles of a group. Their products lie in the order (group, product, tile), so that the tiles of a
            group share a matrix product.
    """

    source: int
    output: int
    taps: int
    padding: int
    tile: int
    together: int

    @cached_property
    def tiles(self) -> int:
        """The number of tiles that cover the output."""
        return ceil(self.output / self.tile)

    @cached_property
    def groups(self) -> int:
        """The number of groups of tiles; one where tiles do not fill the output, or groups the tiles."""
        fill = self.output == self.tiles * self.tile and self.tiles % self.together == 0
        return self.tiles // self.together if fill else 1

    @property
    def in_group(self) -> int:
        """Tiles of a group."""
        return self.tiles // self.groups

    @property
    def products(self) -> int:
        """Products of a tile."""
        return fast_filter(self.tile, self.taps).products

    @property
    def kernel(self) -> Matrix:
        """K, (products, taps)."""
        return fast_filter(self.tile, self.taps).kernel.astype(np.float32)

    @property
    def data(self) -> Matrix:
        """L of every tile, (groups * products * tiles of a group, source)."""
        one = fast_filter(self.tile, self.taps).data
        first, last = self.padding, self.padding + self.source
        padded = np.zeros((self.tiles, self.products, max(self.tiles * self.tile + self.taps, last)))
        for tile in range(self.tiles):
            padded[tile, :, tile * self.tile : tile * self.tile + one.shape[1]] = one
        grouped = padded[..., first:last].reshape(self.groups, self.in_group, self.products, self.source)
        return np.asarray(grouped.swapaxes(1, 2).reshape(-1, self.source), np.float32)

    @property
    def back(self) -> Matrix:
        """S of the tiles of a group, (outputs of a group, products * tiles of a group)."""
        one = fast_filter(self.tile, self.taps).output
        block = np.einsum("ab,ip->aipb", np.eye(self.in_group), one)
        whole = block.reshape(self.in_group * self.tile, self.products * self.in_group)
        return np.asarray(whole[: self.output // self.groups], np.float32)


def convolution(nodes: Nodes, geometry: Geometry, source: str, weight: str) -> tuple[str, str]:
    """The output (batch, out, height, width) without a bias, and X for the gradients."""
    tiles = Tiles(nodes, geometry)
    kernels, transformed = tiles.kernels(weight), tiles.source(source)
    return tiles.convolution(transformed, kernels), transformed


def gradients(nodes: Nodes, geometry: Geometry, transformed: str, weight: str, gradient: str) -> tuple[str, str]:
    """dL/dw (out, in, kernel, kernel) and dL/dx (batch, in, height, width).

    U is computed again: it is small work, and kept through a step it would be a large part of the memory.

    Args:
        nodes: The list that nodes are added to.
        geometry: The convolution with its shapes.
        transformed: X, as the convolution returned it.
        weight: The weight that dL/dx is computed with.
        gradient: The gradient of the loss by the output.
    """
    tiles = Tiles(nodes, geometry)
    kernels, factors = tiles.kernels(weight), tiles.gradient(gradient)
    return tiles.gradient_of_weight(transformed, factors), tiles.gradient_of_input(factors, kernels)


class Tiles:
    """Writes the nodes of one convolution with stride 1.

    A tensor of products has the shape (row groups, row products, tiles of a row group, column groups, column products,
    tiles of a column group * batch, channels); one of kernels has ones for groups and tiles, and ends in (out, in).
    """

    def __init__(self, nodes: Nodes, geometry: Geometry) -> None:
        """Choose the tiles by the size of the output."""
        conv, (batch, source, *sizes), (_, out, *found) = geometry.conv, geometry.source, geometry.output
        tiles = [ceil(found[0] / TILE_ROWS), TOGETHER * ceil(found[1] / (TOGETHER * TILE_COLUMNS))]
        self.nodes, self.batch, self.channels, self.out = nodes, batch, source, out
        self.rows, self.columns = (
            Side(size, output, conv.kernel, conv.padding, ceil(output / count), together)
            for size, output, count, together in zip(sizes, found, tiles, (1, TOGETHER), strict=True)
        )

    def source(self, source: str) -> str:
        """The products' factors X of a source (batch, in, height, width)."""
        rows, columns, images = self.rows, self.columns, self.batch * self.channels
        tall = self._times(rows.data, self._turned(source, images, rows.source, columns.source), (rows.source, -1))
        return self._products(self._times(columns.data, tall, (-1, columns.source, images)), self.channels)

    def kernels(self, weight: str) -> str:
        """The products' factors U of a weight (out, in, kernel, kernel)."""
        rows, columns, images = self.rows, self.columns, self.out * self.channels
        tall = self._times(rows.kernel, self._turned(weight, images, rows.taps, columns.taps), (rows.taps, -1))
        wide = self._times(columns.kernel, tall, (rows.products, columns.taps, images))
        return self.nodes.reshape(wide, (1, rows.products, 1, 1, columns.products, self.out, self.channels))

    def gradient(self, gradient: str) -> str:
        """The products' factors E of the output's gradient (batch, out, height, width)."""
        rows, columns, images = self.rows, self.columns, self.batch * self.out
        turned = self._turned(gradient, images, rows.output, columns.output)
        tall = self._times(rows.back.T, turned, (rows.groups, rows.output // rows.groups, -1))
        wide = self._times(columns.back.T, tall, (-1, columns.output // columns.groups, images))
        return self._products(wide, self.out)

    def convolution(self, source: str, kernels: str) -> str:
        """The output (batch, out, height, width) from X and U."""
        rows, columns, images = self.rows, self.columns, self.batch * self.out
        summed = self.nodes.add("MatMul", source, self._last_two(kernels))
        tall = self._times(columns.back, summed, (-1, columns.back.shape[1], images))
        found = self._times(rows.back, tall, (rows.groups, rows.back.shape[1], columns.output * images))
        return self._turned_back(found, (self.batch, self.out, rows.output, columns.output))

    def gradient_of_input(self, gradient: str, kernels: str) -> str:
        """dL/dx (batch, in, height, width) from E and U."""
        rows, columns, images = self.rows, self.columns, self.batch * self.channels
        summed = self.nodes.add("MatMul", gradient, kernels)
        tall = self._times(columns.data.T, summed, (-1, len(columns.data), images))
        found = self._times(rows.data.T, tall, (len(rows.data), columns.source * images))
        return self._turned_back(found, (self.batch, self.channels, rows.source, columns.source))

    def gradient_of_weight(self, source: str, gradient: str) -> str:
        """dL/dw (out, in, kernel, kernel) from X and E."""
        rows, columns, images = self.rows, self.columns, self.out * self.channels
        summed = self.nodes.add("MatMul", self._last_two(gradient), source)
        if rows.tiles * columns.groups > 1:
            summed = self.nodes.sum(summed, (0, 2, 3))
        tall = self._times(columns.kernel.T, summed, (rows.products, columns.products, images))
        found = self._times(rows.kernel.T, tall, (rows.products, columns.taps * images))
        return self._turned_back(found, (self.out, self.channels, rows.taps, columns.taps))

    def _times(self, matrix: Matrix, tensor: str, shape: tuple[int, ...]) -> str:
        """``matrix`` times every matrix of ``tensor`` in that shape."""
        constant = self.nodes.constant(np.ascontiguousarray(matrix))
        return self.nodes.add("MatMul", constant, self.nodes.reshape(tensor, shape))

    def _products(self, tensor: str, channels: int) -> str:
        rows, columns = self.rows, self.columns
        groups = (rows.groups, rows.products, rows.in_group, columns.groups, columns.products)
        return self.nodes.reshape(tensor, (*groups, columns.in_group * self.batch, channels))

    def _last_two(self, tensor: str) -> str:
        """The last two axes exchanged; onnxruntime makes it part of the product."""
        return self.nodes.add("Transpose", tensor, perm=(0, 1, 2, 3, 4, 6, 5))

    def _turned(self, tensor: str, images: int, height: int, width: int) -> str:
        """(height * width, images)."""
        return self.nodes.add("Transpose", self.nodes.reshape(tensor, (images, height * width)), perm=(1, 0))

    def _turned_back(self, tensor: str, shape: tuple[int, int, int, int]) -> str:
        first, second, height, width = shape
        flat = self.nodes.reshape(tensor, (height * width, first * second))
        return self.nodes.reshape(self.nodes.add("Transpose", flat, perm=(1, 0)), shape)
