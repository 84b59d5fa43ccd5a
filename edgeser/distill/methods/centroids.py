"""Items from the statistics of a class's vectors: centroids of its clusters, or draws from its Gaussian.

A centroid is the mean of one cluster (k-means, Lloyd 1982). The mean of many vectors of a class is a vector of that
class, and no clip's own; a mean of log-mels is no sound. The Gaussian of each class has the class's mean, and all share
the covariance of the clips about their class means, of low rank. It is what a generator of vectors has to beat.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeser.distill.method import Assignment, State
from edgeser.representation.base import Maps

RANK = 64
"""Directions in which clips of a class vary; the rest is left out."""


def begin(assignment: Assignment) -> State:
    """The centroids of each class, as many as there are items."""
    return {"items": centroids(assignment)}


def centroids(assignment: Assignment) -> Maps:
    """The centroids of each class, float32 (items, rows, columns), in the order of the classes.

    Clusters begin as k-means++ draws them from the seed of the settings.
    """
    task, counts = assignment.task, np.bincount(assignment.classes, minlength=assignment.task.classes)
    found = [
        _clustered(
            task.maps[clips],
            int(count),
            assignment.settings.seed,
            None if task.weights is None else task.weights[clips],
        )
        for count, clips in zip(counts, map(assignment.clips_of_class, range(task.classes)), strict=True)
    ]
    return np.concatenate(found).reshape(-1, *task.maps.shape[1:])


def _clustered(clips: Maps, count: int, seed: int, weights: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """The means of ``count`` clusters of some clips (clips, rows, columns), float32 (count, rows x columns)."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    means = KMeans(count, n_init=1, random_state=seed)
    with threadpool_limits(1), warnings.catch_warnings():  # several threads add in any order
        warnings.simplefilter("ignore", ConvergenceWarning)  # equal clips make fewer clusters: some items are equal
        means.fit(clips.reshape(len(clips), -1).astype(np.float64), sample_weight=weights)
    return np.asarray(means.cluster_centers_, dtype=np.float32)


class Gaussian(NamedTuple):
    """Means and a factor of the covariance.

    Attributes:
        middle: The mean of each class, float32 (classes, numbers).
        spread: The directions, each as long as its standard deviation, float32 (rank, numbers).
    """

    middle: NDArray[np.float32]
    spread: NDArray[np.float32]


def draw(assignment: Assignment) -> State:
    """Items drawn from the Gaussian of each class."""
    middle, spread = fitted_gaussians(assignment)
    random = np.random.default_rng([assignment.settings.seed, 0x6A55])
    z = random.standard_normal((len(assignment.classes), len(spread))).astype(np.float32)
    items = middle[assignment.classes] + z @ spread
    return {"items": items.reshape(-1, *assignment.task.maps.shape[1:])}


def fitted_gaussians(assignment: Assignment) -> Gaussian:
    """The Gaussians of the training clips."""
    task = assignment.task
    x = task.maps.reshape(len(task.maps), -1).astype(np.float64)
    middle = np.stack([x[task.labels == number].mean(0) for number in range(task.classes)])
    _, lengths, directions = np.linalg.svd(x - middle[task.labels], full_matrices=False)
    spread = directions[:RANK] * (lengths[:RANK] / np.sqrt(len(x)))[:, None]
    return Gaussian(middle.astype(np.float32), spread.astype(np.float32))
