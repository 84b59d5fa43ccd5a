"""How long a run will take and how much memory it will hold: every kind of step is made a few times and measured.

    found = calibrate(settings, Workers(jobs=2), Path("an/empty/folder"))
    found["total_seconds"], found["peak_rss_mb"]

This belongs into a process of its own, as :mod:`edgeser.distill.plan` starts it: memory that was held before would be
counted, and when memory does not suffice, the process dies and not the one that asks. The same functions run on the
same data with the same workers; only the numbers of steps, iterations and views are smaller, and seconds are scaled up
by them.
"""

from __future__ import annotations

import heapq
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from edgeser.distill.bank import bank_plan, finish
from edgeser.distill.dev_check import check_steps
from edgeser.distill.expert_jobs import ExpertJob, expert_path, needed_experts
from edgeser.distill.loop import number_of_checks
from edgeser.distill.method import Assignment
from edgeser.distill.pipeline import Material, assign, describe, prepare
from edgeser.distill.table import find_method
from edgeser.errors import DivergedError
from edgeser.experts import ExpertRecipe, Task, Trajectory, save_trajectory, train_expert
from edgeser.features import Features
from edgeser.run import Run, open_run
from edgeser.scoring import Clips, score
from edgeser.settings import Settings
from edgeser.stopwatch import Stopwatch, summary_of
from edgeser.training import train_on_set
from edgeser.workers import Workers, one_thread
from edgeser_device.machine import peak_rss_mb
from edgeser_device.schedule import Schedule
from edgeser_export.errors import EdgeserError

WARM_UP = 2
"""Steps before measuring: the first ones pay for memory and for choosing how to compute."""
STEPS = 10
"""Measured steps of an expert."""
STUDENT_STEPS = 30
"""Measured steps of a student."""
METHOD_SECONDS = 3.0
"""Iterations are measured for so long, but at least one after the first, and at most ``MOST_ITERATIONS``."""
MOST_ITERATIONS = 20
FEWEST_VIEWS = 512
"""Labels are made for so many views at once; more take as much memory."""


def calibrate(settings: Settings, workers: Workers, folder: Path) -> dict[str, Any]:
    """Measure what ``settings`` will take with these workers.

    Args:
        settings: As a run would be given.
        workers: As a run would be given.
        folder: Empty; what the experts of a run take there is taken here.

    Returns:
        As :meth:`Stopwatch.summary`, foretold, with ``checks`` and ``jobs``.
    """
    watch = Stopwatch.of_program()
    with watch.phase("features"):
        material = prepare(settings, workers)
        describe(material)
    with watch.phase("experts"):
        trained = _experts_seconds(open_run(folder, material.settings, resume=False), material, workers)
        begun = time.monotonic()
        assignment = assign(Run(folder), material, workers)
        trained += time.monotonic() - begun
    begun = time.monotonic()
    workers.release()
    trained += time.monotonic() - begun
    decided = material.settings
    checks = number_of_checks(find_method(decided.method), decided)
    with one_thread():
        with watch.phase("method"):
            learnt = _method_seconds(assignment)
        with watch.phase("checks"):
            labelled, checked = _shipping_seconds(assignment, material.features, checks)
        with watch.phase("labels"):
            pass
    foretold = {"experts": trained, "method": learnt, "checks": checks * checked, "labels": labelled}
    return {
        **summary_of(watch.seconds | foretold, watch.rss_mb, peak_rss_mb()),
        "checks": checks,
        "jobs": workers.jobs,
    }


@dataclass(frozen=True)
class Sample:
    """A few steps of an expert's training.

    Attributes:
        took: Seconds of this sample with all that a whole training does once.
        first: Of these, what the first steps took longer than others: a process pays it once.
        step: Seconds of a step.
        steps: Steps that were made.
    """

    took: float
    first: float
    step: float
    steps: int

    def whole(self, job: ExpertJob, clips: int) -> float:
        """Seconds of the whole training."""
        return self.took + (job.recipe.schedule(clips).steps - self.steps) * self.step


def _experts_seconds(run: Run, material: Material, workers: Workers) -> float:
    """Sample as many experts of each kind as are trained side by side, and put files like theirs into the run."""
    task, jobs = material.task, needed_experts(material.settings, material.task)
    kinds: dict[str, list[str]] = {}
    for name in jobs:
        kinds.setdefault(name.rpartition("-")[0], []).append(name)
    sampled = [name for names in kinds.values() for name in names[: max(2, workers.jobs)]]
    run.trajectories.mkdir()
    begun = time.monotonic()
    calls = [(task, jobs[name], expert_path(run, name)) for name in sampled]
    samples = dict(zip(sampled, workers.each(_sample, calls), strict=True))
    # What is no training: the workers' start, and the way to them and back.
    besides = time.monotonic() - begun - _side_by_side([each.took for each in samples.values()], workers.jobs)
    seconds = []
    for names in kinds.values():
        for place, name in enumerate(names):
            like = names[place % max(2, workers.jobs)]
            seconds.append(samples[like].whole(jobs[name], len(task.clips)))
            if name not in samples:
                seconds[-1] -= samples[like].first
                expert_path(run, name).write_bytes(expert_path(run, like).read_bytes())
    return max(0.0, besides) + _side_by_side(seconds, workers.jobs)


