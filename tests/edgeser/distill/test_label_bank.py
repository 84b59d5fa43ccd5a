"""Label banks: which views, and where their labels come from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeser.distill.label_bank import LABELS, BankPlan, build_set, make_bank
from edgeser.distill.method import Assignment
from edgeser.representation.logmel import LogMel
from edgeser_device.data.views import CUT, GAIN_UNIT, MIX, PLAIN, render

HALF = 2.0**-10
"""What float16 loses of a number below 1."""


@pytest.fixture
def items(assignment: Assignment) -> np.ndarray:
    return assignment.task.clips[[0, 1, 8, 9, 16, 17], 0]


CLASSES = np.array([0, 0, 1, 1, 2, 2])


def plan_of(kind: str, views: int, seed: int = 0) -> BankPlan:
    return BankPlan(kind, views, 2.0, seed, LogMel().mixing(kind))


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("views", [1, 6])
def test_every_kind_gives_each_view_a_distribution(
    assignment: Assignment, items: np.ndarray, kind: str, views: int
) -> None:
    recipes, labels = make_bank(items, CLASSES, assignment.ensemble, plan_of(kind, views))
    assert labels.shape == (6 * views, 3)
    assert len(recipes) == 6 * views
    assert labels.dtype == np.float16
    assert (labels >= 0).all()
    np.testing.assert_allclose(labels.astype(np.float64).sum(1), 1, atol=3 * HALF)


@pytest.mark.parametrize("views", [1, 6])
def test_kinds_whose_labels_are_the_items_share_the_views(
    assignment: Assignment, items: np.ndarray, views: int
) -> None:
    plans = [plan_of(kind, views, 3) for kind in ("hard", "soft")]
    columns = [make_bank(items, CLASSES, assignment.ensemble, plan)[0].columns() for plan in plans]
    assert all(np.array_equal(columns[0][name], each[name]) for each in columns for name in columns[0])


def test_one_view_is_the_item_itself(assignment: Assignment, items: np.ndarray) -> None:
    recipes, labels = make_bank(items, CLASSES, assignment.ensemble, plan_of("hard", 1))
    assert (recipes.mode == PLAIN).all()
    assert np.array_equal(render(items, recipes, np.arange(6))[:, 0], items)
    assert np.array_equal(labels, np.eye(3)[CLASSES])


def test_plain_soft_labels_are_what_the_experts_say_of_the_items(assignment: Assignment, items: np.ndarray) -> None:
    said = assignment.ensemble.soft_labels(items[:, None], 2.0)
    for kind in ("soft", "bank"):
        _, labels = make_bank(items, CLASSES, assignment.ensemble, plan_of(kind, 1))
        np.testing.assert_allclose(labels, said, atol=HALF)


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_labels_are_mixed_as_the_views_are(assignment: Assignment, items: np.ndarray, kind: str) -> None:
    recipes, labels = make_bank(items, CLASSES, assignment.ensemble, plan_of(kind, 20))
    own = np.eye(3)[CLASSES] if kind == "hard" else assignment.ensemble.soft_labels(items[:, None], 2.0)
    assert (recipes.mode == MIX).all()
    for view in range(len(recipes)):
        share = recipes.weight[view] / 256
        expected = share * own[recipes.item[view]] + (1 - share) * own[recipes.partner[view]]
        np.testing.assert_allclose(labels[view], expected, atol=2 * HALF)


@pytest.mark.parametrize("kind", LABELS)
def test_views_whose_label_is_an_items_stay_near_it(assignment: Assignment, kind: str) -> None:
    chosen = replace(assignment, settings=replace(assignment.settings, labels=kind, views=400))
    recipes = build_set(chosen, chosen.task.maps[chosen.classes * 8]).recipes
    untouched = not any(column.any() for column in (recipes.stretch, recipes.mel_shift, recipes.contrast))
    assert untouched == (kind != "bank")
    assert (CUT in recipes.mode) == (kind == "bank")
    shares = np.abs(recipes.weight / 256 - 0.5)
    assert (shares > 0.4).mean() > (0.4 if kind == "bank" else 0.6)  # mostly one item
    widest = {int(np.abs(shift).max()) for shift in (recipes.shift, recipes.partner_shift)}
    assert widest == ({48} if kind == "bank" else {12})
    assert recipes.gain.std() / GAIN_UNIT == pytest.approx(0.2 if kind == "bank" else 0.1, rel=0.2)


def test_a_bank_asks_the_experts_about_every_view(assignment: Assignment, items: np.ndarray) -> None:
    """More views than one piece of 512, so that the pieces are put together in order."""
    recipes, labels = make_bank(items, CLASSES, assignment.ensemble, plan_of("bank", 200))
    some = np.array([0, 511, 512, 600, 1199])
    said = assignment.ensemble.soft_labels(render(items, recipes, some), 2.0)
    np.testing.assert_allclose(labels[some], said, atol=2 * HALF)


def test_a_seed_draws_the_same_views_again(assignment: Assignment, items: np.ndarray) -> None:
    def of(seed: int) -> tuple[bytes, ...]:
        recipes, labels = make_bank(items, CLASSES, assignment.ensemble, plan_of("bank", 6, seed))
        return (*(column.tobytes() for column in recipes.columns().values()), labels.tobytes())

    assert of(0) == of(0)
    assert of(0) != of(1)
