"""The copy test: distances against plain loops, copies that are found, and blur that is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeser.config.settings import Settings
from edgeser.distill.method import Assignment
from edgeser.distill.pipeline import prepare
from edgeser.distill.starts import SOURCES, draws, mix
from edgeser.models.experts import Ensemble
from edgeser.privacy.copies import (
    Bands,
    copy_figures,
    pattern_distances,
    plain_distances,
    shifted_distances,
    source_figures,
)
from edgeser.workers import Workers

RANDOM = np.random.default_rng(0)
SPEAKERS = np.repeat(np.arange(8), 20)
LABELS = np.tile(np.arange(4), 40)


def speech_like(count: int, random: np.random.Generator) -> np.ndarray:
    """Pictures that vary slowly over both axes."""
    coarse = random.standard_normal((count, 4, 9))
    return np.repeat(np.repeat(coarse, 4, axis=1), 4, axis=2).astype(np.float32)


@pytest.fixture(scope="module")
def clips() -> np.ndarray:
    return speech_like(len(SPEAKERS), np.random.default_rng(1))


def test_distances_are_those_of_the_best_shift(clips: np.ndarray) -> None:
    items = speech_like(3, np.random.default_rng(2)) + 5
    level = [x - x.mean((1, 2), keepdims=True) for x in (items, clips)]
    by_hand = [
        [
            min(np.sqrt(((item - np.roll(clip, shift, axis=1)) ** 2).mean()) for shift in range(clips.shape[2]))
            for clip in level[1]
        ]
        for item in level[0]
    ]
    np.testing.assert_allclose(shifted_distances(items, clips), by_hand, atol=1e-5)


def test_distances_of_features_are_root_mean_squares() -> None:
    first, second = RANDOM.standard_normal((2, 3)), RANDOM.standard_normal((4, 3))
    by_hand = np.sqrt(((first[:, None] - second[None]) ** 2).mean(2))
    np.testing.assert_allclose(plain_distances(first, second), by_hand)


def figures(clips: np.ndarray, items: np.ndarray) -> dict[str, object]:
    sets = {"it": shifted_distances(items, clips)}
    return copy_figures("dB", shifted_distances(clips, clips), SPEAKERS, LABELS, sets, {})["sets"]["it"]


def test_copies_are_found_shifted_louder_and_a_little_noisy(clips: np.ndarray) -> None:
    noise = 0.05 * RANDOM.standard_normal((5, *clips.shape[1:])).astype(np.float32)
    copies = np.roll(clips[:5], 7, axis=2) + 2 + noise
    found = figures(clips, copies)
    for part in (found, found["relative"]):
        assert part["below_least"]["count"] == 5
        assert part["below_lower"]["low"] > 0.4


def test_other_clips_and_noise_are_no_copies(clips: np.ndarray) -> None:
    for items in (speech_like(30, np.random.default_rng(3)), RANDOM.standard_normal((30, *clips.shape[1:]))):
        found = figures(clips, items.astype(np.float32))
        for part in (found, found["relative"]):
            assert part["below_least"]["count"] <= 3
            assert part["below_lower"]["low"] <= 0.05


def test_a_blurred_mean_is_near_to_all_and_a_copy_of_none(clips: np.ndarray) -> None:
    blurred = np.repeat(clips.mean(0, keepdims=True), 5, axis=0)
    found = figures(clips, blurred)
    assert found["below_least"]["count"] == 5, "its distance alone looks like a copy"
    assert found["relative"]["below_least"]["count"] == 0


def test_clips_of_one_speaker_do_not_set_the_scale(clips: np.ndarray) -> None:
    twice = np.concatenate([clips, clips[:1]])  # one recording under two names, as some corpora have
    found = copy_figures(
        "dB", shifted_distances(twice, twice), np.append(SPEAKERS, SPEAKERS[0]), np.append(LABELS, LABELS[0]), {}, {}
    )
    assert found["real"]["same_speaker"]["least"] == pytest.approx(0, abs=1e-3)
    assert found["real"]["other_speaker"]["least"] > 0.3


def test_patterns_do_not_depend_on_level_slope_and_shift(clips: np.ndarray) -> None:
    bands = Bands.of(clips)
    slope = np.linspace(-3, 3, clips.shape[1], dtype=np.float32)[:, None]
    changed = 2 * np.roll(clips[:6], 11, axis=2) + slope + 4
    found = pattern_distances(changed, clips, bands)
    assert found.argmin(1).tolist() == list(range(6))
    assert found.min(1).max() < 0.15
    np.testing.assert_allclose(np.diag(pattern_distances(clips[:6], clips[:6], bands)), 0, atol=1e-5)


def test_patterns_find_the_sources_of_mixtures(tiny: Settings) -> None:
    material = prepare(replace(tiny, ipc=8), Workers(1))
    task = material.task
    nobody = Ensemble(task.graph, ())
    assignment = Assignment(task, material.corpus.labels, material.settings, material.method, {}, nobody)
    items, sources, real = mix(assignment), np.concatenate(draws(assignment, SOURCES)), task.clips[:, 0]
    found = source_figures(pattern_distances(items, real, Bands.of(real)), sources, task.labels)
    assert found is not None
    assert found["low"] > 0.8
    assert SOURCES * task.classes / len(real) <= found["chance"] < 0.25
    by_lot = np.random.default_rng(6).permutation(len(real))[: sources.size].reshape(sources.shape)
    control = source_figures(pattern_distances(items, real, Bands.of(real)), by_lot, task.labels)
    assert control is not None
    assert control["low"] <= control["chance"]


def test_items_of_no_known_source_have_no_such_figure(clips: np.ndarray) -> None:
    assert source_figures(shifted_distances(clips[:2], clips), np.zeros((2, 0), dtype=np.int64), LABELS) is None


def test_chance_is_that_of_the_class(clips: np.ndarray) -> None:
    """Items near to clips of half of their class at random: where chance is the share of all clips, that is a leak."""
    random, found, of_all = np.random.default_rng(7), [], 1 / len(clips)
    halves = np.stack([np.flatnonzero(label == LABELS)[:20] for label in range(4)])
    for _ in range(40):
        nearest, sources = (random.permuted(halves, axis=1).ravel() for _ in range(2))
        apart = np.ones((len(nearest), len(clips)))
        apart[np.arange(len(nearest)), nearest] = 0
        figure = source_figures(apart, sources[:, None], LABELS)
        assert figure is not None
        found.append((figure["value"], figure["chance"], figure["low"]))
    values, chances, lows = np.array(found).T
    assert values.mean() == pytest.approx(chances.mean(), abs=0.01)
    assert (lows > of_all).mean() > 0.25
    assert (lows > chances).mean() <= 0.05


def test_clips_that_are_near_to_everything_raise_chance() -> None:
    hub = np.ones((8, 40))
    hub[:, 3] = 0
    sources = np.array([[3, 0], [3, 1], [3, 2], [3, 4], [3, 5], [6, 7], [8, 9], [10, 11]])
    figure = source_figures(hub, sources, np.zeros(40, dtype=np.int64))
    assert figure is not None
    assert figure["count"] == 5
    assert figure["chance"] == pytest.approx(5 / 8, abs=1e-6)


def test_a_single_item_of_a_class_has_the_chance_of_a_lot() -> None:
    figure = source_figures(np.eye(4, 40), np.array([[5], [6], [7], [8]]), np.arange(40) % 4)
    assert figure is not None
    assert figure["chance"] == pytest.approx(0.1)
