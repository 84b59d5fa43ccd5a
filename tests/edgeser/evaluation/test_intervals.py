"""Statistics that can be: bounds are scores, means lie between them, and of two values nothing is said."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from edgeser.evaluation.intervals import (
    FEWEST,
    around,
    bar,
    deviation,
    mean_interval,
    of_draws,
    standard_error,
    with_deviation,
)

SCORES = st.floats(0, 1)


@given(st.lists(SCORES, min_size=FEWEST, max_size=30))
def test_the_interval_of_any_scores_holds_scores_alone_and_their_mean(scores: list[float]) -> None:
    found, mean = mean_interval(scores), float(np.mean(scores))
    assert found is not None
    assert 0 <= found["low"] <= mean <= found["high"] <= 1


@given(SCORES, st.floats(0, 10), st.integers(1, 100))
def test_the_interval_around_any_mean_holds_scores_alone(mean: float, error: float, freedom: int) -> None:
    found = around(mean, error, freedom)
    assert 0 <= found["low"] <= mean <= found["high"] <= 1


@given(st.lists(SCORES, max_size=FEWEST - 1))
def test_of_fewer_than_three_nothing_is_said(scores: list[float]) -> None:
    assert deviation(scores) is None
    assert standard_error(scores) is None
    assert mean_interval(scores) is None


@given(st.floats(-1, 1), st.lists(st.one_of(st.just(math.nan), st.floats(-1, 1)), max_size=50))
def test_the_interval_of_draws_lies_among_them_and_holds_the_value(value: float, drawn: list[float]) -> None:
    found, finite = of_draws(value, drawn), [each for each in drawn if math.isfinite(each)]
    if not finite:
        assert found is None
    else:
        assert found is not None
        assert min(*finite, value) <= found["low"] <= value <= found["high"] <= max(*finite, value)


@given(SCORES, st.one_of(st.none(), st.floats(0, 1)))
def test_a_bar_ends_at_scores(mean: float, spread: float | None) -> None:
    down, up = bar(mean, spread)
    if spread is None:
        assert math.isnan(down)
        assert math.isnan(up)
    else:
        assert 0 <= down <= spread
        assert 0 <= mean - down <= mean + up <= 1 + 1e-12


def test_in_the_middle_it_is_nearly_students_interval() -> None:
    scores = [0.50, 0.54, 0.52, 0.56, 0.48]
    half = student.ppf(0.975, 4) * np.std(scores, ddof=1) / 5**0.5
    assert mean_interval(scores) == pytest.approx({"low": 0.52 - half, "high": 0.52 + half}, abs=1e-3)


@pytest.mark.parametrize(("middle", "seeds"), [(0.5, 3), (0.8, 5), (0.95, 5)])
def test_intervals_cover_the_mean_of_more_seeds(middle: float, seeds: int) -> None:
    """About 95 % of a thousand evaluations have the mean of all seeds in their interval."""
    random = np.random.default_rng(0)
    rows = random.beta(40 * middle, 40 * (1 - middle), (1000, seeds))
    intervals = [mean_interval(row.tolist()) for row in rows]
    covered = np.mean([each is not None and each["low"] <= middle <= each["high"] for each in intervals])
    assert 0.92 <= covered <= 0.98


def test_words() -> None:
    assert with_deviation(0.8124, 0.0312) == "0.812 ± 0.031"
    assert with_deviation(0.8124, None) == "0.812"
