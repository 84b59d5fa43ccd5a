"""Rows of an evaluation: what each trains on, and how large the banks of random items are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeser.config.settings import Settings
from edgeser.config.values import changed
from edgeser.distill.pipeline import distill
from edgeser.evaluation.conditions import (
    BASELINES,
    FEWEST_VIEWS,
    ROWS,
    SAME_BYTES,
    BankSize,
    Bench,
    bank_bytes,
    random_bank,
    same_bytes,
    same_number,
)
from edgeser.evaluation.evaluate import Plan, Shelf, evaluate, open_bench, open_examination
from edgeser.run import Run
from edgeser.workers import Workers


@pytest.fixture(scope="module")
def bench(tiny_run: Run) -> Bench:
    return open_bench(tiny_run, tiny_run.distilled(), Shelf(Workers(1)))[0]


def with_set(bench: Bench, ipc: int, views: int) -> Bench:
    """The bench of a set that is as large as a bank of that size, as a method with these settings would leave it."""
    settings = replace(bench.assignment.settings, ipc=ipc, views=views)
    distilled = random_bank(bench, BankSize(ipc, views), seed=0)
    return replace(bench, assignment=replace(bench.assignment, settings=settings), distilled=distilled)


def test_the_size_of_a_bank_is_known_before_it_is_made(bench: Bench) -> None:
    for size in (BankSize(1, 1), BankSize(2, 4), BankSize(5, 70)):
        assert bank_bytes(bench, size) == len(random_bank(bench, size, seed=3).to_bytes())


def test_a_bank_of_as_many_items_and_views_is_as_large(bench: Bench) -> None:
    for ipc, views in ((3, 64), (2, 500)):
        large = with_set(bench, ipc, views)
        assert same_bytes(large) == same_number(large) == BankSize(ipc, views)


def test_equal_banks_are_trained_once(tiny: Settings, tmp_path: Path) -> None:
    small = replace(tiny, method="random", views=FEWEST_VIEWS, steps=2)
    run = distill(small, tmp_path / "run", Workers(1), resume=False, warn=lambda _: None)
    plan = Plan(seeds=(0, 1), rows=("distilled", "random_bank", "random_bank_bytes"))
    assert len(open_examination(run, plan, Shelf(Workers(1))).jobs()) == 2 * 2
    baselines = evaluate(run, plan, Workers(1))["baselines"]
    assert baselines["random_bank_bytes"] == {**baselines["random_bank"], "same_as": "random_bank"}
    assert baselines["random_bank"]["bytes"] == pytest.approx(len(run.distilled().to_bytes()), rel=SAME_BYTES)


def test_banks_of_other_sizes_are_rows_of_their_own(tiny_run: Run) -> None:
    plan = Plan(seeds=(0,), rows=("distilled", *BASELINES))
    assert len(open_examination(tiny_run, plan, Shelf(Workers(1))).jobs()) == 5  # 4 views an item, the baseline has 64


@pytest.mark.parametrize(("ipc", "views"), [(2, 4), (6, 1), (1, 1)])
def test_a_bank_of_as_many_bytes_fills_the_room_and_no_more(bench: Bench, ipc: int, views: int) -> None:
    other = with_set(bench, ipc, views)
    size, room = same_bytes(other), len(other.distilled.to_bytes())
    assert size != same_number(other)
    assert bank_bytes(bench, size) <= room
    assert bank_bytes(bench, replace(size, views=size.views + 1)) > room
    if size.views >= FEWEST_VIEWS:
        assert bank_bytes(bench, BankSize(size.ipc + 1, FEWEST_VIEWS)) > room
    else:
        assert size.ipc == 1


def test_soft_labels_of_all_clips_are_those_of_the_experts_at_the_temperature_of_the_run(bench: Bench) -> None:
    graph, init = bench.task.graph, bench.assignment.init
    hard, soft = (ROWS[row](bench, graph, init, 0) for row in ("full", "full_soft"))
    assert any(not np.array_equal(hard[name], soft[name]) for name in hard)
    certain = changed(bench.assignment.settings, {"experts.temperature": 0.1})
    cold = replace(bench, assignment=replace(bench.assignment, settings=certain))
    other = ROWS["full_soft"](cold, graph, init, 0)
    assert any(not np.array_equal(other[name], soft[name]) for name in soft)


def test_a_bench_of_other_steps_trains_for_them(bench: Bench) -> None:
    graph, init = bench.task.graph, bench.assignment.init
    assert bench.with_steps(7).distilled.schedule.steps == 7
    for row in ("distilled", "full"):
        short, long = (ROWS[row](bench.with_steps(steps), graph, init, 0) for steps in (2, 12))
        again = ROWS[row](bench, graph, init, 0)
        assert all(np.array_equal(long[name], again[name]) for name in again), row
        assert any(not np.array_equal(short[name], long[name]) for name in long), row
