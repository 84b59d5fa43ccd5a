"""What adaptation to a speaker's own level gains: a few utterances without labels, and the rest scored.

    found = score_adapted(graph, weights, other, clips=20)
    found["uar"], found["plain"], found["refused"]

Of each speaker at most so many clips, and at most half, are heard first, as ``listen --adapt on`` hears them; the rest
is scored with the level that this leaves, and once more without. This is done for several draws.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgeser.evaluation.scoring import average_by_clip, probabilities
from edgeser_device.model.adaptation import Adaptation
from edgeser_export.graph.op_graph import Graph, Weights

if TYPE_CHECKING:
    from edgeser.evaluation.cross_corpus import Other

ADAPTED_DRAWS = 5
"""Draws of the clips that are heard first."""


def score_adapted(graph: Graph, weights: Weights, other: Other, clips: int) -> dict[str, float]:
    """UAR of a student on another corpus whose speakers it is adapted to.

    Args:
        graph: A student of vectors.
        weights: Its trained weights.
        other: The recordings.
        clips: The most that are heard of each speaker before the others are scored.

    Returns:
        ``uar``; ``plain``, the same clips without adaptation; ``refused``, the share of speakers who were not adapted
        to. Each is the mean of ``ADAPTED_DRAWS`` draws.
    """
    plain = average_by_clip(probabilities(graph, weights, other.x), other.owners, len(other.truth))
    drawn = [_draw(graph, weights, other, plain, clips, seed) for seed in range(ADAPTED_DRAWS)]
    return {name: float(np.mean([each[name] for each in drawn])) for name in drawn[0]}


def _draw(
    graph: Graph, weights: Weights, other: Other, plain: NDArray[np.float64], clips: int, seed: int
) -> dict[str, float]:
    random = np.random.default_rng([seed, 0xADA])
    first = np.searchsorted(other.owners, np.arange(len(other.truth)))  # windows of a clip stand together
    ends = np.append(first[1:], len(other.owners))
    scored = np.ones(len(other.truth), dtype=bool)
    shift = np.zeros((len(other.truth), other.x.shape[1]), dtype=np.float32)
    refused = []
    for speaker in range(int(other.speakers.max()) + 1):
        own = random.permutation(np.flatnonzero(other.speakers == speaker))
        heard = own[: min(clips, len(own) // 2)]
        level = Adaptation(other.x.shape[1], plain.shape[1])
        for clip in heard:
            level.learn(other.x[first[clip] : ends[clip], :, 0, 0], plain[clip])
        scored[heard], shift[own] = False, level.shift
        refused.append(not level.active)
    windows = scored[other.owners]
    moved = other.x[windows] - shift[other.owners[windows]][:, :, None, None]
    _, owners = np.unique(other.owners[windows], return_inverse=True)
    adapted = average_by_clip(probabilities(graph, weights, moved), owners, int(scored.sum()))
    truth = other.truth[scored]

    def uar(rows: NDArray[np.float64]) -> float:
        said = (rows @ other.groups).argmax(1)
        return float(np.mean([(said[truth == label] == label).mean() for label in np.unique(truth)]))

    return {"uar": uar(adapted), "plain": uar(plain[scored]), "refused": float(np.mean(refused))}
