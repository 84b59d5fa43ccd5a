"""The files that a training computes with: the kit's own, or others that a child process writes on the board.

    plan = choose_plan(kit, memory_mb=100)          # the batch that fits
    files = step_files(kit, plan)                   # {"step": ..., "statistics": ...}
    opened = open_checked(kit, plan, threads=4)     # loaded, and compared with what the kit says

The kit's files are taken where the kit's batch fits and they compute what the kit says. Smaller batches, and the plain
operators that stand in where a runtime gets other numbers, are written when they are needed.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from math import prod

from edgeser_device.data.schedule import Schedule
from edgeser_device.errors import KitError, TrainingError
from edgeser_device.kit.golden import check_inference, check_losses
from edgeser_device.kit.kit import Kit
from edgeser_device.machine import memory_available_mb
from edgeser_device.train.trainer import Checkpoint, TrainingSession, begin
from edgeser_export.graph.op_graph import Graph
from edgeser_export.trainstep.step_writer import Request, write_in_child
from edgeser_export.utilities.progress import Advance, ignore_progress, note

BASE_MB = 50
"""Memory that Python, numpy and onnxruntime take before anything is trained."""
WRITING_MB = 140
"""Memory that this process and the one that writes the files take together, at least: Python and numpy twice,
onnxruntime twice, LiteRT and onnx. 160 to 170 were measured with the smallest students."""
SMALLEST_BATCH = 8
"""Below it the statistics of a batch are too rough to train with."""
LIVE_SHARE = 2.2
"""Memory of a step as a multiple of what gradients need: gradients themselves, and copies in other layouts. For edgenet
as measured, rounded up."""


@dataclass(frozen=True)
class StepPlan:
    """The way in which steps are computed.

    Attributes:
        batch: Views in one step.
        plain: Only operators that every runtime computes alike.
    """

    batch: int
    plain: bool = False


def choose_plan(kit: Kit, memory_mb: int | None) -> StepPlan:
    """The kit's batch, or the largest half, quarter and so on of it that is likely to fit.

    Args:
        kit: The kit.
        memory_mb: Memory that is allowed; None allows the kit's own batch.

    Raises:
        TrainingError: Not even the smallest can fit, in what is allowed or in what is free.
    """
    batch = kit.distilled.schedule.batch
    if memory_mb is not None:
        while likely_memory_mb(kit.graph, batch) > memory_mb and batch // 2 >= SMALLEST_BATCH:
            batch //= 2
    more = _bytes(kit.graph, batch, 1.0) >> 20
    require_memory("training needs", more, memory_mb, "pack a run with a smaller student or batch")
    return StepPlan(batch)


def with_batch(schedule: Schedule, batch: int) -> Schedule:
    """A schedule for another batch: rates fall with the root of it, as the noise of a gradient rises."""
    if batch == schedule.batch:
        return schedule
    share = (batch / schedule.batch) ** 0.5
    rates = tuple(rate * share for rate in schedule.rates)
    return replace(schedule, batch=batch, peak_rate=schedule.peak_rate * share, rates=rates)


def step_files(kit: Kit, plan: StepPlan) -> Mapping[str, bytes]:
    """The ONNX files of a training: "step", and "statistics" where the student normalises by batches.

    Raises:
        ExportError: They could not be written.
        MissingRuntime: The package ``onnx``, which writes them, is missing.
    """
    schedule, own = kit.distilled.schedule, {}
    if plan.batch == schedule.batch:
        own = {"statistics": kit.statistics_step} if kit.graph.statistics else {}
        if not plan.plain:
            return {"step": kit.step, **own}
    settings = {"batch": plan.batch, "optimiser": schedule.optimiser, "plain": plan.plain}
    requests = {"step": Request("training", kit.graph, settings)}
    if kit.graph.statistics and not own:
        requests["statistics"] = Request("statistics", kit.graph, {"batch": plan.batch})
    return {**own, **write_in_child(requests)}


def require_memory(what: str, more_mb: int, allowed_mb: int | None, otherwise: str) -> None:
    """Refuse work that cannot fit; what is refused is sure not to fit, what is not may still need more.

    Args:
        what: The work and its verb: "training needs".
        more_mb: Below this it does not fit, beside ``BASE_MB``; a whole training takes ``WRITING_MB`` in any case.
        allowed_mb: Memory that the process may take; None for all that is free.
        otherwise: Advice, as the end of a hint.

    Raises:
        TrainingError: The least need is above ``allowed_mb``, or above what the system has free.
    """
    least, free = max(WRITING_MB, BASE_MB + more_mb), memory_available_mb()
    if allowed_mb is not None and least > allowed_mb:
        problem, hint = f"{least} MB, {allowed_mb} MB are allowed", f"allow more with --memory-mb, or {otherwise}"
    elif free is not None and more_mb > free:
        problem, hint = f"{more_mb} MB more, {free} MB are free", f"stop other programs, or {otherwise}"
    else:
        return
    raise TrainingError(f"{what} at least {problem}", hint)


def least_memory_mb(graph: Graph, batch: int) -> int:
    """MB below which no training of this student fits.

    That is what weights, state, and the activations that gradients need take; or writing the files, where that is more.
    """
    return max(WRITING_MB, BASE_MB + (_bytes(graph, batch, 1.0) >> 20))


def likely_memory_mb(graph: Graph, batch: int) -> int:
    """MB that a training of this student takes, roughly."""
    return BASE_MB + (_bytes(graph, batch, LIVE_SHARE) >> 20)


def give_back_memory() -> None:
    """Return what was freed to the system, so that what comes next does not come on top; nothing without glibc."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


