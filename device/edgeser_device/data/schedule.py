"""The training schedule of a distilled set: which views in which step, at which learning rate.

Host and board call the same functions, so both train on the same batches at the same rates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from itertools import cycle, islice
from math import cos, pi, ulp
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeser_device.errors import DistilledSetError
from edgeser_device.kit.manifest import Check, number, whole
from edgeser_export.utilities.outside import is_text

POOL = 4
WORD, LONG, STATE = (1 << 32) - 1, (1 << 64) - 1, (1 << 128) - 1
"""Masks of 32, 64 and 128 bits."""
MULTIPLIER = 0x2360ED051FC65DA44385DF649FCCF645


def raw_words(seed: Sequence[int], count: int) -> NDArray[np.uint64]:
    """The first words of a stream.

    Args:
        seed: Whole numbers, not negative.
        count: The number of words.

    Returns:
        Uint64 (count,).

    Raises:
        ValueError: A number of the seed is negative.
    """
    if min(seed) < 0:
        raise ValueError("a seed is a whole number, not below 0")
    return np.fromiter(islice(_words(seed), count), np.uint64, count)


def _words(seed: Sequence[int]) -> Iterator[int]:
    high, low, high_increment, low_increment = _seeded(seed)
    increment = (((high_increment << 64 | low_increment) << 1) | 1) & STATE
    state = ((increment + (high << 64 | low)) * MULTIPLIER + increment) & STATE
    while True:
        state = (state * MULTIPLIER + increment) & STATE
        word, turn = (state >> 64 ^ state) & LONG, state >> 122
        yield (word >> turn | word << (64 - turn)) & LONG


def _seeded(seed: Sequence[int]) -> tuple[int, int, int, int]:
    """Four words of 64 bits that seeds far from each other and near to each other share nothing of."""
    entropy = [part for number in seed for part in _parts(number)]
    hashed = _hasher(0x43B0D7E5, 0x931E8875)
    pool = [hashed(entropy[place] if place < len(entropy) else 0) for place in range(POOL)]
    for source in range(POOL):
        for place in range(POOL):
            if source != place:
                pool[place] = _mixed(pool[place], hashed(pool[source]))
    for word in entropy[POOL:]:
        for place in range(POOL):
            pool[place] = _mixed(pool[place], hashed(word))
    last = _hasher(0x8B51F9DD, 0x58F38DED)
    halves = [last(number) for number in islice(cycle(pool), 8)]
    one, two, three, four = (halves[place] | halves[place + 1] << 32 for place in range(0, 8, 2))
    return one, two, three, four


def _parts(number: int) -> Iterable[int]:
    """Words of 32 bits, the lowest first; zero is one word."""
    yield number & WORD
    while number := number >> 32:
        yield number & WORD


def _hasher(constant: int, factor: int) -> Callable[[int], int]:
    def hashed(value: int) -> int:
        nonlocal constant
        value ^= constant
        constant = constant * factor & WORD
        value = value * constant & WORD
        return value ^ value >> 16

    return hashed


def _mixed(one: int, other: int) -> int:
    value = (0xCA01F9DD * one - 0x4973F715 * other) & WORD
    return value ^ value >> 16


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
    """The schedule by which a student is trained; part of the distilled set.

    Attributes:
        optimiser: A row of the exporters' table of optimisers: adamw, sgd or plain_sgd.
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
    """The views that a step trains on; the last batch of an epoch is filled up from the epoch's start.

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
    """The place of a step among ``count`` rates spread evenly over ``steps`` steps.

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
