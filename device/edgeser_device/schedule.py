"""The training schedule of a distilled set: which views in which step, at which learning rate.

Host and board call the same functions, so both train on the same batches at the same rates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from math import cos, pi, ulp
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeser_device.errors import DistilledSetError
from edgeser_device.manifest import Check, number, whole
from edgeser_device.pcg64 import raw_words
from edgeser_export.text import is_text

MOST_RATES = 10_000
"""Learning rates in one schedule."""

_RATE = number(ulp(0.0), 100)
_CHECKS: Mapping[str, Check] = {
    "optimiser": is_text,
    "steps": whole(1, 10_000_000),
    "batch": whole(2, 4096),
    "peak_rate": _RATE,
    "weight_decay": number(0, 10),
    "warm_share": number(0, 1),
    "start_divisor": number(1, 1e300),
    "end_divisor": number(1, 1e300),
    "rates": lambda value: isinstance(value, tuple) and len(value) <= MOST_RATES and all(map(_RATE, value)),
}


@dataclass(frozen=True)
class Schedule:
    """How a student is trained; part of the distilled set.

    Attributes:
        optimiser: A row of the exporters' table of optimisers: adamw or sgd.
        steps: Training steps, at least 1.
        batch: Views in one step.
        peak_rate: Largest learning rate.
        weight_decay: Weight decay as the optimiser defines it.
        warm_share: Share of the steps in which the rate rises (one cycle, Smith and Topin 2018, arXiv 1708.07120).
        start_divisor: The first rate is the peak divided by this.
        end_divisor: The last rate is the first one divided by this.
        rates: Learning rates from the first step to the last instead of one cycle, spread evenly over the steps and
            interpolated between; empty for one cycle. As many as there are steps are one a step.

    Raises:
        DistilledSetError: A value is impossible.
    """

    optimiser: str = "adamw"
    steps: int = 600
    batch: int = 32
    peak_rate: float = 1e-2
    weight_decay: float = 1e-3
    warm_share: float = 0.3
    start_divisor: float = 25.0
    end_divisor: float = 1e4
    rates: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not all(check(getattr(self, name)) for name, check in _CHECKS.items()):
            raise DistilledSetError(
                f"an impossible training schedule: {asdict(self)}",
                "give at least 1 step, a batch from 2 to 4096 and learning rates above 0",
            )

    def to_json(self) -> dict[str, Any]:
        """The schedule as plain JSON values; without learnt rates as it was before there were any."""
        values = asdict(self)
        rates = values.pop("rates")
        return {**values, "rates": list(rates)} if rates else values

    @classmethod
    def from_json(cls, value: Any) -> Schedule:
        """The inverse of :meth:`to_json`.

        Raises:
            DistilledSetError: Missing, superfluous or impossible values.
        """
        names = {field.name for field in fields(cls)}
        if not isinstance(value, Mapping) or {*value, "rates"} != names:
            raise DistilledSetError("the training schedule is incomplete", "pack the kit again with this version")
        rates = value.get("rates", [])
        return cls(**{**value, "rates": tuple(rates) if isinstance(rates, list) else rates})


def learning_rate(schedule: Schedule, step: int) -> float:
    """The rate of a step, counted from 0: interpolated between the schedule's own rates, or without any on one cycle.

    One cycle goes up on half a cosine, then down on half a cosine, as torch's OneCycleLR.
    """
    if schedule.rates:
        return _interpolated(schedule.rates, step, schedule.steps)
    last = float(max(1, schedule.steps - 1))
    top = max(0.0, schedule.warm_share * schedule.steps - 1)
    start = schedule.peak_rate / schedule.start_divisor
    if top > 0 and step <= top:
        return _between(start, schedule.peak_rate, step / top)
    return _between(
        schedule.peak_rate, start / schedule.end_divisor, (step - top) / (last - top) if last > top else 1.0
    )


@lru_cache(maxsize=2)
def epoch_order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """A permutation of ``count`` views for one epoch, the same on every version: the ranks of raw words of PCG64.

    It cannot be written to: the steps of an epoch share it.
    """
    order = np.argsort(raw_words((seed, epoch), count), kind="stable")
    order.flags.writeable = False
    return order


def batch_indices(count: int, batch: int, seed: int, step: int) -> NDArray[np.int64]:
    """Which views a step trains on; the last batch of an epoch is filled up from the epoch's start.

    Args:
        count: Number of views.
        batch: Views in one step; more than ``count`` repeats views.
        seed: Decides the order.
        step: Counted from 0.

    Returns:
        Shape (batch,), indices below ``count``.
    """
    steps_per_epoch = -(-count // batch)
    epoch, place = divmod(step, steps_per_epoch)
    order = epoch_order(count, seed, epoch)
    return order[np.arange(place * batch, (place + 1) * batch) % count]


def statistics_batches(count: int, batch: int) -> list[NDArray[np.int64]]:
    """All views once in stored order, in full batches, for the batch normalisations' running statistics."""
    return [np.arange(start, start + batch) % count for start in range(0, count, batch)]


def rate_position(count: int, step: int, steps: int) -> tuple[int, float]:
    """Where a step lies among ``count`` rates spread evenly over ``steps`` steps.

    Returns:
        The number of the rate at or before the step, and the share of the following one, at least 0 and below 1.
    """
    before, rest = divmod(step * (count - 1), max(1, steps - 1))  # in integers: exact where a step meets a rate
    return before, rest / max(1, steps - 1)


def _interpolated(rates: tuple[float, ...], step: int, steps: int) -> float:
    before, share = rate_position(len(rates), step, steps)
    return rates[before] if share == 0 else rates[before] * (1 - share) + rates[before + 1] * share


def _between(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + cos(pi * share))
