"""Which clips an item begins as.

for drawn in draws(assignment, sources=3): ...      # (per_class, 3) for each class: indices of clips
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeser.distill.coresets import expert_features, standardised
from edgeser.distill.method import Assignment

NEIGHBOURS = 4
"""Clips by other speakers of which the second voice of an aligned pair is drawn."""


def fitting_shift(fixed: NDArray[np.float32], moving: NDArray[np.float32]) -> int:
    """Frames by which ``moving`` is to be shifted circularly to fit ``fixed`` best, each (mels, frames).

    The shift with the largest correlation, bands without their means; all shifts at once by the convolution theorem.
    """
    first, second = (np.fft.rfft(clip - clip.mean(1, keepdims=True), axis=1) for clip in (fixed, moving))
    return int(np.fft.irfft((first * second.conj()).sum(0), n=fixed.shape[1]).argmax())


def draws(assignment: Assignment, sources: int) -> list[NDArray[np.int64]]:
    """Clips to begin with, (per_class, sources) for each class, those of an item by different speakers if there are.

    The first sources of a class's items are different clips as long as there are enough.
    """
    random = np.random.default_rng([assignment.settings.seed, 0xC0])
    speakers = _speakers(assignment)
    drawn = []
    for number in range(assignment.task.classes):
        indices = _surest(assignment, number, assignment.per_class * sources)
        firsts = np.resize(random.permutation(indices), assignment.per_class)
        drawn.append(np.stack([_with_partners(random, first, indices, speakers, sources) for first in firsts]))
    return drawn


def _speakers(assignment: Assignment) -> NDArray[np.str_]:
    """Speaker of each clip; where nobody knows, every clip has its own."""
    return np.array(assignment.task.speakers or [str(index) for index in range(len(assignment.task.clips))])


def _surest(assignment: Assignment, number: int, wanted: int) -> NDArray[np.int64]:
    """The half of a class's clips that the experts are most sure of, and ``wanted`` of them if there are."""
    indices = assignment.clips_of_class(number)
    if not assignment.ensemble.members:
        return indices
    sure = assignment.ensemble.soft_labels(assignment.task.clips[indices], temperature=1.0)[:, number]
    order = np.argsort(-sure, kind="stable")[: max(wanted, -(-len(indices) // 2))]
    return np.sort(indices[order])


def _with_partners(
    random: np.random.Generator, first: int, indices: NDArray[np.int64], speakers: NDArray[np.str_], sources: int
) -> NDArray[np.int64]:
    """``first`` and other clips of its class: by speakers that have none yet, then by anyone, then ``first`` again."""
    order = random.permutation(indices[indices != first])
    _, earliest = np.unique(speakers[order], return_index=True)
    fresh = order[np.sort(earliest)]
    fresh = fresh[speakers[fresh] != speakers[first]]
    others = np.concatenate([fresh, np.setdiff1d(order, fresh)])[: sources - 1]
    return np.resize(np.concatenate([[first], others]), sources).astype(np.int64)


def pairs(assignment: Assignment) -> list[NDArray[np.int64]]:
    """Clips as :func:`draws` gives them, two that are alike: the second is one of the nearest by other speakers.

    Near by what the experts make of them, see :func:`traits`. Where a class has one speaker, they are by the same one.
    """
    random = np.random.default_rng([assignment.settings.seed, 0xC0])
    speakers = _speakers(assignment)
    found, drawn = traits(assignment), []
    for number in range(assignment.task.classes):
        indices = _surest(assignment, number, assignment.per_class * 2)
        rows = []
        for first in np.resize(random.permutation(indices), assignment.per_class):
            by_distance = indices[np.argsort(((found[indices] - found[first]) ** 2).sum(1), kind="stable")]
            others = by_distance[speakers[by_distance] != speakers[first]]
            nearest = (others if len(others) else by_distance[by_distance != first])[:NEIGHBOURS]
            rows.append([first, nearest[random.integers(len(nearest))] if len(nearest) else first])
        drawn.append(np.array(rows, dtype=np.int64))
    return drawn


def traits(assignment: Assignment) -> NDArray[np.float64]:
    """Standardised features that the experts make of the clips before they name a class; without experts their spectra.

    Float64 (clips, numbers).
    """
    members, maps = assignment.ensemble.members, assignment.task.maps
    if members:
        return expert_features(assignment, members)
    return standardised(maps.mean(2))
