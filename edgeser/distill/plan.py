"""The seconds and the memory that a run will take: a few steps of every kind are made, measured and multiplied.

plan = make_plan(prepare(settings, workers), workers)
plan["total_seconds"], plan["peak_rss_mb"]

The same functions run on the same data with the same workers, so what they hold in memory is what a run holds. Seconds
are those of this machine as busy as it is just then; a run that stops early takes less.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from edgeser.distill.expert_jobs import ExpertJob, needed_experts
from edgeser.distill.label_bank import bank_plan, build_set
from edgeser.distill.loop import check_steps, number_of_checks
from edgeser.distill.method import Assignment
from edgeser.distill.pipeline import Material, with_experts
from edgeser.errors import DivergedError
from edgeser.models.experts import Task, Trajectory, train_expert
from edgeser.models.training import train_on_set
from edgeser.workers import Workers, one_thread
from edgeser_device.machine import family_peak_rss_mb

STEPS = 12
"""Measured steps of an expert in an epoch, of which it makes two, and of a student."""
ITERATIONS = 6
"""Measured iterations of a method, spread over its loop: one may cost more or less later on."""
FEWEST_VIEWS = 512
"""Views that are labelled to measure: so many take as much memory as all of them."""

Result = TypeVar("Result")


def make_plan(material: Material, workers: Workers) -> dict[str, Any]:
    """Seconds and memory of a run on this machine, whose features are computed.

    Args:
        material: Everything that the run works on.
        workers: The processes that the run is given.

    Returns:
        ``seconds`` of experts, method, checks and labels, and their ``total_seconds``; ``student_seconds`` of one
        training; ``peak_rss_mb`` of this process and its workers, None where the system does not tell; ``jobs``.

    Raises:
        WorkerError: A worker process died, most often for want of memory.
    """
    settings, task = material.settings, material.task
    jobs = needed_experts(material.method, settings, task)
    kinds: dict[str, list[str]] = {}
    for name in jobs:
        kinds.setdefault(name.rpartition("-")[0], []).append(name)
    sampled = [name for names in kinds.values() for name in names[: workers.jobs]]
    samples = dict(zip(sampled, workers.each(_sample, [(task, jobs[name]) for name in sampled]), strict=True))
    held = family_peak_rss_mb()
    workers.release()
    trained = {name: samples[names[0]][1] for names in kinds.values() for name in names}
    assignment = with_experts(task, material.corpus.labels, material.method, settings, trained)
    with one_thread():
        method = _method_seconds(assignment)
        labels, student, check = _set_seconds(assignment)
    seconds = {
        "experts": sum(samples[names[0]][0] * -(-len(names) // workers.jobs) for names in kinds.values()),
        "method": method,
        "checks": number_of_checks(material.method, settings) * check,
        "labels": labels,
    }
    return {
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "total_seconds": round(sum(seconds.values()), 1),
        "student_seconds": round(student, 1),
        "peak_rss_mb": max(held or 0.0, family_peak_rss_mb() or 0.0) or None,
        "jobs": workers.jobs,
    }


def plan_text(plan: Mapping[str, Any]) -> str:
    """The plan in two lines for people."""
    parts = ", ".join(f"{name} {in_words(value)}" for name, value in plan["seconds"].items() if value)
    memory = f"{plan['peak_rss_mb']:.0f} MB" if plan["peak_rss_mb"] else "unknown on this system"
    return (
        f"time     about {in_words(plan['total_seconds'])}: {parts}; a few steps of each were measured and multiplied\n"
        f"memory   {memory}, processes for the experts: {plan['jobs']}"
    )


def in_words(seconds: float) -> str:
    """A duration for people."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def _sample(task: Task, job: ExpertJob) -> tuple[float, Trajectory]:
    """Seconds of an expert's whole training by its first steps, and something as large as what it would leave."""
    ends: list[float] = []
    few = STEPS * job.recipe.batch
    short = replace(task.of(np.arange(min(few, len(task.clips)))), graph=job.graph)
    recipe = replace(job.recipe, epochs=2)
    final = train_expert(
        short, job.start, recipe, job.seed, False, lambda _done, _words: ends.append(time.monotonic())
    ).final
    step = (ends[-1] - ends[0]) / (len(ends) - 1)
    # On a straight line, so that no two snapshots are the same: what is matched must differ.
    epochs = job.recipe.epochs if job.keep_snapshots else 0
    snapshots = {
        name: np.linspace(job.start[name], final[name], 1 + epochs, dtype=np.float32) for name in job.graph.parameters
    }
    return step * job.recipe.schedule(len(task.clips)).steps, Trajectory(snapshots, final)


def _method_seconds(assignment: Assignment) -> float:
    """Seconds from the beginning of the method's loop to its end, without checks."""
    method, total = assignment.method, assignment.settings.iterations
    state, seconds = _timed(lambda: method.begin(assignment))
    if method.improve is None:
        return seconds
    took = []
    for number in np.unique(np.linspace(0, total - 1, ITERATIONS, dtype=int)).tolist():
        begun = time.monotonic()
        with suppress(DivergedError):  # the experts are not what they will be; the time is the same
            state, _ = method.improve(assignment, state, number)
        took.append(time.monotonic() - begun)
    return seconds + took[0] + (total - 1) * float(np.mean(took[1:] or took))


def _set_seconds(assignment: Assignment) -> tuple[float, float, float]:
    """Seconds of labelling all views, of a student's training on them, and of a check of a state."""
    settings, items, views = assignment.settings, len(assignment.classes), bank_plan(assignment).views
    fewer = min(views, max(2, -(-FEWEST_VIEWS // items)))
    small = replace(assignment, settings=replace(settings, views=fewer * assignment.formations))
    drawn = assignment.task.maps[np.arange(items) % len(assignment.task.clips)]
    distilled, labelled = _timed(lambda: build_set(small, drawn))
    graph = assignment.task.graph

    def train(steps: int) -> float:
        short = replace(distilled, schedule=replace(distilled.schedule, steps=steps))
        return _timed(lambda: train_on_set(graph, assignment.init, short, settings.seed))[1]

    first, more = train(2), train(2 + STEPS)
    step, labels = max(0.0, more - first) / STEPS, labelled * views / fewer
    return labels, first + settings.steps * step, labels + first + check_steps(settings.steps) * step


def _timed(call: Callable[[], Result]) -> tuple[Result, float]:
    begun = time.monotonic()
    return call(), time.monotonic() - begun
