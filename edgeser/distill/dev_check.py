"""The worth of a state on the dev speakers: a student is trained on what it would ship, for a part of its steps."""

from __future__ import annotations

from dataclasses import replace

from edgeser.distill.label_bank import assemble
from edgeser.distill.loop import Check
from edgeser.distill.method import Assignment, State
from edgeser.representation.base import Features, StoredSet
from edgeser.scoring import Clips, score
from edgeser.training import train_on_set

SHARE = 1 / 3
"""Share of the student's steps in a check: enough to rank sets, at a third of the time."""


def dev_check(assignment: Assignment, features: Features) -> Check:
    """A check of states of this assignment; it reads no clip of the test speakers."""
    dev = Clips.of(features.dev, assignment.task.classes)

    def check(state: State) -> float:
        return dev_uar(assignment, assemble(assignment, state), dev)

    return check


def dev_uar(assignment: Assignment, distilled: StoredSet, dev: Clips) -> float:
    """UAR on ``dev`` of one student, trained from the fixed initialisation for a share of its steps.

    Raises:
        DivergedError: The student's training diverges.
    """
    short = replace(distilled, schedule=replace(distilled.schedule, steps=check_steps(distilled.schedule.steps)))
    graph, seed = assignment.task.graph, assignment.settings.seed
    return score(graph, train_on_set(graph, assignment.init, short, seed), dev).uar


def check_steps(steps: int) -> int:
    """Steps of the student in a check, of ``steps`` in all."""
    return max(1, round(SHARE * steps))
