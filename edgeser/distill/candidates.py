"""Candidates: sets of the same items, of which the one that is best on the dev speakers is shipped.

What a student becomes depends on its initialisation and on the views that were drawn as much as on the method: two
sets of one method differ by three to five points of UAR. Both belong to the distilled set, so both can be chosen.
Candidate 0 is what is shipped where nothing is chosen; each further one has an initialisation and views of its own.
A student is trained on each as a board trains it and scored on the dev speakers; no clip of the test speakers is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from edgeser.distill.method import Assignment, State
from edgeser.distill.shipping import ship
from edgeser.errors import DivergedError
from edgeser.features import Features
from edgeser.scoring import Clips, score
from edgeser.students import initial_weights
from edgeser.training import train_on_set
from edgeser_device.distilled import DistilledSet
from edgeser_export.graph import Weights

SEED_STEP = 100_003
"""Between the seeds of two candidates: larger than the seeds that anyone counts up to."""
BOARD_SEED = 0
"""Seed of the order of the views with which a board trains unless it is told otherwise."""


@dataclass(frozen=True)
class Candidate:
    """One of several sets.

    Attributes:
        number: From 0.
        init: The student's initialisation.
        distilled: The set.
    """

    number: int
    init: Weights
    distilled: DistilledSet


def candidate(assignment: Assignment, state: State, features: Features, number: int) -> Candidate:
    """The candidate of a number; a pure function of the state."""
    if number:
        seed = (assignment.settings.seed + number * SEED_STEP) % 2**31
        init = initial_weights(assignment.task.graph, seed)
        assignment = replace(assignment, init=init, settings=replace(assignment.settings, seed=seed))
    return Candidate(number, assignment.init, ship(assignment, state, features.frontend))


def try_candidates(
    assignment: Assignment, state: State, features: Features, known: Mapping[int, float]
) -> Iterator[tuple[int, float]]:
    """Number and dev UAR of each candidate that is not ``known`` yet; one that diverges has 0."""
    dev = Clips.of(features.dev, assignment.task.classes)
    for number in range(assignment.settings.candidates):
        if number not in known:
            tried = candidate(assignment, state, features, number)
            try:
                weights = train_on_set(assignment.task.graph, tried.init, tried.distilled, BOARD_SEED)
                yield number, score(assignment.task.graph, weights, dev).uar
            except DivergedError:
                yield number, 0.0


def best_of(found: Mapping[int, float]) -> int:
    """The number with the highest UAR, the lowest of equals."""
    return min(found, key=lambda number: (-found[number], number))
