"""Figures with intervals: areas under curves, rates at a false-positive rate, equal errors, shares.

    figure = area(decisions)                    # {"value": 0.53, "low": 0.49, "high": 0.57}

Intervals are of 95 %. Clips of one speaker are alike, and decisions about one shadow are too, so the bootstrap draws
whole speakers and whole shadows (a two-way cluster bootstrap, Owen 2007, doi:10.1214/07-AOAS122).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeser.evaluation.intervals import FEWEST, of_draws

Floats: TypeAlias = NDArray[np.float64]
Figure: TypeAlias = dict[str, float]
"""``value`` and the bounds of its interval, ``low`` and ``high``, which are left out with too few speakers."""

REPEATS = 1000
"""Draws of the bootstrap: the bounds of an interval are then good to about a hundredth of its width."""
CHUNK = 100
"""Number of draws at a time, so that memory stays small."""
FEWEST_FALSE = 5
"""False positives that a rate must stand for: 1 % needs 500 non-members, 0.1 % needs 5000."""
RATES = {"tpr_at_5": 0.05, "tpr_at_1": 0.01, "tpr_at_0.1": 0.001}
"""False-positive rates at which the true-positive rate is told."""


@dataclass(frozen=True)
class Decisions:
    """The answers of an attack, and the truth.

    Attributes:
        scores: Larger is surer of a member, float64 (decisions,), finite.
        members: The truth, bool (decisions,).
        speakers: Speaker that each decision is about, int64 (decisions,), from 0; drawn together by the bootstrap.
        rounds: The shadow of each, int64 (decisions,), from 0; drawn together too.
    """

    scores: Floats
    members: NDArray[np.bool_]
    speakers: NDArray[np.int64]
    rounds: NDArray[np.int64]


def area(decisions: Decisions) -> Figure | None:
    """Area under the curve of true against false positives, 0 to 1; 0.5 is chance. None where one side is empty."""
    return _bootstrapped(decisions, lambda curve: curve.area)


def rate_at(decisions: Decisions, false_positives: float) -> Figure | None:
    """True-positive rate at a false-positive rate of at most ``false_positives``; None where counts are too small."""
    if (~decisions.members).sum() * false_positives < FEWEST_FALSE:
        return None
    return _bootstrapped(decisions, lambda curve: curve.rate_at(false_positives))


def equal_error(decisions: Decisions) -> Figure | None:
    """Rate at which as large a share of members is missed as of others is taken, 0 to 1; 0.5 is chance."""
    return _bootstrapped(decisions, lambda curve: curve.equal_error)


def attack_figures(decisions: Decisions) -> dict[str, Figure | None]:
    """The area, and the rates of ``RATES``."""
    return {"auc": area(decisions), **{name: rate_at(decisions, rate) for name, rate in RATES.items()}}


def mean_over(values: Floats, groups: NDArray[np.int64]) -> Figure:
    """Mean of ``values`` (n,), drawn in whole ``groups`` (n,), which are speakers."""
    drawn = [weights @ values / weights.sum(1) for weights in _draws((groups,), len(values))]
    return _summary(float(values.mean()), np.concatenate(drawn), groups)


def share_of(count: int, total: int) -> dict[str, float]:
    """A count as a share with its exact interval (Clopper and Pearson 1934, doi:10.1093/biomet/26.4.404)."""
    from scipy.stats import binomtest

    interval = binomtest(count, total).proportion_ci(0.95, method="exact")
    return {
        "count": count,
        "of": total,
        "value": count / total,
        "low": round(float(interval.low), 6),
        "high": round(float(interval.high), 6),
    }


@dataclass(frozen=True)
class Curve:
    """True against false positives, each from 0 to 1 in the order of falling scores; a row a draw.

    Attributes:
        true: Share of members above each score, float64 (draws, 1 + scores).
        false: Share of the others above it, of the same shape.
    """

    true: Floats
    false: Floats

    @property
    def area(self) -> Floats:
        """Area below, (draws,)."""
        return np.asarray(np.trapezoid(self.true, self.false, axis=1))

    def rate_at(self, false_positives: float) -> Floats:
        """Highest true-positive rate without more false positives, (draws,); points are not joined by lines."""
        return np.asarray(np.where(self.false <= false_positives + 1e-12, self.true, 0).max(1))

    @property
    def equal_error(self) -> Floats:
        """The rate at which misses and false positives meet, (draws,): the mean of both where they are nearest."""
        missed = 1 - self.true
        place = np.abs(missed - self.false).argmin(1)[:, None]
        both = np.take_along_axis(missed + self.false, place, 1)
        return np.asarray(both[:, 0] / 2)


def curve_of(scores: Floats, members: NDArray[np.bool_], weights: Floats) -> Curve:
    """The curves of weighted decisions; equal scores are one point.

    Args:
        scores: (decisions,).
        members: (decisions,).
        weights: The number of times that each decision counts, (draws, decisions).
    """
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    sides = []
    for side in (members, ~members):
        above = np.cumsum(weights[:, order] * side[order], axis=1)[:, last]
        with np.errstate(invalid="ignore"):  # a draw without a member, or without another, has no curve
            sides.append(np.pad(above / above[:, -1:], ((0, 0), (1, 0))))
    return Curve(*sides)


def _bootstrapped(decisions: Decisions, measure: Callable[[Curve], Floats]) -> Figure | None:
    if decisions.members.all() or not decisions.members.any():
        return None

    def measured(weights: Floats) -> Floats:
        return measure(curve_of(decisions.scores, decisions.members, weights))

    count = len(decisions.scores)
    drawn = [measured(weights) for weights in _draws((decisions.speakers, decisions.rounds), count)]
    return _summary(float(measured(np.ones((1, count)))[0]), np.concatenate(drawn), decisions.speakers)


def _draws(clusters: tuple[NDArray[np.int64], ...], count: int) -> list[Floats]:
    """Weights of the draws, (CHUNK, count) each: the product over the kinds of clusters of how often each was drawn."""
    random = np.random.default_rng(0)
    chunks = []
    for _ in range(REPEATS // CHUNK):
        weights = np.ones((CHUNK, count))
        for own in clusters:
            _, numbers = np.unique(own, return_inverse=True)
            groups = int(numbers.max()) + 1
            weights *= random.multinomial(groups, np.full(groups, 1 / groups), CHUNK)[:, numbers]
        chunks.append(weights)
    return chunks


def _summary(value: float, drawn: Floats, speakers: NDArray[np.int64]) -> Figure:
    interval = of_draws(value, drawn) if len(np.unique(speakers)) >= FEWEST else None
    return {name: round(found, 6) for name, found in {"value": value, **(interval or {})}.items()}
