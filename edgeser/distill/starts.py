"""Starts: items begin as real clips, as two or three clips at once, as centroids, or as noise.

    items = STARTS["mix"].make(assignment)      # float32 (items, rows, columns), in the order of the classes

A mixture, or an aligned pair, is several clips at once, which can be found in it. Noise has the class's mean spectrum
only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from edgeser.distill.centroids import centroids
from edgeser.distill.method import Assignment
from edgeser.distill.voices import draws, fitting_shift, pairs
from edgeser.errors import SettingsError
from edgeser.representation.base import Maps
from edgeser_export.errors import choice_hint

SOURCES = 3
"""Clips in a mixture: with four little is left that tells emotions apart."""
LEAST_SHARE, LARGEST_SHARE = 0.5, 1.5
"""Bounds of a clip's weight, before weights are made to sum to one: none is drowned by the others."""
SMOOTH_FRAMES = 3
"""Noise is drawn for every third frame and every third band and interpolated, as speech varies."""


def real(assignment: Assignment) -> Maps:
    """Random clips of each class."""
    chosen = np.concatenate([drawn[:, 0] for drawn in draws(assignment, sources=1)])
    return np.array(assignment.task.maps[chosen])


def mix(assignment: Assignment) -> Maps:
    """Three clips at once: clips of a class by different speakers, each shifted circularly by random frames.

    The representation says what several clips at once are. Of log-mels, powers are added, as those of sounds that meet
    at a microphone: the result is as sharp as speech, which a mean of log-mels is not. Clips that the experts are sure
    of come first: the better half of the class.
    """
    random = np.random.default_rng([assignment.settings.seed, 0x3117])
    items = []
    for number, drawn in enumerate(draws(assignment, SOURCES)):
        middle = _middle(assignment, number)
        for row in drawn:
            sources = assignment.task.maps[row]
            rolled = np.stack([np.roll(source, random.integers(source.shape[1]), axis=1) for source in sources])
            items.append(_together(assignment, rolled, random, middle))
    return np.stack(items).astype(np.float32)


def aligned(assignment: Assignment) -> Maps:
    """Two voices at once, aligned in time: clips by different speakers that the experts take for much the same.

    As a mixture, but the second clip is shifted circularly to where its patterns fit the first one's best, and both by
    random frames then. Where speakers say the same words, syllables fall together; where not, at least the rhythm does.
    Such a sum varies in time much as one voice does; unrelated clips fill each other's pauses.
    """
    random = np.random.default_rng([assignment.settings.seed, 0xD0E7])
    items = []
    for number, drawn in enumerate(pairs(assignment)):
        middle = _middle(assignment, number)
        for row in drawn:
            first, second = assignment.task.maps[row]
            frames = first.shape[1]
            alone = row[0] == row[1]  # a clip aligned with itself would be the clip
            shift = random.integers(frames // 4, 3 * frames // 4) if alone else fitting_shift(first, second)
            moved = np.roll(np.stack([first, np.roll(second, shift, axis=1)]), random.integers(frames), axis=2)
            items.append(_together(assignment, moved, random, middle))
    return np.stack(items).astype(np.float32)


def _middle(assignment: Assignment, number: int) -> NDArray[np.float32]:
    """Mean of a class's clips, (rows, columns)."""
    return np.asarray(assignment.task.maps[assignment.clips_of_class(number)].mean(0))


def _together(
    assignment: Assignment, sources: Maps, random: np.random.Generator, middle: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Some clips (sources, rows, columns) at once, in random shares."""
    weights = random.uniform(LEAST_SHARE, LARGEST_SHARE, len(sources))
    return assignment.representation.blend(sources, weights / weights.sum(), middle)


def noise(assignment: Assignment) -> Maps:
    """The class's mean spectrum and smooth noise as wide as the class's clips vary in each band."""
    random = np.random.default_rng([assignment.settings.seed, 0x4015E])
    maps = assignment.task.maps
    items = []
    for number in range(assignment.task.classes):
        clips = maps[assignment.clips_of_class(number)]
        mean, spread = clips.mean((0, 2))[:, None], clips.std((0, 2))[:, None]
        items += [mean + spread * smooth_noise(random, *maps.shape[1:]) for _ in range(assignment.per_class)]
    return np.stack(items).astype(np.float32)


@dataclass(frozen=True)
class Start:
    """One row of the table of starts.

    Attributes:
        make: The items of an assignment, float32 (items, rows, columns).
        draws: The clips that each item begins as, (per_class, sources) for each class; None where none stands out.
        needs_time: Whether it shifts or smooths along time.
        of_vectors: Whether it exists only for representations without time.
    """

    make: Callable[[Assignment], Maps]
    draws: Callable[[Assignment], list[NDArray[np.int64]]] | None
    needs_time: bool = False
    of_vectors: bool = False


STARTS: Mapping[str, Start] = MappingProxyType(
    {
        "real": Start(real, partial(draws, sources=1)),
        "mix": Start(mix, partial(draws, sources=SOURCES)),
        "aligned": Start(aligned, pairs, needs_time=True),
        "noise": Start(noise, None, needs_time=True),
        "centroids": Start(centroids, None, of_vectors=True),
    }
)
"""The starts that ``--from`` offers."""


def find_start(name: str) -> Start:
    """The row of a start.

    Raises:
        SettingsError: There is no such start.
    """
    if name not in STARTS:
        raise SettingsError(f"items cannot begin as {name!r}", choice_hint(name, STARTS))
    return STARTS[name]


def begin_items(assignment: Assignment) -> Maps:
    """Items as the settings want them to begin."""
    return find_start(assignment.settings.start or assignment.representation.usual_starts[0]).make(assignment)


def smooth_noise(random: np.random.Generator, mels: int, frames: int) -> NDArray[np.float64]:
    """Normal noise that varies from every third band and frame to the next, of spread 1, (mels, frames)."""
    coarse = random.standard_normal((-(-mels // SMOOTH_FRAMES) + 1, -(-frames // SMOOTH_FRAMES) + 1))
    rows, columns = np.arange(mels) / SMOOTH_FRAMES, np.arange(frames) / SMOOTH_FRAMES
    grid = np.stack([np.interp(columns, np.arange(coarse.shape[1]), row) for row in coarse])
    out = np.stack([np.interp(rows, np.arange(coarse.shape[0]), column) for column in grid.T], axis=1)
    return np.asarray(out / out.std())
