"""Coresets: methods that choose real items. They are the baselines, and where other methods begin.

Features are the last hidden layer of the first label expert, standardised over the training clips.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgeser.distill.method import Assignment, State, real_items
from edgeser.models.network import infer
from edgeser_export.graph.op_graph import Linear, Weights


def random_items(assignment: Assignment) -> State:
    """Random real items of each class."""
    return real_items(assignment, random_choice(assignment))


def random_choice(assignment: Assignment) -> NDArray[np.int64]:
    """Indices of random clips, as many of each class as there are items, int64 (items,)."""
    random = np.random.default_rng([assignment.settings.seed, 0xC0])
    chosen = [
        random.permutation(assignment.clips_of_class(number))[: assignment.per_class]
        for number in range(assignment.task.classes)
    ]
    return np.concatenate(chosen)


def herding(assignment: Assignment) -> State:
    """Herding (Welling 2009): greedily choose items whose mean feature follows the mean of the class."""
    features = expert_features(assignment, assignment.ensemble.members[:1])
    chosen = []
    for number in range(assignment.task.classes):
        indices = assignment.clips_of_class(number)
        mine = features[indices]
        target, total = mine.mean(0), np.zeros(mine.shape[1])
        picked: list[int] = []
        for count in range(1, assignment.per_class + 1):
            distance = ((target - (total + mine) / count) ** 2).sum(1)
            distance[picked] = np.inf
            picked.append(int(distance.argmin()))
            total = total + mine[picked[-1]]
        chosen.append(indices[picked])
    return real_items(assignment, np.concatenate(chosen))


def k_center(assignment: Assignment) -> State:
    """Greedy k-center (Sener and Savarese 2018, arXiv 1708.00489): each item is the farthest from those chosen."""
    features = expert_features(assignment, assignment.ensemble.members[:1])
    chosen = []
    for number in range(assignment.task.classes):
        indices = assignment.clips_of_class(number)
        mine = features[indices]
        picked = [int(((mine - mine.mean(0)) ** 2).sum(1).argmin())]
        nearest = ((mine - mine[picked[0]]) ** 2).sum(1)
        while len(picked) < assignment.per_class:
            picked.append(int(np.where(np.isin(np.arange(len(mine)), picked), -1, nearest).argmax()))
            nearest = np.minimum(nearest, ((mine - mine[picked[-1]]) ** 2).sum(1))
        chosen.append(indices[picked])
    return real_items(assignment, np.concatenate(chosen))


def expert_features(assignment: Assignment, members: Sequence[Weights]) -> NDArray[np.float64]:
    """Standardised features of the training clips by some experts, side by side, float64 (clips, features)."""
    graph = assignment.ensemble.graph
    last = next(op for op in reversed(graph.ops) if isinstance(op, Linear))
    return standardised(
        np.concatenate([infer(graph, member, assignment.task.clips, last.source) for member in members], axis=1)
    )


def standardised(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean 0 and spread 1 of each column, float64 (clips, features)."""
    exact = features.astype(np.float64)
    return np.asarray((exact - exact.mean(0)) / (exact.std(0) + 1e-6))