@dataclass(frozen=True)
class Opened:
    """A training step that computes what the kit says.

    Attributes:
        session: The step.
        files: The files of the training, see :func:`step_files`.
        plan: The plan that was followed.
        made: The state that the compared steps reached; None with another batch than the kit's.
    """

    session: TrainingSession
    files: Mapping[str, bytes]
    plan: StepPlan
    made: Checkpoint | None


def open_checked(
    kit: Kit, plan: StepPlan, threads: int, start: Checkpoint | None = None, advance: Advance = ignore_progress
) -> Opened:
    """Load a training step and compare what it computes with what its kit says, before anything is trained with it.

    Where the kit's step computes other losses here, or the runtime refuses it, plain operators take its place. With
    another batch than the kit's there are no losses to compare with: views and outputs are.

    Args:
        kit: The kit.
        plan: The way in which steps are computed.
        threads: At least 1.
        start: A training whose first steps are the ones that are compared; None for no training in particular.
        advance: Told the steps done.

    Raises:
        TrainingError: This machine computes something else, with plain operators too.
        KitError: The runtime refuses the step, and the plain one too.
        ExportError: A step could not be written.
        MissingRuntime: onnxruntime is missing, or onnx where a step has to be written.
    """
    check_inference(kit.golden, kit.graph, kit.weights, kit.distilled)
    give_back_memory()
    start = start or Checkpoint(begin(kit.graph, kit.weights, kit.distilled.schedule.optimiser))
    try:
        return _open_plan(kit, plan, threads, start, advance)
    except (TrainingError, KitError) as error:
        note(f"{error.message}; trying plain operators")
        with suppress(TrainingError, KitError):
            return _open_plan(kit, replace(plan, plain=True), threads, start, advance)
        raise


def _open_plan(kit: Kit, plan: StepPlan, threads: int, start: Checkpoint, advance: Advance) -> Opened:
    files = step_files(kit, plan)
    session, made = TrainingSession(files["step"], threads), None
    if plan.batch == kit.distilled.schedule.batch:
        made = check_losses(kit.golden, session, kit.distilled, start, advance)
    return Opened(session, files, plan, made)


def _bytes(graph: Graph, batch: int, share: float) -> int:
    weights = 6 * graph.parameter_count  # parameters and two moments, before and after a step
    activations = batch * sum(prod(graph.shapes[op.name]) for op in graph.ops)
    return int(4 * (weights + share * activations))
