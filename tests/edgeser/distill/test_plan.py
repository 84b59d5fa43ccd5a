"""The plan: what is measured and how it is scaled up, and that a run then holds what was foretold."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from edgeser.distill import calibrate as calibrating
from edgeser.distill import plan as planning
from edgeser.distill.calibrate import METHOD_SECONDS, Sample, ShortRecipe, calibrate
from edgeser.distill.expert_jobs import needed_experts
from edgeser.distill.method import Assignment, Method, State
from edgeser.distill.pipeline import assign, prepare
from edgeser.distill.plan import in_words, make_plan, plan_table
from edgeser.distill.table import METHODS, settings_for
from edgeser.errors import WorkerError
from edgeser.experts import ExpertRecipe, load_trajectory
from edgeser.run import open_run
from edgeser.settings import Settings
from edgeser.workers import Workers

ALONE = Workers(1)
NEAR = 0.3
"""How far the memory may be off, as a share."""


class Clock:
    """Stands in for the module time: it moves when it is told to."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(calibrating, "time", clock)
    return clock


# Scaling up ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "jobs", "end"),
    [([], 2, 0), ([3, 3, 3], 1, 9), ([3, 3, 3], 2, 6), ([5, 1, 1, 1], 2, 5), ([1, 1, 5], 2, 6), ([2, 3], 8, 3)],
)
def test_jobs_side_by_side_end_with_the_last(seconds: list[float], jobs: int, end: float) -> None:
    assert calibrating._side_by_side(seconds, jobs) == end


def test_a_whole_training_takes_its_steps_and_what_is_done_once(tiny: Settings) -> None:
    task = prepare(tiny, ALONE).task
    job = needed_experts(replace(tiny, expert_steps=120), task)["label-expert-0"]
    assert job.recipe.schedule(len(task.clips)).steps == 120
    assert Sample(took=9.0, first=2.0, step=0.5, steps=12).whole(job, len(task.clips)) == 9.0 + 108 * 0.5


def test_a_short_recipe_differs_in_its_steps_alone() -> None:
    recipe = ExpertRecipe("sgd", 40, batch=8, flatness=0.1)
    short = ShortRecipe(**vars(recipe))
    assert replace(short.schedule(100), steps=520) == recipe.schedule(100)
    assert short.schedule(100).steps == calibrating.WARM_UP + calibrating.STEPS
    assert vars(short) == vars(recipe)


def ticking(clock: Clock, begin: float, first: float, then: float, asked: list[int]) -> Method:
    """A method whose iterations take as long as they are told to."""

    def starting(assignment: Assignment) -> State:
        clock.now += begin
        return {"items": np.zeros((1, 1, 1), np.float32)}

    def improve(assignment: Assignment, state: State, iteration: int) -> tuple[State, dict[str, float]]:
        clock.now += then if asked else first
        asked.append(iteration)
        return state, {"loss": 1.0}

    return Method("ticks", starting, improve)


@pytest.mark.parametrize("iterations", [1, 2, 5, 150])
@pytest.mark.parametrize("then", [0.001, 0.5, 60.0])
def test_the_methods_seconds_follow_from_a_few_iterations(
    assignment: Assignment, clock: Clock, monkeypatch: pytest.MonkeyPatch, iterations: int, then: float
) -> None:
    asked: list[int] = []
    method = ticking(clock, 7.0, 3.0, then, asked)
    monkeypatch.setattr(calibrating, "find_method", lambda name: method)
    given = replace(assignment, settings=replace(assignment.settings, iterations=iterations))
    assert calibrating._method_seconds(given) == pytest.approx(7 + 3 + (iterations - 1) * then)
    assert len(set(asked)) == len(asked) <= min(iterations, calibrating.MOST_ITERATIONS)
    assert set(asked) <= set(range(iterations))
    assert clock.now - 10 <= METHOD_SECONDS + then  # it stops when it knows enough


def test_a_method_without_iterations_takes_its_beginning(assignment: Assignment, clock: Clock, monkeypatch) -> None:
    method = replace(ticking(clock, 7.0, 3.0, 1.0, []), improve=None)
    monkeypatch.setattr(calibrating, "find_method", lambda name: method)
    assert calibrating._method_seconds(assignment) == 7


