"""What a run ships: items as bytes, the recipes of their views, labels, and how the student is trained.

distilled = ship(assignment, state, frontend)       # whatever the method learnt
distilled = finish(assignment, items, frontend)     # items alone
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edgeser.distill.method import Assignment, State
from edgeser.distill.table import find_method
from edgeser.labels import BankPlan, make_bank
from edgeser.settings import Settings
from edgeser_device.distilled import DistilledSet, quantise
from edgeser_device.frontend import FrontendSpec
from edgeser_device.schedule import Schedule


def ship(assignment: Assignment, state: State, frontend: FrontendSpec) -> DistilledSet:
    """The distilled set of a method's state, with the labels and the schedule that the method learnt, if it did."""
    method = find_method(assignment.settings.method)
    shipped = finish(assignment, np.asarray(state["items"], dtype=np.float32), frontend)
    if method.labels is not None:
        shipped = replace(shipped, soft_labels=method.labels(assignment, state).astype(np.float16))
    if method.schedule is not None:
        shipped = replace(shipped, schedule=method.schedule(assignment, state))
    return shipped


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
