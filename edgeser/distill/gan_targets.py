"""What the bases of a generator have to make: aligned pairs of clips that the experts were asked to make surer.

    shape = shape_of(assignment)        # how many bases there are, and how large
    wanted = targets(assignment)        # one for each basis

Targets of vectors are sums of three of a class.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from edgeser.config.values import changed
from edgeser.distill import invert, starts
from edgeser.distill.adam import with_moments
from edgeser.distill.gan_networks import VectorShape
from edgeser.distill.method import Assignment, State
from edgeser.distill.voices import draws
from edgeser_device.formations import blur
from edgeser_export.generator import BASES, GeneratorShape

INVERTED = 40
"""Iterations of invert before aligned pairs are targets."""
VECTOR_BASES = 16
"""Bases of each class in a generator of vectors."""
BASES_OF_A_CLASS, LARGEST = 32, 800_000
"""Bases of each class, unless together they have more numbers than this: a generator stays below a megabyte."""
FAR = 0x10001
"""Between the seeds of one round of targets and the next."""


def shape_of(assignment: Assignment) -> GeneratorShape | VectorShape:
    """The generator of an assignment: of log-mels, or of vectors where the clips are maps of one by one."""
    task, latent = assignment.task, assignment.settings.gan.codebook
    channels, mels, frames = task.clips.shape[1:]
    if (mels, frames) == (1, 1):
        return VectorShape(latent or VECTOR_BASES, task.classes, channels)
    one = GeneratorShape(1, task.classes, mels, frames)
    fitting = max(2, LARGEST // prod(one.weights[BASES]))
    return replace(one, latent=latent or min(BASES_OF_A_CLASS, fitting))


def targets(assignment: Assignment) -> NDArray[np.float32]:
    """What the bases have to make, in their order, float32 (bases, ...): sums, inverted where they are log-mels."""
    summed, latent = sums(assignment), shape_of(assignment).latent
    if isinstance(shape_of(assignment), VectorShape):
        return summed
    own = changed(assignment.settings, {"ipc": latent, "samples_per_item": 1, "gan.ratio": "balanced"})
    return polished(replace(assignment, settings=own), summed, INVERTED)


def sums(assignment: Assignment) -> NDArray[np.float32]:
    """Sums of clips of one class for the bases, in their order, float32 (bases, ...): pairs, or of three vectors.

    Of a class with fewer clips than bases some clips come first in several sums, with other partners or shifts.
    """
    task, wanted = assignment.task, shape_of(assignment).latent
    at_once = min(wanted, task.fewest_clips)
    make = summed_vectors if isinstance(shape_of(assignment), VectorShape) else starts.aligned
    rounds = []
    for number in range(-(-wanted // at_once)):
        seed = (assignment.settings.seed + FAR * number) % (1 << 31)
        own = changed(
            assignment.settings, {"ipc": at_once, "samples_per_item": 1, "gan.ratio": "balanced", "seed": seed}
        )
        made = make(replace(assignment, settings=own))
        rounds.append(made.reshape(task.classes, at_once, *made.shape[1:]))
    return np.concatenate(np.concatenate(rounds, axis=1)[:, :wanted])


def summed_vectors(assignment: Assignment) -> NDArray[np.float32]:
    """Sums of three vectors of a class by different speakers, as far from the class's mean as one of them is.

    Float32 (classes x per_class, size). Weights w are uniform between 0.5 and 1.5 before they sum to one; a mean of
    independent vectors varies less than they do, by the root of the sum of w^2.
    """
    random = np.random.default_rng([assignment.settings.seed, 0x3117])
    made = []
    for number, drawn in enumerate(draws(assignment, starts.SOURCES)):
        middle = assignment.task.clips[assignment.clips_of_class(number)].mean(0)[:, 0, 0]
        for row in drawn:
            weights = random.uniform(starts.LEAST_SHARE, starts.LARGEST_SHARE, len(row))
            weights /= weights.sum()
            apart = weights @ (assignment.task.clips[row, :, 0, 0] - middle)
            made.append(middle + apart / np.sqrt((weights**2).sum()))
    return np.stack(made).astype(np.float32)


def polished(assignment: Assignment, made: NDArray[np.float32], iterations: int) -> NDArray[np.float32]:
    """Log-mels of the assignment's classes after some iterations of :mod:`edgeser.distill.invert`.

    After each they are as smooth as its items can store them.
    """
    state: State = with_moments({"items": made}, ["items"])
    for iteration in range(iterations):
        state, _ = invert.improve(assignment, state, iteration)
        state = {**state, "items": blur(np.asarray(state["items"], dtype=np.float32), assignment.formations)}
    return np.asarray(state["items"], dtype=np.float32)
