"""Convergence: how many steps and seconds of training a distilled set needs, and how many all real clips need.

    curves = convergence(bench, seeds=(0, 1, 2), shares=SHARES, workers=Workers(2))

The middle of a one-cycle training is no result, because its learning rate has not fallen yet. So every point is a
training of its own, on a schedule of that length.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgeser.evaluation.conditions import ROWS, Bench
from edgeser.evaluation.intervals import deviation
from edgeser.evaluation.scoring import Score, score
from edgeser.workers import Workers
from edgeser_export.utilities.progress import progress_bar

SHARES = (0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0)
"""Lengths of training as shares of the student's steps."""
NEAR = 0.01
"""A training has converged when its UAR is no more than one point below the last one."""
COMPARED = ("distilled", "full")


def convergence(bench: Bench, seeds: Sequence[int], shares: Sequence[float], workers: Workers) -> dict[str, Any]:
    """Train the student on the distilled set and on all real clips for several lengths.

    Args:
        bench: The data that students are trained on and scored with.
        seeds: One training for each, at every length.
        shares: Lengths as shares of the student's steps.
        workers: The processes that train the students, each with one thread.

    Returns:
        The points of both curves, and what :func:`reached` derives from them; seconds are of one processor core.
    """
    lengths = sorted({max(1, round(share * bench.distilled.schedule.steps)) for share in shares}, reverse=True)
    jobs = [(row, bench.with_steps(steps), seed) for steps in lengths for row in COMPARED for seed in seeds]
    found: dict[tuple[str, int], list[tuple[float, Score, Score]]] = {}
    with progress_bar("convergence", len(jobs)) as advance:
        for done, result in enumerate(workers.each(timed_measure, jobs)):
            row, sized, _ = jobs[done]
            steps = sized.distilled.schedule.steps
            found.setdefault((row, steps), []).append(result)
            advance(done + 1, f"{row}, {steps} steps: {result[2].uar:.3f}")
    curves = {row: [_point(steps, found[row, steps]) for steps in reversed(lengths)] for row in COMPARED}
    return {**curves, **reached(curves), "seeds": list(seeds), "seconds_of": "one processor core"}


def timed_measure(row: str, bench: Bench, seed: int) -> tuple[float, Score, Score]:
    """Seconds of processor time that one training took, and its scores on dev and test speakers.

    Processor time, because other processes beside this one stretch the time on the wall; one thread computes.
    """
    graph = bench.task.graph
    began = time.process_time()
    weights = ROWS[row](bench, graph, bench.assignment.init, seed)
    seconds = time.process_time() - began
    return seconds, score(graph, weights, bench.dev), score(graph, weights, bench.test)


def reached(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """The shortest trainings with which the distilled set comes near its last UAR, and all clips reach as much.

    Args:
        curves: For "distilled" and "full" the points in the order of their lengths.

    Returns:
        ``target``: the UAR to reach, ``NEAR`` below the distilled set's last. ``to_target``: steps and seconds of the
        shortest training that reaches it, for each curve; None for full data that never does. ``ratio``: full data's
        over the distilled set's.
    """
    target = curves["distilled"][-1]["uar_mean"] - NEAR
    to_target: dict[str, dict[str, float] | None] = {}
    for row, points in curves.items():
        near = next((point for point in points if point["uar_mean"] >= target), None)
        to_target[row] = {"steps": near["steps"], "seconds": near["seconds"]} if near else None
    own, full = to_target["distilled"], to_target["full"]
    ratio = {key: full[key] / own[key] for key in ("steps", "seconds")} if own and full and own["seconds"] else None
    return {"target": target, "to_target": to_target, "ratio": ratio}


def _point(steps: int, results: Sequence[tuple[float, Score, Score]]) -> dict[str, Any]:
    seconds, dev, test = zip(*results, strict=True)
    scores = [each.uar for each in test]
    return {
        "steps": steps,
        "seconds": round(float(np.mean(seconds)), 4),
        "uar_mean": float(np.mean(scores)),
        "uar_std": deviation(scores),
        "uar": [round(score, 6) for score in scores],
        "dev_uar_mean": float(np.mean([each.uar for each in dev])),
    }
