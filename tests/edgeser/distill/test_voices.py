"""Which clips are heard together, and how: of one class, by several speakers, powers added."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis.extra.numpy import arrays
from hypothesis.strategies import floats, integers

from edgeser.distill.method import Assignment
from edgeser.distill.starts import NEIGHBOURS, draws, fitting_shift, pairs, traits
from edgeser.models.experts import Ensemble
from edgeser.representation.logmel import at_once


@drawn(arrays(np.float32, (3, 4, 5), elements=floats(-6, 6, width=32)), floats(0.1, 0.8), floats(5, 30))
def test_sounds_at_once_add_their_powers(sources: np.ndarray, first: float, decibels: float) -> None:
    weights = np.array([first, (1 - first) / 2, (1 - first) / 2])
    power = 10 ** (sources.astype(np.float64) * decibels / 10)
    wanted = 10 * np.log10((weights[:, None, None] * power).sum(0)) / decibels
    assert np.allclose(at_once(sources, weights, decibels), wanted, atol=1e-9)


def test_sounds_far_below_the_others_are_not_heard() -> None:
    heard = at_once(np.array([[[0.0]], [[-900.0]]], dtype=np.float32), np.array([0.5, 0.5]), 20.0)
    assert heard[0, 0] == pytest.approx(10 * np.log10(0.5) / 20)


@drawn(integers(0, 95), integers(0, 2**32 - 1))
def test_a_shifted_clip_is_shifted_back(frames: int, seed: int) -> None:
    clip = np.random.default_rng(seed).standard_normal((5, 96)).astype(np.float32)
    level = np.arange(5, dtype=np.float32)[:, None] * 10
    assert fitting_shift(clip, level + np.roll(clip, -frames, axis=1)) == frames


def of_speakers(assignment: Assignment, speakers: int) -> Assignment:
    """The assignment with three items a class and a number of speakers who take turns."""
    names = tuple(f"s{index % speakers}" for index in range(len(assignment.task.clips)))
    task = replace(assignment.task, speakers=names)
    return replace(assignment, task=task, settings=replace(assignment.settings, ipc=3))


def test_partners_are_the_most_alike_of_their_class_by_another_speaker(assignment: Assignment) -> None:
    given = of_speakers(assignment, 3)
    given = replace(given, settings=replace(given.settings, ipc=given.task.fewest_clips))  # of all, not the surer half
    found, task = traits(given), given.task
    speakers = np.array(task.speakers)
    for number, drawn_pairs in enumerate(pairs(given)):
        assert drawn_pairs.shape == (given.per_class, 2)
        assert len(set(drawn_pairs[:, 0])) == len(drawn_pairs)
        for first, second in drawn_pairs:
            assert task.labels[first] == task.labels[second] == number
            assert speakers[first] != speakers[second]
            others = [index for index in given.clips_of_class(number) if speakers[index] != speakers[first]]
            nearer = [index for index in others if distance(found, index, first) < distance(found, second, first)]
            assert len(nearer) < NEIGHBOURS


def distance(found: np.ndarray, one: int, other: int) -> float:
    return float(((found[one] - found[other]) ** 2).sum())


def test_one_speaker_sings_with_himself(assignment: Assignment) -> None:
    """The second voice is then another clip of his, as long as there is one."""
    for drawn_pairs in pairs(of_speakers(assignment, 1)):
        assert (drawn_pairs[:, 0] != drawn_pairs[:, 1]).all()


def test_without_experts_clips_are_alike_by_their_spectra(assignment: Assignment) -> None:
    given = replace(assignment, ensemble=Ensemble(assignment.ensemble.graph, ()))
    found = traits(given)
    assert found.shape == (len(given.task.clips), 64)
    assert np.allclose(found.std(0), 1, atol=1e-3)
    assert len(draws(given, 2)) == len(pairs(given)) == 3
