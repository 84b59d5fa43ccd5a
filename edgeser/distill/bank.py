"""A distilled set from items alone: stored as bytes, with the recipes and labels of their views.

distilled = finish(assignment, items, frontend)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeser.distill.method import Assignment
from edgeser.labels import BankPlan, make_bank
from edgeser.settings import Settings
from edgeser_device.distilled import DistilledSet, quantise
from edgeser_device.frontend import FrontendSpec
from edgeser_device.schedule import Schedule


def finish(assignment: Assignment, items: NDArray[np.float32], frontend: FrontendSpec) -> DistilledSet:
    """Quantise the items, draw and label their views."""
    settings = assignment.settings
    levels, scale, offset = quantise(items)
    stored = levels.astype(np.float32) * scale[:, None, None] + offset[:, None, None]
    plan = BankPlan(settings.views, settings.temperature, settings.seed)
    recipes, labels = make_bank(settings.labels, stored, assignment.classes, assignment.ensemble, plan)
    return DistilledSet(
        levels=levels,
        scale=scale,
        offset=offset,
        classes=assignment.classes.astype(np.uint8),
        recipes=recipes,
        soft_labels=labels,
        names=assignment.names,
        schedule=student_schedule(settings),
        frontend=frontend,
    )


def student_schedule(settings: Settings) -> Schedule:
    """How the student is trained."""
    return Schedule(
        steps=settings.steps,
        batch=settings.batch,
        peak_rate=settings.peak_rate,
        weight_decay=settings.weight_decay,
    )
