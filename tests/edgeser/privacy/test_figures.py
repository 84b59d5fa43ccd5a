"""Figures against scikit-learn's, their intervals, and what counts do not allow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from edgeser.privacy.figures import (
    FEWEST_FALSE,
    Decisions,
    area,
    attack_figures,
    curve_of,
    equal_error,
    mean_over,
    rate_at,
    share_of,
)


def decisions(scores: np.ndarray, members: np.ndarray) -> Decisions:
    count = len(scores)
    return Decisions(np.asarray(scores, float), np.asarray(members, bool), np.arange(count) % 7, np.arange(count) % 5)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 3)), min_size=2, max_size=40).filter(
        lambda rows: len({member for _, member, weight in rows if weight}) == 2
    )
)
def test_the_weighted_curve_is_scikit_learns(rows: list[tuple[int, bool, int]]) -> None:
    scores, members, weights = (np.array(column) for column in zip(*rows, strict=True))
    curve = curve_of(scores.astype(float), members, weights[None].astype(float))
    assert curve.area[0] == pytest.approx(roc_auc_score(members, scores, sample_weight=weights))
    false, true, _ = roc_curve(members, scores, sample_weight=weights, drop_intermediate=False)
    for rate in (0.0, 0.05, 0.3, 1.0):
        assert curve.rate_at(rate)[0] == pytest.approx(true[false <= rate + 1e-12].max())


def test_scores_of_chance_have_an_interval_around_one_half() -> None:
    random = np.random.default_rng(0)
    found = area(decisions(random.standard_normal(2000), random.random(2000) < 0.5))
    assert found is not None
    assert found["low"] < 0.5 < found["high"]
    assert 0.02 < found["high"] - found["low"] < 0.2


def test_perfect_scores() -> None:
    members = np.arange(2000) % 2 == 0
    found = attack_figures(decisions(members.astype(float), members))
    assert found["auc"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert found["tpr_at_1"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert found["tpr_at_0.1"] is None, "1000 others are one false positive at 0.1 %"
    error = equal_error(decisions(members.astype(float), members))
    assert error is not None
    assert error["value"] == 0


def test_intervals_that_respect_speakers_are_wider() -> None:
    random = np.random.default_rng(1)
    speakers = np.repeat(np.arange(8), 100)
    members = np.arange(800) % 2 == 0
    habit = random.standard_normal(8)[speakers]  # one speaker is easy, another is not
    scores = np.where(members, habit, 0) + 0.1 * random.standard_normal(800)
    rounds = np.zeros(800, dtype=np.int64)
    whole = area(Decisions(scores, members, speakers, rounds))
    single = area(Decisions(scores, members, np.arange(800), rounds))
    assert whole is not None
    assert single is not None
    assert whole["value"] == single["value"]
    assert whole["high"] - whole["low"] > 2 * (single["high"] - single["low"])


def test_a_rate_needs_enough_of_the_others() -> None:
    enough = FEWEST_FALSE * 100
    members = np.concatenate([np.ones(10, bool), np.zeros(enough, bool)])
    scores = np.arange(len(members))[::-1].astype(float)
    assert rate_at(decisions(scores, members), 0.01) is not None
    assert rate_at(decisions(scores[:-1], members[:-1]), 0.01) is None


def test_one_sided_truth_has_no_figure() -> None:
    assert area(decisions(np.arange(4.0), np.ones(4, bool))) is None


def test_a_share_has_its_exact_interval() -> None:
    assert share_of(0, 10) == {"count": 0, "of": 10, "value": 0.0, "low": 0.0, "high": 0.308497}  # Clopper, Pearson


def test_a_mean_has_an_interval() -> None:
    found = mean_over(np.arange(100.0), np.arange(100))
    assert found["value"] == 49.5
    assert 40 < found["low"] < 49.5 < found["high"] < 60
