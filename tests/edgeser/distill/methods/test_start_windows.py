"""Start windows: they grow with the budget and with the iterations, and no epoch is trained in vain."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeser.config.values import changed, settings_of
from edgeser.distill.methods.mtt import epochs_used, last_start, start_range

SETTINGS = settings_of(
    {
        "samples_per_item": 1,
        "corpus": "demo",
        "method": "mtt",
        "ipc": 1,
        "mtt.min_start_epoch": 2,
        "mtt.first_max_start_epoch": 5,
        "mtt.max_start_epoch": 11,
        "mtt.start_epoch_growth": 3.0,
        "mtt.iterations": 7,
        "mtt.expert_span": 4,
    }
)


@pytest.mark.parametrize(("ipc", "last"), [(1, 11), (2, 14), (3, 16), (4, 17), (6, 19), (16, 23)])
def test_each_doubling_of_the_budget_moves_the_last_start(ipc: int, last: int) -> None:
    assert last_start(replace(SETTINGS, ipc=ipc)) == last
    assert last_start(changed(SETTINGS, {"ipc": ipc, "mtt.start_epoch_growth": 0.0})) == 11


def test_the_latest_start_grows_evenly_to_the_last() -> None:
    assert [start_range(SETTINGS, iteration) for iteration in range(7)] == [(2, latest) for latest in range(5, 12)]


def test_a_first_window_beyond_the_last_does_not_shrink() -> None:
    fixed = changed(SETTINGS, {"mtt.first_max_start_epoch": 50})
    assert {start_range(fixed, iteration) for iteration in range(7)} == {(2, 11)}


def test_an_earliest_start_beyond_the_latest_is_the_latest() -> None:
    late = changed(SETTINGS, {"mtt.min_start_epoch": 8})
    assert [start_range(late, iteration) for iteration in range(7)] == [
        (5, 5), (6, 6), (7, 7), (8, 8), (8, 9), (8, 10), (8, 11)
    ]  # fmt: skip


def test_one_iteration_has_the_first_window() -> None:
    assert start_range(changed(SETTINGS, {"mtt.iterations": 1}), 0) == (2, 5)


@pytest.mark.parametrize("ipc", [1, 6])
def test_the_last_target_is_the_last_epoch_that_is_trained(ipc: int) -> None:
    settings = replace(SETTINGS, ipc=ipc)
    reached = {start_range(settings, iteration)[1] + settings.mtt.expert_span for iteration in range(7)}
    assert max(reached) == epochs_used(settings)
