"""The time of an audit: a shadow costs what a run costs, and the students of its sets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edgeser.distill.plan import make_plan
from edgeser.privacy.audit import AuditPlan, prepare_audit
from edgeser.privacy.shadows import STUDENTS
from edgeser.run import Run
from edgeser.workers import Workers


def foretell(run: Run, plan: AuditPlan, workers: Workers) -> dict[str, Any]:
    """Seconds of the shadows that are missing, from a few measured steps of a run.

    Raises:
        EdgeserError: As :func:`edgeser.privacy.audit.audit`.
    """
    opened, shadows = prepare_audit(run, plan, workers)
    settings = replace(shadows.settings, check_every=0)
    cost = make_plan(replace(opened.material, settings=settings), Workers(1))
    parts, sets = cost["seconds"], len(shadows.sets)
    shadow = parts["experts"] + (1 + len(plan.starts)) * parts["method"]
    shadow += sets * (parts["labels"] + STUDENTS * cost["student_seconds"])
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
