"""Files that a run of the generative distiller keeps besides its items: the generator and the label experts, as ONNX.

``pack`` puts them into the kit where the run was made with ``gan.ship=generator``; see :mod:`edgeser_device.generated`.
The kit's distilled set is then the probe: an item a class, for the checks and comparisons that a board makes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeser.config.values import changed
from edgeser.distill.gan import KEPT, items, part
from edgeser.distill.gan_networks import VectorShape
from edgeser.distill.gan_targets import shape_of
from edgeser.distill.label_bank import build_set
from edgeser.distill.method import Assignment, State
from edgeser.representation.base import StoredSet
from edgeser.run import safetensors_bytes
from edgeser_device.generated import DESCRIPTION, GENERATOR, PROBE, Description, labeller_name
from edgeser_export.generator import halve, write_generator
from edgeser_export.onnx import write_onnx

PROBE_VIEWS = 128
"""Views of the probe, or a few more."""
VECTOR_GENERATOR = "generator.safetensors"
"""Name in the run of the weights of a generator of vectors."""


def files(assignment: Assignment, state: State) -> dict[str, bytes]:
    """The files by their names in the run; stored as :mod:`edgeser_export.generator` says, experts as float16.

    A generator of vectors, which no board draws from, is kept as its weights.
    """
    task, ensemble, settings = assignment.task, assignment.ensemble, assignment.settings
    shape = shape_of(assignment)
    if isinstance(shape, VectorShape):
        return {VECTOR_GENERATOR: safetensors_bytes(part(state, KEPT))}
    description = Description(
        latent=shape.latent,
        labellers=len(ensemble.members),
        temperature=settings.experts.temperature,
        points=settings.ipc,
        clips=tuple(np.bincount(task.labels, minlength=task.classes).tolist()),
    )
    experts = {
        labeller_name(number): halve(write_onnx(ensemble.graph, member), ensemble.graph.parameters)
        for number, member in enumerate(ensemble.members)
    }
    return {
        DESCRIPTION: description.to_bytes(),
        PROBE: probe(assignment, state).to_bytes(),
        GENERATOR: write_generator(shape, part(state, KEPT)),
        **experts,
    }


def probe(assignment: Assignment, state: State) -> StoredSet:
    """One item a class with a few views each, the first ones that the generator makes."""
    views = -(-PROBE_VIEWS // assignment.task.classes)
    few = {"ipc": 1, "views": views, "gan.ratio": "balanced", "samples_per_item": 1}
    small = replace(assignment, settings=changed(assignment.settings, few))
    return build_set(small, items(small, state))
