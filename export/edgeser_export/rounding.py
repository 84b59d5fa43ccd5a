"""Rounding a layer's weights so that what it computes changes least, not the weights themselves.

    rows = summed_rows(op, tensor)                           # what the layer sums, at some places of some items
    steps = round_weights(weight, scales, rows.T @ rows, highest=127)

Weights are rounded one input after the other; what a rounding changes in the sums is made up by the weights that are
not rounded yet (Frantar et al. 2022, arXiv 2210.17323, after Hassibi and Stork 1993). The nearest numbers are the
special case of inputs that do not correlate.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeser_export.graph import Conv, Linear

HIGHEST, HIGHEST_CONVOLVED = 127, 64
"""The largest whole number that a weight becomes, and of the other sign the lowest: in dense layers, in convolutions.
x86 processors without VNNI add two products with unsigned numbers of eight bits in sixteen, and onnxruntime lets them
cut off what is more: 2 * 255 * 64 is not. That costs less than the rounding of what a convolution reads."""
LARGEST = 1200
"""Inputs of one output up to which the moments, a square matrix, are worth their memory and time on a board."""
PLACES = 256
"""In each item: with 64 items there are more rows than inputs of any layer whose moments are taken."""
DAMPING = 0.01
"""Added to the diagonal, as a share of its mean: inputs that never differ have no inverse."""


def input_count(weight: NDArray[np.floating]) -> int:
    """Numbers that are summed for one output of a layer with this weight."""
    return int(np.prod(weight.shape[1:]))


def summed_rows(op: Conv | Linear, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
    """What an operation sums for one output, at up to about ``PLACES`` places of each item, evenly spread.

    Args:
        op: A convolution or dense layer.
        tensor: What it reads, (items, channels, height, width) or (items, features).

    Returns:
        Float32 (rows, inputs), the inputs in the order of a flat weight.
    """
    if isinstance(op, Linear):
        return tensor
    padded = np.pad(tensor, ((0, 0), (0, 0), (op.padding,) * 2, (op.padding,) * 2))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (op.kernel, op.kernel), axis=(2, 3))
    height, width = windows.shape[2:4]
    step = op.stride * max(1, round((height * width / op.stride**2 / PLACES) ** 0.5))
    places = windows[:, :, ::step, ::step].transpose(0, 2, 3, 1, 4, 5)
    return np.ascontiguousarray(places).reshape(-1, tensor.shape[1] * op.kernel**2)


def round_weights(
    weight: NDArray[np.floating], scales: NDArray[np.floating], moments: NDArray[np.float64], highest: int = HIGHEST
) -> NDArray[np.int8]:
    """Whole numbers whose products with ``scales`` take the place of a weight.

    Args:
        weight: (outputs, ...).
        scales: (outputs,) or (1,), above 0.
        moments: Sum of x x' over rows x of :func:`summed_rows`, (inputs, inputs).
        highest: The largest whole number, up to 127.

    Returns:
        Int8, the weight's shape, from -``highest`` to ``highest``.
    """
    left = weight.reshape(len(weight), -1).astype(np.float64)
    units = np.broadcast_to(np.asarray(scales, np.float64), len(weight))
    damped = moments + np.eye(len(moments)) * (DAMPING * np.trace(moments) / len(moments) + 1e-12)
    order = np.argsort(-np.diag(damped), kind="stable")
    # The upper Cholesky factor of the inverse: row i says how the inputs after i make up for a change of input i.
    factor = np.linalg.cholesky(np.linalg.inv(damped[np.ix_(order, order)])).T
    steps = np.empty_like(left)
    left = left[:, order]
    for place in range(len(order)):
        found = np.clip(np.rint(left[:, place] / units), -highest, highest)
        change = (left[:, place] - found * units) / factor[place, place]
        left[:, place + 1 :] -= np.outer(change, factor[place, place + 1 :])
        steps[:, order[place]] = found
    return steps.reshape(weight.shape).astype(np.int8)


def nearest_weights(
    weight: NDArray[np.floating], scales: NDArray[np.floating], highest: int = HIGHEST
) -> NDArray[np.int8]:
    """The nearest whole numbers; see :func:`round_weights`."""
    units = np.asarray(scales, np.float64).reshape(-1, *[1] * (weight.ndim - 1))
    return np.clip(np.rint(weight / units), -highest, highest).astype(np.int8)
