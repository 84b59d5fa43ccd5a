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

from edgeser.distill.method import Assignment
from edgeser.distill.methods.centroids import centroids
from edgeser.distill.methods.coresets import expert_features, standardised
from edgeser.errors import SettingsError
from edgeser.representation.base import Maps
from edgeser_export.utilities.errors import choice_hint

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
