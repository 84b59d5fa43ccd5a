"""What items begin as: real clips, two or three voices at once, or noise.

    items = STARTS["mix"](assignment)           # float32 (items, mels, frames), in the order of the classes

A mixture, or an aligned pair, is several voices at once, which can be found in it. Noise has the class's mean spectrum
only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from edgeser.config.settings import STARTS as USUAL
from edgeser.distill.method import Assignment
from edgeser.distill.voices import alike, at_once, draws, fitting_shift, pairs

Items = NDArray[np.float32]
SOURCES = 3
"""Voices in a mixture: with four little is left that tells emotions apart."""
LEAST_SHARE, LARGEST_SHARE = 0.5, 1.5
"""Of a voice's power, before shares are made to sum to one: none is drowned by the others."""
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
            items.append(together(rolled, random, assignment.task.decibels))
    return np.stack(items).astype(np.float32)


def aligned(assignment: Assignment) -> Items:
    """Two voices at once, aligned in time: clips by different speakers that the experts take for much the same.

    As a mixture, but the second clip is shifted circularly to where its patterns fit the first one's best, and both by
    random frames then. Where speakers say the same words, syllables fall together; where not, at least the rhythm does.
    Such a sum varies in time much as one voice does; unrelated clips fill each other's pauses.
    """
    random = np.random.default_rng([assignment.settings.seed, 0xD0E7])
    items = []
    for drawn in pairs(assignment):
        for row in drawn:
            first, second = assignment.task.clips[row, 0]
            frames = first.shape[1]
            alone = row[0] == row[1]  # a clip aligned with itself would be the clip
            shift = random.integers(frames // 4, 3 * frames // 4) if alone else fitting_shift(first, second)
            moved = np.roll(np.stack([first, np.roll(second, shift, axis=1)]), random.integers(frames), axis=2)
            items.append(together(moved, random, assignment.task.decibels))
    return np.stack(items).astype(np.float32)


def together(sources: Items, random: np.random.Generator, decibels: float) -> NDArray[np.float64]:
    """Some clips (sources, mels, frames) at once, in random shares of power, with their mean and spread."""
    weights = random.uniform(LEAST_SHARE, LARGEST_SHARE, len(sources))
    return alike(at_once(sources, weights / weights.sum(), decibels), sources)


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
    {"real": real, "mix": mix, "aligned": aligned, "noise": noise}
)
"""What ``--from`` offers."""
DRAWN: Mapping[str, Callable[[Assignment], list[NDArray[np.int64]]]] = MappingProxyType(
    {"real": partial(draws, sources=1), "mix": partial(draws, sources=SOURCES), "aligned": pairs}
)
"""Clips that each item begins as, (per_class, sources) for each class; no row for starts in which none stands out."""


def begin_items(assignment: Assignment) -> Items:
    """Items as the settings want them to begin."""
    return STARTS[assignment.settings.start or USUAL[True]](assignment)


def smooth_noise(random: np.random.Generator, mels: int, frames: int) -> NDArray[np.float64]:
    """Normal noise that varies from every third band and frame to the next, of spread 1, (mels, frames)."""
    coarse = random.standard_normal((-(-mels // SMOOTH_FRAMES) + 1, -(-frames // SMOOTH_FRAMES) + 1))
    rows, columns = np.arange(mels) / SMOOTH_FRAMES, np.arange(frames) / SMOOTH_FRAMES
    grid = np.stack([np.interp(columns, np.arange(coarse.shape[1]), row) for row in coarse])
    out = np.stack([np.interp(rows, np.arange(coarse.shape[0]), column) for column in grid.T], axis=1)
    return np.asarray(out / out.std())