@dataclass(frozen=True)
class ShortRecipe(ExpertRecipe):
    """An expert's recipe that ends after a few steps."""

    def schedule(self, clips: int) -> Schedule:
        """The schedule of the first steps."""
        return replace(super().schedule(clips), steps=WARM_UP + STEPS)


def _sample(task: Task, job: ExpertJob, path: Path) -> Sample:
    """Make a few steps of an expert's training and write a file as large as it will be."""
    begun = time.monotonic()
    ends: list[float] = []
    short, task = ShortRecipe(**vars(job.recipe)), replace(task, graph=job.graph)
    found = train_expert(task, job.start, short, job.seed, False, lambda _done, _words: ends.append(time.monotonic()))
    # On a straight line, so that no two snapshots are the same: what is matched must differ.
    shares = np.linspace(0, 1, 1 + job.recipe.epochs if job.keep_snapshots else 1, dtype=np.float32)
    snapshots = {
        name: np.stack([start[0] + share * (found.final[name] - start[0]) for share in shares])
        for name, start in found.snapshots.items()
    }
    save_trajectory(path, Trajectory(snapshots, found.final))
    step = (ends[-1] - ends[WARM_UP - 1]) / STEPS
    return Sample(time.monotonic() - begun, ends[WARM_UP - 1] - begun - WARM_UP * step, step, len(ends))


def _side_by_side(seconds: Sequence[float], jobs: int) -> float:
    """When the last of these jobs ends, each begun by the first of ``jobs`` workers that is free."""
    free = [0.0] * jobs
    for each in seconds:
        heapq.heapreplace(free, free[0] + each)
    return max(free)


def _method_seconds(assignment: Assignment) -> float:
    """Seconds from the beginning of the method's loop to its end, without checks."""
    method, total = find_method(assignment.settings.method), assignment.settings.iterations
    begun = time.monotonic()
    state = method.begin(assignment)
    first = time.monotonic() - begun
    if method.improve is None:
        return first
    # Spread over the whole loop: an iteration may cost more or less later on.
    numbers = [0, *np.random.default_rng(0).permutation(np.arange(1, total))[: MOST_ITERATIONS - 1].tolist()]
    took: list[float] = []
    for number in numbers:
        begun = time.monotonic()
        with suppress(DivergedError):  # the experts are not what they will be; the time is the same
            state, _ = method.improve(assignment, state, number)
        took.append(time.monotonic() - begun)
        if len(took) > 1 and sum(took) > METHOD_SECONDS:
            break
    return first + took[0] + (total - 1) * float(np.mean(took[1:] or took))


def _shipping_seconds(assignment: Assignment, features: Features, checks: int) -> tuple[float, float]:
    """Seconds of labelling all views, with the students of all candidates, and of one check, if there is any."""
    settings, items = assignment.settings, len(assignment.classes)
    views = bank_plan(assignment).views
    fewer = min(views, max(2, -(-FEWEST_VIEWS // items)))
    small = replace(assignment, settings=replace(settings, views=fewer * assignment.formations))
    drawn = assignment.task.clips[np.arange(items) % len(assignment.task.clips), 0]
    share = views / fewer
    distilled, labelled = _timed(lambda: finish(small, drawn, features.frontend))
    if not checks and settings.candidates == 1:
        return share * labelled, 0.0
    graph = assignment.task.graph

    def train(steps: int) -> tuple[Any, float]:
        short = replace(distilled, schedule=replace(distilled.schedule, steps=steps))
        return _timed(lambda: train_on_set(graph, assignment.init, short, settings.seed))

    train(WARM_UP)
    weights, few = train(WARM_UP)
    _, many = train(WARM_UP + STUDENT_STEPS)
    step = max(0.0, many - few) / STUDENT_STEPS
    statistics = max(0.0, few - WARM_UP * step)  # over all views
    dev = Clips.of(features.dev, assignment.task.classes)
    _, scored = _timed(lambda: score(graph, weights, dev))
    around = share * (labelled + statistics) + scored
    tried = settings.candidates * (around + settings.steps * step) if settings.candidates > 1 else 0.0
    return share * labelled + tried, around + check_steps(settings.steps) * step


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    begun = time.monotonic()
    result = call()
    return result, time.monotonic() - begun


def main() -> int:
    """Read what is asked from stdin and print the answer, or the error, as one JSON object; returns the exit code."""
    asked: Mapping[str, Any] = json.load(sys.stdin)
    try:
        with TemporaryDirectory(prefix="edgeser-plan-") as folder:
            workers = Workers(asked["jobs"], asked["backend"])
            result = calibrate(Settings(**asked["settings"]), workers, Path(folder))
    except EdgeserError as error:
        result = {"error": error.message, "hint": error.hint}
    sys.stdout.write(json.dumps(result) + "\n")
    return 1 if "error" in result else 0
