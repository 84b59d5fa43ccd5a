"""What an audit will take: a shadow costs what a run costs, and the students of its sets."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from edgeser.audit.audit import AuditPlan, prepare_audit
from edgeser.audit.material import Opened
from edgeser.audit.shadows import STUDENTS
from edgeser.distill.plan import make_plan
from edgeser.run import Run
from edgeser.training import train_on_set
from edgeser.workers import Workers, one_thread

STEPS = (5, 45)
"""Two lengths of a student's training, whose difference tells what a step costs."""


def foretell(run: Run, plan: AuditPlan, workers: Workers) -> dict[str, Any]:
    """Seconds of the shadows that are missing, measured with a few steps of each kind on this machine as busy as it is.

    Raises:
        EdgeserError: As :func:`edgeser.audit.audit.audit`.
    """
    opened, shadows = prepare_audit(run, plan, workers)
    settings = replace(shadows.settings, check_every=0, candidates=1, folder=opened.material.settings.folder)
    parts = make_plan(settings, Workers(1))["seconds"]
    sets = len(shadows.sets)
    repeated = parts["experts"] + (1 + len(plan.starts)) * parts["method"] + sets * parts["labels"]
    shadow = repeated + sets * STUDENTS * _student_seconds(opened)
    missing = len(shadows.missing(plan.shadows))
    together = min(workers.jobs, max(1, missing))
    return {
        "shadows": plan.shadows,
        "missing": missing,
        "shadow_seconds": round(shadow, 1),
        "jobs": together,
        "left_out": list(opened.left_out.values()),
        "total_seconds": round(shadow * -(-missing // together), 1),
    }


def _student_seconds(opened: Opened) -> float:
    graph, init, steps = opened.assignment.task.graph, opened.run.init(), opened.distilled.schedule.steps
    took = []
    with one_thread():
        for count in STEPS:
            short = replace(opened.distilled, schedule=replace(opened.distilled.schedule, steps=count, rates=()))
            begun = time.monotonic()
            train_on_set(graph, init, short, 0)
            took.append(time.monotonic() - begun)
    step = max(0.0, took[1] - took[0]) / (STEPS[1] - STEPS[0])
    return took[0] + (steps - STEPS[0]) * step
