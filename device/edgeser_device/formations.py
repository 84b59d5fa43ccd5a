"""Several log-mels in the room of one: each at a fraction of the frame rate, one after the other in time.

    items = fold(log_mels, 2)       # on the host, when a set is stored
    log_mels = unfold(items, 2)     # on host and board alike, when views are rendered

What tells emotions apart changes slowly, so a student learns more from two blurred clips than from a sharp one.
Multi-formation of Kim et al. 2022 (IDC, arXiv 2205.14959), in time only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MOST = 8
"""Log-mels in one item at most."""


def unfold(items: NDArray[np.float32], formations: int) -> NDArray[np.float32]:
    """The log-mels that items hold, interpolated linearly in time to their full number of frames.

    Products and sums of float32 in a fixed order: the same bits on every machine.

    Args:
        items: Float32 (items, mels, frames).
        formations: How many log-mels each holds; a divisor of the frames.

    Returns:
        Float32 (items x formations, mels, frames), those of the first item first.
    """
    if formations == 1:
        return items
    count, mels, frames = items.shape
    coarse = frames // formations
    parts = items.reshape(count, mels, formations, coarse).transpose(0, 2, 1, 3).reshape(-1, mels, coarse)
    before, after, share = _neighbours(frames, formations)
    log_mels: NDArray[np.float32] = parts[..., before] * (np.float32(1) - share) + parts[..., after] * share
    return log_mels


def fold(log_mels: NDArray[np.float32], formations: int) -> NDArray[np.float32]:
    """The items of which :func:`unfold` makes what is nearest to these log-mels, by least squares.

    Args:
        log_mels: Float32 (items x formations, mels, frames), those of the first item first.
        formations: How many go into one item; a divisor of the frames.

    Returns:
        Float32 (items, mels, frames).
    """
    if formations == 1:
        return log_mels
    count, mels, frames = log_mels.shape
    coarse = log_mels.astype(np.float64) @ np.linalg.pinv(_interpolation(frames, formations)).T
    parts = coarse.reshape(count // formations, formations, mels, frames // formations).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(parts.reshape(-1, mels, frames), dtype=np.float32)


def blur(log_mels: NDArray[np.float32], formations: int) -> NDArray[np.float32]:
    """What is left of log-mels after folding and unfolding; a second time changes nothing more."""
    return unfold(fold(log_mels, formations), formations)


def _neighbours(frames: int, formations: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """For each frame the coarse frames before and after it, and the share of the latter."""
    coarse = frames // formations
    twice = 2 * np.arange(frames) + 1 - formations  # the place, times twice the formations: in integers
    before = twice // (2 * formations)
    share = ((twice - 2 * formations * before) / (2 * formations)).astype(np.float32)
    return np.clip(before, 0, coarse - 1), np.clip(before + 1, 0, coarse - 1), share


def _interpolation(frames: int, formations: int) -> NDArray[np.float64]:
    """The matrix from coarse frames to frames, float64 (frames, frames // formations)."""
    before, after, share = _neighbours(frames, formations)
    matrix = np.zeros((frames, frames // formations))
    np.add.at(matrix, (np.arange(frames), before), 1 - share)
    np.add.at(matrix, (np.arange(frames), after), share)
    return matrix
