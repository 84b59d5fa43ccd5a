"""Centroids: each item is the mean of one cluster of a class's vectors (k-means, Lloyd 1982).

The mean of many vectors of a class is a vector of that class, and no clip's own; a mean of log-mels is no sound.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from edgeser.distill.method import Assignment, State
from edgeser.representation.base import Maps


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
