"""What items begin as: real clips, mixtures of several speakers, or noise.

    items = STARTS["mix"](assignment)           # float32 (items, mels, frames), in the order of the classes

A mixture of clips of one class by different speakers holds no recording; noise has the class's mean spectrum only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from edgeser.distill.method import Assignment
from edgeser.errors import SettingsError
from edgeser_export.errors import choice_hint

Items = NDArray[np.float32]
SOURCES = 3
"""Clips in a mixture: with two one may dominate, with four little is left that tells emotions apart."""
SMOOTH_FRAMES = 3
"""Noise is drawn for every third frame and every third band and interpolated, as speech varies."""


def real(assignment: Assignment) -> Items:
    """Random clips of each class."""
    chosen = np.concatenate([drawn[:, 0] for drawn in _draws(assignment, sources=1)])
    return np.array(assignment.task.clips[chosen, 0])


def mix(assignment: Assignment) -> Items:
    """Weighted sums of three clips of a class, of different clips each, shifted circularly by random numbers of frames.

    Weights are uniform between 0.5 and 1.5 before they are made to sum to one; each sum is scaled to the spread of its
    sources. Clips that the experts are sure of come first: the better half of the class.
    """
    random = np.random.default_rng([assignment.settings.seed, 0x3117])
    items = []
    for drawn in _draws(assignment, SOURCES):
        for row in drawn:
            sources = assignment.task.clips[row, 0]
            rolled = [np.roll(source, random.integers(source.shape[1]), axis=1) for source in sources]
            weights = random.uniform(0.5, 1.5, len(row))  # no source may stand out
            total = np.tensordot(weights / weights.sum(), np.stack(rolled), axes=1)
            items.append(_with_spread(total, float(sources.std())))
    return np.stack(items).astype(np.float32)


def noise(assignment: Assignment) -> Items:
    """The class's mean spectrum and smooth noise as wide as the class's clips vary in each band."""
    random = np.random.default_rng([assignment.settings.seed, 0x4015E])
    mels, frames = assignment.task.clips.shape[2:]
    items = []
    for number in range(assignment.task.classes):
        clips = assignment.task.clips[assignment.clips_of_class(number), 0]
        mean, spread = clips.mean((0, 2))[:, None], clips.std((0, 2))[:, None]
        items += [mean + spread * _smooth(random, mels, frames) for _ in range(assignment.settings.ipc)]
    return np.stack(items).astype(np.float32)


STARTS: Mapping[str, Callable[[Assignment], Items]] = MappingProxyType({"real": real, "mix": mix, "noise": noise})
"""What ``--from`` offers."""


def find_start(name: str) -> Callable[[Assignment], Items]:
    """The function of a start.

    Raises:
        SettingsError: There is no such start.
    """
    if name not in STARTS:
        raise SettingsError(f"items cannot begin as {name!r}", choice_hint(name, STARTS))
    return STARTS[name]


def begin_items(assignment: Assignment) -> Items:
    """Items as the settings want them to begin."""
    return find_start(assignment.settings.start_from)(assignment)


def _draws(assignment: Assignment, sources: int) -> list[NDArray[np.int64]]:
    """Clips to begin with, (ipc, sources) for each class, the sources of an item by different speakers if there are.

    The first sources of a class's items are different clips.
    """
    random = np.random.default_rng([assignment.settings.seed, 0xC0])
    speakers = np.array(assignment.task.speakers or [str(index) for index in range(len(assignment.task.clips))])
    draws = []
    for number in range(assignment.task.classes):
        indices = _surest(assignment, number, assignment.settings.ipc * sources)
        firsts = random.permutation(indices)[: assignment.settings.ipc]
        draws.append(np.stack([_with_partners(random, first, indices, speakers, sources) for first in firsts]))
    return draws


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


def _with_spread(item: NDArray[np.float64], spread: float) -> NDArray[np.float64]:
    """The item with another standard deviation about its mean: sums of independent clips vary less than clips do."""
    mean = item.mean()
    return np.asarray(mean + (item - mean) * (spread / max(float(item.std()), 1e-6)))


def _smooth(random: np.random.Generator, mels: int, frames: int) -> NDArray[np.float64]:
    coarse = random.standard_normal((-(-mels // SMOOTH_FRAMES) + 1, -(-frames // SMOOTH_FRAMES) + 1))
    rows, columns = np.arange(mels) / SMOOTH_FRAMES, np.arange(frames) / SMOOTH_FRAMES
    grid = np.stack([np.interp(columns, np.arange(coarse.shape[1]), row) for row in coarse])
    out = np.stack([np.interp(rows, np.arange(coarse.shape[0]), column) for column in grid.T], axis=1)
    return np.asarray(out / out.std())
