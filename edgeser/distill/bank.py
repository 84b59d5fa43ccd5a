"""A distilled set from items alone: stored as bytes, with the recipes and labels of their views.

distilled = finish(assignment, items, frontend)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeser.config.settings import Settings
from edgeser.distill.method import Assignment
from edgeser.labels import BankPlan, make_bank
from edgeser_device.distilled import DistilledSet
from edgeser_device.formations import fold, unfold
from edgeser_device.frontend import FrontendSpec
from edgeser_device.schedule import Schedule


def finish(assignment: Assignment, items: NDArray[np.float32], frontend: FrontendSpec) -> DistilledSet:
    """Fold and quantise the items, draw and label their views.

    Args:
        assignment: Says of how many log-mels of which classes the items are.
        items: Float32 (items x formations, mels, frames), in the order of ``assignment.classes``.
        frontend: What they are log-mels of.
    """
    settings, formations = assignment.settings, assignment.formations
    levels, scale, offset = fold(items, formations)
    stored = unfold(levels, scale, offset, formations)
    recipes, labels = make_bank(stored, assignment.classes, assignment.ensemble, bank_plan(assignment))
    return DistilledSet(
        levels=levels,
        scale=scale,
        offset=offset,
        classes=assignment.classes[::formations].astype(np.uint8),
        recipes=recipes,
        soft_labels=labels,
        names=assignment.names,
        schedule=student_schedule(settings),
        frontend=frontend,
        formations=formations,
    )


def bank_plan(assignment: Assignment) -> BankPlan:
    """How the bank is made; an item's views are shared out among its log-mels."""
    settings = assignment.settings
    views = max(1, settings.views // assignment.formations)
    return BankPlan(settings.labels, views, settings.experts.temperature, settings.seed)


def student_schedule(settings: Settings) -> Schedule:
    """How the student is trained."""
    return Schedule(
        steps=settings.steps,
        batch=settings.batch,
        peak_rate=settings.peak_rate,
        weight_decay=settings.weight_decay,
    )
