"""What items begin as: real clips, mixtures of several speakers, equal shares of all clips of the class, or noise.

    items = STARTS["crowd"](assignment)         # float32 (items, mels, frames), in the order of the classes

A mixture is several voices at once, which can be found in it. In a crowd no clip has more to say than any other. Noise
has the class's mean spectrum only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray

from edgeser.distill.method import Assignment
from edgeser.errors import SettingsError
from edgeser.training import roll_each
from edgeser_export.errors import choice_hint

Items = NDArray[np.float32]
SOURCES = 3
"""Voices in a mixture: with two one may dominate, with four little is left that tells emotions apart."""
CROWD = 128
"""Clips of a class in a crowd at most: more take time, and each has less than a hundredth already."""
SMOOTH_FRAMES = 3
"""Noise is drawn for every third frame and every third band and interpolated, as speech varies."""


def real(assignment: Assignment) -> Items:
    """Random clips of each class."""
    chosen = np.concatenate([drawn[:, 0] for drawn in draws(assignment, sources=1)])
    return np.array(assignment.task.clips[chosen, 0])


def mix(assignment: Assignment) -> Items:
    """Three voices at once: clips of a class by different speakers, each shifted circularly by random frames.

    Powers are added, as sounds that meet at a microphone: the result is as sharp as speech, which a mean of log-mels
    is not. Weights are uniform between 0.5 and 1.5 before they are made to sum to one; mean and spread of each mixture
    are those of its sources. Clips that the experts are sure of come first: the better half of the class.
    """
    random = np.random.default_rng([assignment.settings.seed, 0x3117])
    items = []
    for drawn in draws(assignment, SOURCES):
        for row in drawn:
            sources = assignment.task.clips[row, 0]
            rolled = np.stack([np.roll(source, random.integers(source.shape[1]), axis=1) for source in sources])
            weights = random.uniform(0.5, 1.5, len(row))  # no source may stand out
            items.append(_like(at_once(rolled, weights / weights.sum(), assignment.task.decibels), sources))
    return np.stack(items).astype(np.float32)


def at_once(sources: NDArray[np.float32], weights: NDArray[np.float64], decibels: float) -> NDArray[np.float64]:
    """The log-mel of sounds that are heard together.

    Args:
        sources: Log-mels (sources, mels, frames), in units of ``decibels`` dB about any level.
        weights: Of their powers (sources,), above zero.
        decibels: dB in one unit.

    Returns:
        10 log10(sum of weight 10^(dB / 10)) in the same units, (mels, frames).
    """
    bels = sources.astype(np.float64) * (decibels / 10)
    loudest = bels.max(0)
    return np.asarray((loudest + np.log10(np.tensordot(weights, 10 ** (bels - loudest), axes=1))) * (10 / decibels))


def crowd(assignment: Assignment) -> Items:
    """Every clip of the class, or ``CROWD`` random ones, in equal shares.

        item = m + sum of s_i (clip_i - m) / sqrt(n)

    m is the class's mean spectrum, s_i is +1 or -1 at random, and each clip is shifted circularly by random frames, so
    that items vary as clips do: the same spread of every band, and the same correlations between bands and between
    frames. Each of n clips makes an n-th of an item's variance.
    """
    random = np.random.default_rng([assignment.settings.seed, 0xC40D])
    items = []
    for number in range(assignment.task.classes):
        everybody = assignment.clips_of_class(number)
        middle = assignment.task.clips[everybody, 0].mean((0, 2))[:, None]
        for _ in range(assignment.per_class):
            clips = assignment.task.clips[random.permutation(everybody)[:CROWD]] - middle
            signs = random.choice((-1.0, 1.0), len(clips)) / np.sqrt(len(clips))
            shifted = roll_each(torch.from_numpy(clips), random.integers(clips.shape[3], size=len(clips)))
            items.append(middle + np.tensordot(signs, shifted[:, 0].numpy(), axes=1))
    return np.stack(items).astype(np.float32)


def noise(assignment: Assignment) -> Items:
    """The class's mean spectrum and smooth noise as wide as the class's clips vary in each band."""
    random = np.random.default_rng([assignment.settings.seed, 0x4015E])
    mels, frames = assignment.task.clips.shape[2:]
    items = []
    for number in range(assignment.task.classes):
        clips = assignment.task.clips[assignment.clips_of_class(number), 0]
        mean, spread = clips.mean((0, 2))[:, None], clips.std((0, 2))[:, None]
        items += [mean + spread * smooth_noise(random, mels, frames) for _ in range(assignment.per_class)]
    return np.stack(items).astype(np.float32)


STARTS: Mapping[str, Callable[[Assignment], Items]] = MappingProxyType(
    {"real": real, "mix": mix, "crowd": crowd, "noise": noise}
)
"""What ``--from`` offers."""
VOICES: Mapping[str, int] = MappingProxyType({"real": 1, "mix": SOURCES, "crowd": 0, "noise": 0})
"""Clips that an item begins as, for each start; 0 where none stands out."""


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


def draws(assignment: Assignment, sources: int) -> list[NDArray[np.int64]]:
    """Clips to begin with, (per_class, sources) for each class, those of an item by different speakers if there are.

    The first sources of a class's items are different clips as long as there are enough.
    """
    random = np.random.default_rng([assignment.settings.seed, 0xC0])
    speakers = np.array(assignment.task.speakers or [str(index) for index in range(len(assignment.task.clips))])
    drawn = []
    for number in range(assignment.task.classes):
        indices = _surest(assignment, number, assignment.per_class * sources)
        firsts = np.resize(random.permutation(indices), assignment.per_class)
        drawn.append(np.stack([_with_partners(random, first, indices, speakers, sources) for first in firsts]))
    return drawn


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


def _like(item: NDArray[np.float64], sources: NDArray[np.float32]) -> NDArray[np.float64]:
    """The item with the mean and the standard deviation of its sources: a sum is louder and varies less."""
    mean, spread = float(sources.mean()), float(sources.std())
    return np.asarray(mean + (item - item.mean()) * (spread / max(float(item.std()), 1e-6)))


def smooth_noise(random: np.random.Generator, mels: int, frames: int) -> NDArray[np.float64]:
    """Normal noise that varies from every third band and frame to the next, of spread 1, (mels, frames)."""
    coarse = random.standard_normal((-(-mels // SMOOTH_FRAMES) + 1, -(-frames // SMOOTH_FRAMES) + 1))
    rows, columns = np.arange(mels) / SMOOTH_FRAMES, np.arange(frames) / SMOOTH_FRAMES
    grid = np.stack([np.interp(columns, np.arange(coarse.shape[1]), row) for row in coarse])
    out = np.stack([np.interp(rows, np.arange(coarse.shape[0]), column) for column in grid.T], axis=1)
    return np.asarray(out / out.std())
