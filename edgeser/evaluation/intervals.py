"""Summary statistics of scores: what may be said of a few values, in one place.

    deviation([0.5, 0.6, 0.7])          # 0.1; None of fewer than three values
    mean_interval([0.5, 0.6, 0.7])      # {"low": 0.358, "high": 0.801}
    with_deviation(0.6, 0.1)            # "0.600 ± 0.100"

Two values say nothing of how widely values vary, so a deviation or an interval takes at least ``FEWEST`` of them. All
intervals are of 95 % and are made so that their bounds are scores too, from 0 to 1, on both sides of the mean:

- :func:`around` puts Student's interval on the log-odds of a mean (the delta method) and maps its ends back.
- :func:`of_draws` takes quantiles of a bootstrap, each of which is a score.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log, tanh
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

Interval: TypeAlias = dict[str, float]
"""The bounds ``low`` and ``high``."""

FEWEST = 3
"""Fewest values, seeds or speakers that a deviation or an interval may be told of."""
COVERED = 0.95
"""Share of repetitions in which an interval holds what it is about."""


def deviation(values: Sequence[float]) -> float | None:
    """Standard deviation of a sample, with one degree of freedom less than values; None of fewer than ``FEWEST``."""
    return float(np.std(values, ddof=1)) if len(values) >= FEWEST else None


def standard_error(values: Sequence[float]) -> float | None:
    """Standard error of the mean of a sample; None of fewer than ``FEWEST`` values."""
    found = deviation(values)
    return None if found is None else found / len(values) ** 0.5


def mean_interval(values: Sequence[float]) -> Interval | None:
    """Interval of the mean of scores, each from 0 to 1; None of fewer than ``FEWEST`` scores."""
    error = standard_error(values)
    return None if error is None else around(float(np.mean(values)), error, len(values) - 1)


def around(mean: float, error: float, freedom: int) -> Interval:
    """Interval of a mean score by Student's distribution on the log-odds, which keeps both bounds between 0 and 1.

    Args:
        mean: From 0 to 1.
        error: Standard error of the mean; 0 gives an interval without width.
        freedom: Degrees of freedom of the error, at least 1.
    """
    if error == 0:
        return {"low": mean, "high": mean}
    from scipy.special import stdtrit

    odd = min(max(mean, 1e-12), 1 - 1e-12)
    middle, half = log(odd / (1 - odd)), float(stdtrit(freedom, (1 + COVERED) / 2)) * error / (odd * (1 - odd))
    low, high = (0.5 + 0.5 * tanh(place / 2) for place in (middle - half, middle + half))
    return {"low": min(low, mean), "high": max(high, mean)}


def of_draws(value: float, drawn: ArrayLike) -> Interval | None:
    """Interval by the quantiles of a bootstrap, with the value itself inside; None where no draw is finite.

    Args:
        value: The figure that was measured.
        drawn: The same of each draw, (draws,); draws that are not finite do not count.
    """
    found = np.asarray(drawn)
    found = found[np.isfinite(found)]
    if not len(found):
        return None
    low, high = np.quantile(found, ((1 - COVERED) / 2, (1 + COVERED) / 2))
    return {"low": min(float(low), value), "high": max(float(high), value)}


def bar(mean: float, deviation: float | None) -> tuple[float, float]:
    """The lengths of an error bar of one deviation below and above a mean score, within 0 to 1.

    Without a deviation both lengths are NaN, which pictures do not draw.
    """
    length = float("nan") if deviation is None else deviation
    return min(length, mean), min(length, 1 - mean)


def with_deviation(mean: float, deviation: float | None) -> str:
    """A mean in three decimals, with its deviation where there is one."""
    return f"{mean:.3f}" + ("" if deviation is None else f" ± {deviation:.3f}")
