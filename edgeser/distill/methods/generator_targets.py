"""Targets of the codebook of a generator: sums of clips of each class, as items of larger budgets begin.

    shape = shape_of(assignment)        # how many bases there are, and how large
    wanted = targets(assignment)        # one for each basis

These are aligned pairs that the experts were asked to make surer. A generator of vectors has no codebook.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from edgeser.config.values import changed
from edgeser.distill import starts
from edgeser.distill.method import Assignment, State
from edgeser.distill.methods import invert
from edgeser.distill.methods.centroids import RANK
from edgeser.distill.methods.generator_networks import VectorShape
from edgeser.distill.optimise import with_moments
from edgeser_export.writers.onnx_generator import CODEBOOK, GeneratorShape

INVERTED = 40
"""Iterations of invert before aligned pairs are targets."""
BASES_OF_A_CLASS, LARGEST = 32, 800_000
"""Bases of each class, unless together they have more numbers than this: a generator stays below a megabyte."""
FAR = 0x10001
"""Between the seeds of one round of targets and the next."""


def shape_of(assignment: Assignment) -> GeneratorShape | VectorShape:
    """The generator of an assignment: of log-mels, or of vectors."""
    task, latent = assignment.task, assignment.settings.gan.codebook
    rows, columns = task.maps.shape[1:]
    if not task.representation.has_time:
        return VectorShape(min(RANK, len(task.clips), rows), task.classes, rows)
    one = GeneratorShape(1, task.classes, rows, columns)
    fitting = max(2, LARGEST // prod(one.weights[CODEBOOK]))
    return replace(one, latent=latent or min(BASES_OF_A_CLASS, fitting))


def targets(assignment: Assignment) -> NDArray[np.float32]:
    """Targets of the bases, in their order, float32 (bases, mels, frames): sums, inverted."""
    summed, latent = sums(assignment), shape_of(assignment).latent
    own = changed(assignment.settings, {"ipc": latent, "samples_per_item": 1, "gan.ratio": "balanced"})
    given = replace(assignment, settings=own)
    state: State = with_moments({"items": summed}, ["items"])
    for iteration in range(INVERTED):
        state, _ = invert.improve(given, state, iteration)
    return np.asarray(state["items"], dtype=np.float32)


def sums(assignment: Assignment) -> NDArray[np.float32]:
    """Sums of clips of one class for the codebook, in its order, float32 (entries, rows, columns).

    Of a class with fewer clips than bases some clips come first in several sums, with other partners or shifts.
    """
    task, wanted = assignment.task, shape_of(assignment).latent
    at_once = min(wanted, task.fewest_clips)
    make = starts.find_start(assignment.representation.usual_starts[1]).make
    rounds = []
    for number in range(-(-wanted // at_once)):
        seed = (assignment.settings.seed + FAR * number) % (1 << 31)
        own = changed(
            assignment.settings, {"ipc": at_once, "samples_per_item": 1, "gan.ratio": "balanced", "seed": seed}
        )
        made = make(replace(assignment, settings=own))
        rounds.append(made.reshape(task.classes, at_once, *made.shape[1:]))
    return np.concatenate(np.concatenate(rounds, axis=1)[:, :wanted])
