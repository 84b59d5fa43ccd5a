"""Candidates: sets of the same items, the best on dev speakers chosen, and gone on with after an interruption."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeser.distill.candidates import BOARD_SEED, SEED_STEP, best_of, candidate, try_candidates
from edgeser.distill.pipeline import assign, distill, prepare
from edgeser.errors import DivergedError, SettingsError
from edgeser.run import Run
from edgeser.scoring import Clips, score
from edgeser.settings import Settings
from edgeser.students import initial_weights
from edgeser.training import train_on_set
from edgeser.workers import Workers

ALONE = Workers(1)


@pytest.fixture(scope="module")
def three(tiny: Settings) -> Settings:
    """A tiny distillation with three candidates."""
    return replace(tiny, candidates=3, iterations=1)


@pytest.fixture(scope="module")
def run(three: Settings, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Its finished run."""
    return distill(three, tmp_path_factory.mktemp("three") / "run", ALONE, resume=False, warn=pytest.fail)


def tried(run: Run) -> dict[int, float]:
    return {event["number"]: event["dev_uar"] for event in run.events("candidate")}


def test_the_best_on_dev_speakers_is_shipped_with_its_own_initialisation(run: Run, three: Settings) -> None:
    found = tried(run)
    assert sorted(found) == [0, 1, 2]
    seed = three.seed + best_of(found) * SEED_STEP
    start = initial_weights(run.graph(), seed)
    assert all(np.array_equal(run.init()[name], start[name]) for name in start)
    material = prepare(three, ALONE)
    weights = train_on_set(run.graph(), run.init(), run.distilled(), BOARD_SEED)
    dev = Clips.of(material.features.dev, material.task.classes)
    assert score(run.graph(), weights, dev).uar == pytest.approx(max(found.values()), abs=1e-9)


def test_candidates_share_their_items_and_differ_in_views_and_initialisation(run: Run, three: Settings) -> None:
    material = prepare(three, ALONE)
    assignment = assign(run, material, ALONE)
    state = {"items": run.distilled().items()}
    first, second = (candidate(assignment, state, material.features, number) for number in (0, 1))
    assert np.array_equal(first.distilled.levels, second.distilled.levels)
    assert not np.array_equal(first.distilled.recipes.shift, second.distilled.recipes.shift)
    assert any(not np.array_equal(first.init[name], second.init[name]) for name in first.init)
    again = candidate(assignment, state, material.features, 1)
    assert again.distilled.to_bytes() == second.distilled.to_bytes()


def test_one_candidate_is_what_is_shipped_without_a_choice(three: Settings, run: Run, tmp_path: Path) -> None:
    alone = distill(replace(three, candidates=1), tmp_path / "run", ALONE, resume=False, warn=pytest.fail)
    assert alone.events("candidate") == []
    assert np.array_equal(alone.distilled().levels, run.distilled().levels)


def test_what_was_tried_before_an_interruption_is_not_tried_again(run: Run, three: Settings) -> None:
    material = prepare(three, ALONE)
    assignment = assign(run, material, ALONE)
    state, found = {"items": run.distilled().items()}, tried(run)
    rest = list(try_candidates(assignment, state, material.features, {0: found[0], 2: found[2]}))
    assert rest == [(1, pytest.approx(found[1], abs=1e-9))]


def test_a_student_that_diverges_is_not_chosen(run: Run, three: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(*_: object) -> None:
        raise DivergedError("the loss is nan", "use another rate")

    monkeypatch.setattr("edgeser.distill.candidates.train_on_set", diverge)
    material = prepare(three, ALONE)
    found = dict(
        try_candidates(assign(run, material, ALONE), {"items": run.distilled().items()}, material.features, {})
    )
    assert found == {0: 0.0, 1: 0.0, 2: 0.0}


def test_the_first_of_equals_is_the_best() -> None:
    assert best_of({2: 0.5, 0: 0.4, 1: 0.5}) == 1


@pytest.mark.parametrize("changed", [{"method": "unroll"}, {"init_epoch": 1}])
def test_what_belongs_to_one_initialisation_has_no_candidates(three: Settings, changed: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="no 3 candidates"):
        prepare(replace(three, **changed), ALONE)
