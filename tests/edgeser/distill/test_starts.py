"""What items begin as: of the right class, different from each other, and no recording where none is promised."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeser.config.settings import SETTINGS
from edgeser.config.values import changed
from edgeser.distill.method import Assignment
from edgeser.distill.starts import (
    SOURCES,
    STARTS,
    aligned,
    begin_items,
    find_start,
    mix,
    noise,
    real,
)
from edgeser.errors import SettingsError


def of_speakers(assignment: Assignment, ipc: int, speakers: int = 4, seed: int = 0) -> Assignment:
    """The assignment with a number of speakers who take turns."""
    names = tuple(f"s{index % speakers}" for index in range(len(assignment.task.clips)))
    task = replace(assignment.task, speakers=names)
    return replace(assignment, task=task, settings=replace(assignment.settings, ipc=ipc, seed=seed))


@pytest.mark.parametrize("name", STARTS)
@pytest.mark.parametrize("ipc", [1, 3, 8])
def test_items_are_finite_and_repeat_with_the_seed(assignment: Assignment, name: str, ipc: int) -> None:
    given = of_speakers(assignment, ipc)
    items = STARTS[name].make(given)
    assert items.dtype == np.float32
    assert items.shape == (3 * ipc, *given.task.clips.shape[2:])
    assert np.isfinite(items).all()
    assert len(np.unique(items, axis=0)) == len(items)
    assert np.array_equal(items, STARTS[name].make(given))
    other = STARTS[name].make(of_speakers(assignment, ipc, seed=1))
    assert np.array_equal(items, other) == (name == "centroids" and ipc == 1)  # the mean of the class


def test_real_items_are_clips_of_their_class(assignment: Assignment) -> None:
    given = of_speakers(assignment, 4)
    clips = {clip.tobytes(): int(label) for clip, label in zip(given.task.clips[:, 0], given.task.labels, strict=True)}
    assert [clips[item.tobytes()] for item in real(given)] == list(given.classes)


def test_a_start_is_a_copy(assignment: Assignment) -> None:
    given = of_speakers(assignment, 2)
    before = given.task.clips.copy()
    real(given)[:] = 7.0
    assert np.array_equal(before, given.task.clips)


@pytest.mark.parametrize("name", [name for name, start in STARTS.items() if start.draws])
def test_items_are_made_of_the_clips_that_are_named_as_their_sources(assignment: Assignment, name: str) -> None:
    """Clips that are loud in one band each show the sources: shifts in time do not move a band."""
    given = of_speakers(assignment, 3)
    clips = np.zeros_like(given.task.clips)
    for index in range(len(clips)):
        clips[index, 0, index] = 1.0
    given = replace(given, task=replace(given.task, clips=clips))
    for item, sources in zip(STARTS[name].make(given), np.concatenate(STARTS[name].draws(given)), strict=True):
        bands = item.mean(1) - np.median(item.mean(1))
        assert set(np.flatnonzero(bands > 1e-4)) == set(sources)


@pytest.mark.parametrize("name", ["mix", "aligned", "noise"])
def test_no_clip_is_among_the_items(assignment: Assignment, name: str) -> None:
    """The nearest clip, over all circular shifts, is about as far as clips of the class are from each other."""
    given = of_speakers(assignment, 4)
    clips = given.task.clips[:, 0]
    for item in STARTS[name].make(given):
        gaps = [np.abs(np.roll(item, shift, axis=1) - clips).mean((1, 2)).min() for shift in range(0, 96, 8)]
        assert min(gaps) > 0.1


def test_a_mixture_is_of_shifted_clips_of_its_class_by_different_speakers(assignment: Assignment) -> None:
    """Clips that are loud in one band each show the sources: shifts in time do not move a band."""
    given = of_speakers(assignment, 2)
    clips = np.zeros_like(given.task.clips)
    for index in range(len(clips)):
        clips[index, 0, index] = 1.0
    items = mix(replace(given, task=replace(given.task, clips=clips)))
    for item, number in zip(items, given.classes, strict=True):
        bands = item.mean(1) - item.mean(1).min()
        sources = np.argsort(bands)[-SOURCES:]
        assert np.count_nonzero(bands > 1e-4) == SOURCES
        assert set(given.task.labels[sources]) == {number}
        assert len({given.task.speakers[source] for source in sources}) == SOURCES


def test_mixtures_have_the_level_and_spread_of_clips(assignment: Assignment) -> None:
    given = of_speakers(assignment, 4)
    items, clips = mix(given), given.task.clips[:, 0]
    assert clips.mean((1, 2)).min() - 1e-4 <= items.mean((1, 2)).min()
    assert items.mean((1, 2)).max() <= clips.mean((1, 2)).max() + 1e-4
    assert clips.std((1, 2)).min() * 0.99 <= items.std((1, 2)).min()


def test_the_voices_of_a_duet_say_the_same_at_the_same_time(assignment: Assignment) -> None:
    """Clips of a class are one pattern, each later by other frames: a aligned is that pattern, a mixture is not."""
    given = of_speakers(assignment, 4)
    random = np.random.default_rng(5)
    pattern = random.standard_normal((3, 64, 96)).astype(np.float32)
    own = [np.roll(pattern[label], random.integers(96), axis=1) for label in given.task.labels]
    given = replace(given, task=replace(given.task, clips=np.stack(own)[:, None]))
    found = {
        start: [
            max(
                np.corrcoef(np.roll(item, frames, axis=1).ravel(), pattern[label].ravel())[0, 1] for frames in range(96)
            )
            for item, label in zip(start(given), given.classes, strict=True)
        ]
        for start in (aligned, mix)
    }
    assert min(found[aligned]) > 0.999
    assert max(found[mix]) < 0.9


def test_a_class_with_one_clip_still_begins(assignment: Assignment) -> None:
    given = of_speakers(assignment, 1)
    few = np.concatenate([np.flatnonzero(given.task.labels == number)[:1] for number in range(3)])
    task = replace(given.task, clips=given.task.clips[few], labels=given.task.labels[few], speakers=("a", "b", "c"))
    alone = replace(given, task=task)
    for start in STARTS.values():
        assert np.isfinite(start.make(alone)).all()
    for start in (mix, aligned):
        shifted = [np.roll(task.clips[:, 0], frames, axis=2) for frames in range(96)]
        assert min(np.abs(item - clips).mean((1, 2)).min() for item in start(alone) for clips in shifted) > 0.1


def test_noise_has_the_spectrum_of_its_class(assignment: Assignment) -> None:
    given = of_speakers(assignment, 6)
    spectra = 2 * np.random.default_rng(0).standard_normal((3, 64)).astype(np.float32)
    clips = given.task.clips + spectra[given.task.labels][:, None, :, None]
    items = noise(replace(given, task=replace(given.task, clips=clips)))
    mine = [items[given.classes == number].mean((0, 2)) for number in range(3)]
    for number in range(3):
        alike = [np.corrcoef(one, spectra[number])[0, 1] for one in mine]
        assert np.argmax(alike) == number
        assert alike[number] > 0.7


def test_the_table_finds_starts_and_suggests_near_ones(assignment: Assignment) -> None:
    assert set(STARTS) == set(SETTINGS["start"].choices)
    assert find_start("mix") is STARTS["mix"]
    with pytest.raises(SettingsError, match="cannot begin as 'mixx'") as caught:
        find_start("mixx")
    assert "'mix'" in caught.value.hint
    assert np.array_equal(begin_items(assignment), mix(assignment))
    chosen = replace(assignment, settings=changed(assignment.settings, {"start": "noise"}))
    assert np.array_equal(begin_items(chosen), noise(chosen))
