"""A Gaussian a class: what a generator of vectors has to beat. Each class has its mean, all share one covariance.

The covariance is that of the clips about the means of their classes, of low rank (singular value decomposition). Items
are drawn; any number can be.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeser.distill.method import Assignment, State

RANK = 64
"""Directions in which clips of a class vary; the rest is left out."""


class Gaussian(NamedTuple):
    """Means and a factor of the covariance.

    Attributes:
        middle: The mean of each class, float32 (classes, numbers).
        spread: The directions, each as long as its standard deviation, float32 (rank, numbers).
    """

    middle: NDArray[np.float32]
    spread: NDArray[np.float32]


def begin(assignment: Assignment) -> State:
    """Items drawn from the Gaussian of each class."""
    middle, spread = fitted(assignment)
    random = np.random.default_rng([assignment.settings.seed, 0x6A55])
    z = random.standard_normal((len(assignment.classes), len(spread))).astype(np.float32)
    items = middle[assignment.classes] + z @ spread
    return {"items": items.reshape(-1, *assignment.task.maps.shape[1:])}


def fitted(assignment: Assignment) -> Gaussian:
    """The Gaussians of the training clips."""
    task = assignment.task
    x = task.maps.reshape(len(task.maps), -1).astype(np.float64)
    middle = np.stack([x[task.labels == number].mean(0) for number in range(task.classes)])
    _, lengths, directions = np.linalg.svd(x - middle[task.labels], full_matrices=False)
    spread = directions[:RANK] * (lengths[:RANK] / np.sqrt(len(x)))[:, None]
    return Gaussian(middle.astype(np.float32), spread.astype(np.float32))
