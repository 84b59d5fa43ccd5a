"""Convergence: points of trainings of their own, and what is derived from them."""

from __future__ import annotations

import json

import pytest

from edgeser.evaluation.conditions import Bench, measure
from edgeser.evaluation.convergence import convergence, reached
from edgeser.evaluation.evaluate import Shelf, open_bench
from edgeser.run import Run
from edgeser.workers import Workers


@pytest.fixture(scope="module")
def bench(tiny_run: Run) -> Bench:
    return open_bench(tiny_run, tiny_run.distilled(), Shelf(Workers(1)))[0]


def points(*uar: float) -> list[dict[str, float]]:
    return [{"steps": 10 * 2**place, "seconds": 0.5 * 2**place, "uar_mean": value} for place, value in enumerate(uar)]


def test_each_length_is_a_training_of_its_own(bench: Bench) -> None:
    curves = convergence(bench, seeds=(0, 1), shares=(1.0, 0.5, 0.49, 0.001), workers=Workers(1))
    for row in ("distilled", "full"):
        assert [point["steps"] for point in curves[row]] == [1, 6, 12]  # 0.5 and 0.49 of 12 steps are the same
        seconds = [point["seconds"] for point in curves[row]]
        assert all(second > 0 for second in seconds)
        for point in curves[row]:
            shorter = bench.with_steps(point["steps"])
            pairs = [measure(row, shorter, bench.task.graph, bench.assignment.init, seed) for seed in (0, 1)]
            assert point["uar_mean"] == pytest.approx(sum(pair[1].uar for pair in pairs) / 2)
            assert point["dev_uar_mean"] == pytest.approx(sum(pair[0].uar for pair in pairs) / 2)
    json.dumps(curves, allow_nan=False)


def test_the_shortest_training_near_the_last_one_counts() -> None:
    found = reached({"distilled": points(0.3, 0.495, 0.45, 0.5), "full": points(0.2, 0.3, 0.49, 0.6)})
    assert found["target"] == pytest.approx(0.49)
    assert found["to_target"] == {"distilled": {"steps": 20, "seconds": 1.0}, "full": {"steps": 40, "seconds": 2.0}}
    assert found["ratio"] == {"steps": 2.0, "seconds": 2.0}


def test_full_data_that_never_reaches_the_set_has_no_ratio() -> None:
    found = reached({"distilled": points(0.3, 0.5), "full": points(0.2, 0.4)})
    assert found["to_target"]["full"] is None
    assert found["ratio"] is None
