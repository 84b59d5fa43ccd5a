"""A training step, opened and compared with what its kit says before anything is trained with it.

opened = open_checked(kit, choose_plan(kit, memory_mb=None), threads=4)
opened.session.step(...)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from edgeser_device.errors import KitError, TrainingError
from edgeser_device.golden import FirstSteps, check_inference, check_losses
from edgeser_device.kit import Kit
from edgeser_device.progress import note
from edgeser_device.steps import StepPlan, give_back_memory, step_files
from edgeser_device.trainer import TrainingSession


@dataclass(frozen=True)
class Opened:
    """A training step that computes what the kit says.

    Attributes:
        session: The step.
        files: What it was loaded from, see :func:`step_files`.
        plan: That was followed.
        first: The steps that were compared; None with another batch than the kit's.
    """

    session: TrainingSession
    files: Mapping[str, bytes]
    plan: StepPlan
    first: FirstSteps | None


def open_checked(kit: Kit, plan: StepPlan, threads: int) -> Opened:
    """Load a step and compare what it computes.

    Where the kit's step computes other losses here, or the runtime refuses it, plain operators take its place. With
    another batch than the kit's there are no losses to compare with: views and outputs are.

    Raises:
        TrainingError: This machine computes something else, with plain operators too.
        KitError: The runtime refuses the step, and the plain one too.
        ExportError: A step could not be written.
        MissingRuntime: onnxruntime is missing, or onnx where a step has to be written.
    """
    check_inference(kit.golden, kit.graph, kit.weights, kit.distilled)
    give_back_memory()
    try:
        return _open_plan(kit, plan, threads)
    except (TrainingError, KitError) as error:
        first = error
    note(f"{first.message}; trying plain operators")
    try:
        return _open_plan(kit, replace(plan, plain=True), threads)
    except (TrainingError, KitError):
        raise first from None


def _open_plan(kit: Kit, plan: StepPlan, threads: int) -> Opened:
    files = step_files(kit, plan)
    session, first = TrainingSession(files["step"], threads), None
    if plan.batch == kit.distilled.schedule.batch:
        first = check_losses(kit.golden, session, kit.graph, kit.weights, kit.distilled)
    return Opened(session, files, plan, first)
