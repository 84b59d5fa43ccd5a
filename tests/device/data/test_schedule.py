"""The schedule against torch's one-cycle policy, and the order of the views."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from edgeser_device.data.schedule import (
    Schedule,
    batch_indices,
    epoch_order,
    learning_rate,
    rate_position,
    statistics_batches,
)
from edgeser_device.errors import DistilledSetError


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule(),
        Schedule(steps=50, peak_rate=5e-3, warm_share=0.1),
        Schedule(steps=200, start_divisor=10, end_divisor=100),
        Schedule(steps=7, warm_share=0.5),
        Schedule(steps=20, warm_share=1.0),
    ],
)
def test_rates_are_torchs_one_cycle(schedule: Schedule) -> None:
    import torch

    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    oracle = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=schedule.peak_rate, total_steps=schedule.steps, pct_start=schedule.warm_share,
        anneal_strategy="cos", cycle_momentum=False, div_factor=schedule.start_divisor,
        final_div_factor=schedule.end_divisor,
    )  # fmt: skip
    expected = []
    for _ in range(schedule.steps):
        expected.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        if len(expected) < schedule.steps:
            oracle.step()
    found = [learning_rate(schedule, step) for step in range(schedule.steps)]
    assert found == pytest.approx(expected, rel=1e-12)


@given(st.integers(1, 300), st.floats(0, 1), st.integers(1, 50))
def test_rates_are_finite_and_bounded(steps: int, warm: float, divisor: int) -> None:
    schedule = Schedule(steps=steps, warm_share=warm, start_divisor=float(divisor))
    rates = [learning_rate(schedule, step) for step in range(steps)]
    assert all(0 < rate <= schedule.peak_rate * (1 + 1e-12) for rate in rates)


@given(count=st.integers(1, 200), batch=st.integers(2, 64), seed=st.integers(0, 99))
def test_an_epoch_holds_every_view(count: int, batch: int, seed: int) -> None:
    steps = -(-count // batch)
    for epoch in range(2):
        drawn = np.concatenate([batch_indices(count, batch, seed, epoch * steps + step) for step in range(steps)])
        assert len(drawn) == steps * batch
        assert np.array_equal(np.sort(drawn[:count]), np.arange(count))
        assert np.array_equal(drawn[count:], np.resize(drawn[:count], steps * batch - count))


def test_epochs_and_seeds_differ() -> None:
    orders = [epoch_order(50, seed, epoch).tolist() for seed in range(3) for epoch in range(3)]
    assert len({tuple(order) for order in orders}) == 9


def test_the_order_is_fixed_for_all_versions() -> None:
    assert epoch_order(10, seed=0, epoch=0).tolist() == GOLDEN_ORDER


GOLDEN_ORDER = [3, 2, 1, 8, 6, 0, 7, 4, 5, 9]


@given(count=st.integers(1, 200), batch=st.integers(2, 64))
def test_statistics_see_every_view(count: int, batch: int) -> None:
    batches = statistics_batches(count, batch)
    assert all(len(indices) == batch for indices in batches)
    assert set(np.concatenate(batches).tolist()) == set(range(count))


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 0}, {"steps": 1.5}, {"steps": True}, {"batch": 1}, {"batch": 5000}, {"peak_rate": 0.0},
        {"peak_rate": float("nan")}, {"weight_decay": -1.0}, {"warm_share": 1.1}, {"start_divisor": 0.5},
        {"end_divisor": 0.0}, {"optimiser": 3}, {"peak_rate": "fast"}, {"rates": 0.1}, {"rates": "0.1"},
        {"rates": [0.1, 0.0]}, {"rates": [-0.1]}, {"rates": [True]}, {"rates": [float("nan")]}, {"rates": [None]},
        {"rates": {"0": 0.1}}, {"rates": [200.0]}, {"rates": [0.1] * 10_001}, {"rates": None},
    ],
)  # fmt: skip
def test_impossible_schedules_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(DistilledSetError):
        Schedule.from_json(Schedule().to_json() | change)


@pytest.mark.parametrize("value", [None, {}, {"steps": 3}, Schedule().to_json() | {"more": 1}])
def test_incomplete_schedules_are_refused(value: object) -> None:
    with pytest.raises(DistilledSetError):
        Schedule.from_json(value)


def test_round_trip() -> None:
    schedule = replace(Schedule(), steps=12, optimiser="sgd")
    assert Schedule.from_json(schedule.to_json()) == schedule


# Learnt rates --------------------------------------------------------------------------------------------------------

RATES = st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=40).map(tuple)


@given(RATES)
def test_as_many_rates_as_steps_are_one_a_step(rates: tuple[float, ...]) -> None:
    schedule = Schedule(steps=len(rates), rates=rates)
    assert tuple(learning_rate(schedule, step) for step in range(len(rates))) == rates


@given(rates=RATES, steps=st.integers(1, 200))
def test_rates_are_spread_over_another_number_of_steps(rates: tuple[float, ...], steps: int) -> None:
    """Against numpy's interpolation; the first and the last step have the first and the last rate."""
    schedule = Schedule(steps=steps, rates=rates)
    found = [learning_rate(schedule, step) for step in range(steps)]
    places = np.linspace(0, len(rates) - 1, steps) if steps > 1 else np.zeros(1)
    assert found == pytest.approx(np.interp(places, np.arange(len(rates)), rates), rel=1e-9)
    assert found[0] == rates[0]
    assert steps == 1 or found[-1] == rates[-1]


def test_rates_are_interpolated_by_hand() -> None:
    schedule = Schedule(steps=5, rates=(0.1, 0.3, 0.2))
    assert [learning_rate(schedule, step) for step in range(5)] == pytest.approx([0.1, 0.2, 0.3, 0.25, 0.2])
    longer = replace(schedule, steps=9)
    assert learning_rate(longer, 1) == pytest.approx(0.15)
    assert learning_rate(longer, 7) == pytest.approx(0.225)


@given(count=st.integers(1, 50), steps=st.integers(1, 50))
def test_positions_name_two_rates_that_exist(count: int, steps: int) -> None:
    for step in range(steps):
        before, share = rate_position(count, step, steps)
        assert 0 <= before < count
        assert 0 <= share < 1
        assert share == 0 or before + 1 < count


def test_learnt_rates_take_the_place_of_the_cycle() -> None:
    schedule = Schedule(steps=4, peak_rate=0.5, rates=(0.01,))
    assert [learning_rate(schedule, step) for step in range(4)] == [0.01] * 4


def test_round_trip_with_rates() -> None:
    schedule = Schedule(steps=12, rates=(0.1, 0.02, 1e-4))
    value = json.loads(json.dumps(schedule.to_json()))
    assert value == schedule.to_json()
    assert Schedule.from_json(value) == schedule


def test_a_schedule_without_rates_is_written_as_before_there_were_any() -> None:
    """Older boards read such a set, and sets of older hosts are read."""
    value = Schedule().to_json()
    assert "rates" not in value
    assert Schedule.from_json(value) == Schedule.from_json(value | {"rates": []}) == Schedule()
