"""What a run ships: items as bytes, the recipes of their views, labels, and how the student is trained.

distilled = ship(assignment, state, frontend)       # whatever the method learnt
distilled = finish(assignment, items, frontend)     # items alone
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeser.distill.bank import finish as finish
from edgeser.distill.bank import student_schedule as student_schedule
from edgeser.distill.method import Assignment, State
from edgeser.distill.table import find_method
from edgeser_device.distilled import DistilledSet
from edgeser_device.frontend import FrontendSpec


def ship(assignment: Assignment, state: State, frontend: FrontendSpec) -> DistilledSet:
    """The distilled set of a method's state, with the labels and the schedule that the method learnt, if it did."""
    method = find_method(assignment.settings.method)
    items = method.items(assignment, state) if method.items is not None else state["items"]
    shipped = finish(assignment, np.asarray(items, dtype=np.float32), frontend)
    if method.labels is not None:
        shipped = replace(shipped, soft_labels=method.labels(assignment, state).astype(np.float16))
    if method.schedule is not None:
        shipped = replace(shipped, schedule=method.schedule(assignment, state))
    return shipped
