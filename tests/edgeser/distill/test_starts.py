"""What items begin as: of the right class, different from each other, and no recording where none is promised."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis.extra.numpy import arrays
from hypothesis.strategies import floats

from edgeser.distill.method import Assignment
from edgeser.distill.starts import SOURCES, STARTS, at_once, begin_items, crowd, find_start, mix, noise, real
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
    items = STARTS[name](given)
    assert items.dtype == np.float32
    assert items.shape == (3 * ipc, *given.task.clips.shape[2:])
    assert np.isfinite(items).all()
    assert len(np.unique(items, axis=0)) == len(items)
    assert np.array_equal(items, STARTS[name](given))
    assert not np.array_equal(items, STARTS[name](of_speakers(assignment, ipc, seed=1)))


def test_real_items_are_clips_of_their_class(assignment: Assignment) -> None:
    given = of_speakers(assignment, 4)
    clips = {clip.tobytes(): int(label) for clip, label in zip(given.task.clips[:, 0], given.task.labels, strict=True)}
    assert [clips[item.tobytes()] for item in real(given)] == list(given.classes)


def test_a_start_is_a_copy(assignment: Assignment) -> None:
    given = of_speakers(assignment, 2)
    before = given.task.clips.copy()
    real(given)[:] = 7.0
    assert np.array_equal(before, given.task.clips)


@pytest.mark.parametrize("name", ["mix", "crowd", "noise"])
def test_no_clip_is_among_the_items(assignment: Assignment, name: str) -> None:
    """The nearest clip, over all circular shifts, is about as far as clips of the class are from each other."""
    given = of_speakers(assignment, 4)
    clips = given.task.clips[:, 0]
    for item in STARTS[name](given):
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


def test_every_clip_of_a_class_has_the_same_share_in_a_crowd(assignment: Assignment) -> None:
    given = of_speakers(assignment, 2)
    clips = np.zeros_like(given.task.clips)
    for index in range(len(clips)):
        clips[index, 0, index, ::2] = 1.0
    items = crowd(replace(given, task=replace(given.task, clips=clips)))
    for item, number in zip(items, given.classes, strict=True):
        spread = item.std(1)
        own = np.flatnonzero(given.task.labels == number)
        assert np.allclose(spread[own], 0.5 / np.sqrt(len(own)), rtol=1e-4)
        assert np.allclose(np.delete(spread, own), 0, atol=1e-5)


def test_a_crowd_varies_as_clips_do(assignment: Assignment) -> None:
    given = of_speakers(assignment, 40)
    random = np.random.default_rng(3)
    parts = np.fft.rfft(random.standard_normal(given.task.clips.shape), axis=3)
    clips = np.fft.irfft(parts / (1 + np.arange(parts.shape[3])), axis=3)
    clips -= clips.mean(3, keepdims=True)
    items = crowd(replace(given, task=replace(given.task, clips=clips.astype(np.float32))))
    assert items.std() == pytest.approx(clips.std(), rel=0.1)
    ours, theirs = ([np.mean(x * np.roll(x, lag, -1)) / np.mean(x**2) for lag in (1, 10)] for x in (items, clips))
    assert ours == pytest.approx(theirs, abs=0.1)


@drawn(arrays(np.float32, (3, 4, 5), elements=floats(-6, 6, width=32)), floats(0.1, 0.8), floats(5, 30))
def test_sounds_at_once_add_their_powers(sources: np.ndarray, first: float, decibels: float) -> None:
    weights = np.array([first, (1 - first) / 2, (1 - first) / 2])
    power = 10 ** (sources.astype(np.float64) * decibels / 10)
    wanted = 10 * np.log10((weights[:, None, None] * power).sum(0)) / decibels
    assert np.allclose(at_once(sources, weights, decibels), wanted, atol=1e-9)


def test_sounds_far_below_the_others_are_not_heard() -> None:
    heard = at_once(np.array([[[0.0]], [[-900.0]]], dtype=np.float32), np.array([0.5, 0.5]), 20.0)
    assert heard[0, 0] == pytest.approx(10 * np.log10(0.5) / 20)


def test_a_class_with_one_clip_still_begins(assignment: Assignment) -> None:
    given = of_speakers(assignment, 1)
    few = np.concatenate([np.flatnonzero(given.task.labels == number)[:1] for number in range(3)])
    task = replace(given.task, clips=given.task.clips[few], labels=given.task.labels[few], speakers=("a", "b", "c"))
    for start in STARTS.values():
        assert np.isfinite(start(replace(given, task=task))).all()


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
    assert find_start("mix") is mix
    with pytest.raises(SettingsError, match="cannot begin as 'mixx'") as caught:
        find_start("mixx")
    assert "'mix'" in caught.value.hint
    chosen = replace(assignment, settings=replace(assignment.settings, start_from="noise"))
    assert np.array_equal(begin_items(chosen), noise(chosen))