# What is measured ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_method_is_tried_with_experts_as_large_as_its_own(method: str, tiny: Settings, tmp_path: Path) -> None:
    settings = settings_for(
        method, corpus="demo", ipc=2, width=0.25, views=4, experts=4, label_width=0.25, steps=12, iterations=3,
        trajectories=3, expert_span=3, start_window=2, student_steps=2, check_every=2,
    )  # fmt: skip
    material = prepare(settings, ALONE)
    run = open_run(tmp_path / "run", settings, resume=False)
    calibrating._experts_seconds(run, material, ALONE)
    jobs = needed_experts(material.settings, material.task)
    assert {path.stem for path in run.trajectories.iterdir()} == set(jobs)
    for name, job in jobs.items():
        found = load_trajectory(run.trajectories / f"{name}.safetensors")
        assert found.epochs == (job.recipe.epochs if job.keep_snapshots else 0)
        assert set(found.final) == set(job.graph.parameters) | set(job.graph.statistics)
        for epoch in range(found.epochs):
            now, next_one = found.at(epoch), found.at(epoch + 1)
            assert any(not np.array_equal(now[each], next_one[each]) for each in now)
    assignment = assign(run, material, ALONE)  # trains nothing more
    assert run.events("expert") == []
    assert calibrating._method_seconds(assignment) > 0
    labelled, checked = calibrating._shipping_seconds(assignment, material.features, checks=3)
    assert 0 < labelled < checked
    assert calibrating._shipping_seconds(assignment, material.features, checks=0)[1] == 0


def test_a_plan_names_every_phase_and_counts_the_checks(tiny: Settings, tmp_path: Path) -> None:
    settings = replace(tiny, iterations=5, check_every=2)
    plan = calibrate(settings, ALONE, tmp_path)
    assert list(plan["seconds"]) == ["start", "features", "experts", "method", "checks", "labels"]
    assert plan["total_seconds"] == pytest.approx(sum(plan["seconds"].values()), abs=0.05)
    assert (plan["checks"], plan["jobs"]) == (4, 1)
    assert plan["peak_rss_mb"] == max(plan["rss_mb"].values()) >= plan["process_peak_rss_mb"] - 1 > 100
    assert not (tmp_path / "distilled.safetensors").exists()


# The process that measures -------------------------------------------------------------------------------------------


def test_what_goes_wrong_in_the_trial_is_told(tiny: Settings) -> None:
    with pytest.raises(WorkerError, match=r"cannot be tried: .*nowhere") as caught:
        make_plan(replace(tiny, corpus="folder", folder="/nowhere/at/all"), ALONE)
    assert caught.value.hint


def test_a_trial_that_is_killed_for_its_memory_is_told(tiny: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "_CHILD", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(WorkerError, match="was killed, most likely because the memory was full") as caught:
        make_plan(tiny, ALONE)
    assert "--jobs 1" in caught.value.hint


def test_a_trial_that_dies_of_a_fault_of_ours_says_its_last_words(tiny: Settings, monkeypatch) -> None:
    monkeypatch.setattr(planning, "_CHILD", "raise KeyError('our fault')")
    with pytest.raises(WorkerError, match="our fault"):
        make_plan(tiny, ALONE)


PLAN = {
    "seconds": {"start": 2.0, "features": 3.4, "experts": 99.6, "method": 3000.0, "checks": 0.0, "labels": 40_000.0},
    "total_seconds": 43_105.0,
    "rss_mb": {"start": 220.4, "features": 500.0, "experts": 1200.0, "method": 900.0, "checks": 900.0, "labels": 900.0},
    "peak_rss_mb": 1200.0,
    "checks": 0,
}


def text_of(plan: dict[str, object]) -> str:
    console = Console(width=100)
    with console.capture() as captured:
        console.print(plan_table(plan))
    return captured.get()


def test_people_see_a_line_a_phase() -> None:
    shown = text_of(PLAN)
    for words in ("start", "3 s", "100 s", "50 min", "11 h 7 min", "220 MB", "1200 MB", "11 h 58 min"):
        assert words in shown, shown
    assert "checks" not in shown
    assert "checks (4)" in text_of({**PLAN, "checks": 4, "seconds": {**PLAN["seconds"], "checks": 20.0}})
    assert "MB" not in text_of({**PLAN, "rss_mb": None, "peak_rss_mb": None})


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (99.4, "99 s"), (100, "2 min"), (5940, "99 min"), (7260, "2 h 1 min")]
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "jobs", "moving"), [("mtt", 2, ("--iterations", "6", "--check-every", "3")), ("random", 1, ())]
)
def test_a_run_holds_the_memory_that_was_foretold(
    method: str,
    jobs: int,
    moving: tuple[str, ...],
    tmp_path: Path,
    run_edgeser: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """Time is another matter: who else computes now is not who computes then. benchmarks/plan.py compares it."""
    words = (
        "distill", "--corpus", "demo", "--method", method, "--ipc", "4", "--expert-steps", "60", "--steps", "60",
        *moving, "--jobs", jobs, "--json",
    )  # fmt: skip
    plan = json.loads(run_edgeser(*words, "--dry-run", timeout=600, check=True).stdout)["plan"]
    run = json.loads(run_edgeser(*words, "--out", tmp_path / "run", timeout=600, check=True).stdout)
    for name in ("peak_rss_mb", "process_peak_rss_mb"):
        assert plan[name] == pytest.approx(run[name], rel=NEAR), name
    assert set(run["seconds"]) <= set(plan["seconds"])
    assert 0.1 < plan["total_seconds"] / run["total_seconds"] < 10
