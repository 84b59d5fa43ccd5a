"""Training on the board: a kit goes in, a model folder comes out, with onnxruntime alone.

    report = train(read_kit(Path("emotions.edgeser")), Path("model"), Settings(threads=4))

The kit's golden values are checked first. Checkpoints lie beside the model folder; an interrupted training goes on with
``resume`` and ends bit-identical. The files for the runtimes are written and compared by a child process, and the new
model replaces the older one only when all of that was good; the older one is kept for rollback.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeser_device.checkpoint import Checkpoint, checkpoint_path, load_checkpoint, save_checkpoint
from edgeser_device.errors import GateFailed, TrainingError
from edgeser_device.generated import Drawing, Source, open_source, with_set
from edgeser_device.golden import check_golden
from edgeser_device.kit import CARD, DISTILLED, Kit
from edgeser_device.lock import only_writer
from edgeser_device.machine import (
    available_cores,
    describe_machine,
    installed_versions,
    memory_available_mb,
    peak_rss_mb,
    seconds_since_start,
)
from edgeser_device.model import (
    DESCRIPTION,
    SCHEMA,
    WEIGHTS,
    describe_files,
    keep_previous,
    previous_path,
    require_replaceable,
)
from edgeser_device.progress import Advance, ignore_progress
from edgeser_device.schedule import Schedule
from edgeser_device.trainer import TrainingSession, TrainingState, begin, out_of_memory, running_statistics
from edgeser_device.views import render
from edgeser_export.errors import GraphError
from edgeser_export.export import export_in_child
from edgeser_export.files import new_folder, remove_file, write_bytes, write_json
from edgeser_export.graph import Graph

PARITY_ITEMS = 16
"""Views on which the written files are compared with the trained student."""
BASE_MB = 50
"""What Python, numpy and onnxruntime take before anything is trained."""


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
        steps: Training steps; None for the kit's schedule.
        seed: Of the order of the views.
        threads: None for the target's threads, as far as there are cores.
        memory_mb: Refuse what cannot fit into this much memory, and reject a model whose training took more.
        resume: Go on from the checkpoint if there is one.
        drawing: Of the points of a kit that carries a generator.
        checkpoint_seconds: Least time between two checkpoints; a slow card gets them less often.
    """

    steps: int | None = None
    seed: int = 0
    threads: int | None = None
    memory_mb: int | None = None
    resume: bool = False
    drawing: Drawing = field(default_factory=Drawing)
    checkpoint_seconds: float = 5.0


@dataclass(frozen=True)
class TrainReport:
    """What a training took.

    Attributes:
        steps: Steps of the whole training.
        seconds: Seconds of the steps and the statistics, all parts of an interrupted training together.
        first_step_s: Seconds from the start of the program to the end of the first step, imports and checks included.
        peak_rss_mb: The most memory that the training process held; None where the system does not tell.
        loss: Of the last step.
        backend: The runtime and its version.
        threads: Of the training.
        seed: Of the order of the views.
        kit_sha256: Of the kit.
        resumed_at: Step at which this process went on; 0 for a training of its own.
        drawing: How the points were drawn; empty where the kit holds items.
    """

    steps: int
    seconds: float
    first_step_s: float
    peak_rss_mb: float | None
    loss: float
    backend: str
    threads: int
    seed: int
    kit_sha256: str
    resumed_at: int
    drawing: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def train(kit: Kit, model: Path, settings: Settings = Settings(), advance: Advance = ignore_progress) -> TrainReport:
    """Train a kit's student and write the model folder.

    Args:
        kit: The kit.
        model: The folder to write; a model there is kept as ``MODEL.previous``.
        settings: How to train.
        advance: Told the steps done.

    Raises:
        ModelError: Something else than a model stands at ``model``, or another process is writing there.
        KitError: onnxruntime does not accept the kit's training step.
        TrainingError: The golden check failed, the loss is not finite, memory cannot suffice, or the checkpoint is of
            another training.
        GateFailed: The training took more than ``memory_mb``.
        ParityError: A written file does not compute what was trained.
        StorageError: The folder cannot be written.
    """
    model = Path(os.path.realpath(model))
    for place in (model, previous_path(model)):
        require_replaceable(place)
    with only_writer(model):
        try:
            return _train(kit, model, settings, advance)
        except MemoryError as error:
            raise out_of_memory(error) from error


def _train(kit: Kit, model: Path, settings: Settings, advance: Advance) -> TrainReport:
    threads = settings.threads or min(int(kit.manifest["target"]["threads"]), available_cores())
    schedule = replace(kit.distilled.schedule, steps=settings.steps or kit.distilled.schedule.steps)
    require_memory(kit.graph, schedule.batch, settings.memory_mb)
    start = _start(kit, model, schedule, settings, threads)
    saver = _Saver(checkpoint_path(model), settings.checkpoint_seconds)
    source = open_source(kit, settings.drawing, schedule, settings.seed, threads)
    state, made = _make_steps(kit, start, saver, schedule, source, advance)
    began = time.monotonic()
    kit = with_set(kit, source.at(schedule.steps - 1)[0])
    weights = _with_statistics(kit, state, threads)
    report = TrainReport(
        steps=schedule.steps,
        seconds=round(made.seconds + time.monotonic() - began, 3),
        first_step_s=round(made.first_step_s, 3),
        peak_rss_mb=peak_rss_mb(),
        loss=made.loss,
        backend=f"onnxruntime {installed_versions().get('onnxruntime', 'unknown')}",
        threads=threads,
        seed=settings.seed,
        kit_sha256=kit.sha256,
        resumed_at=start[0].done,
        drawing=settings.drawing.words(kit),
    )
    _require_kept_bound(report, settings.memory_mb)
    write_model(model, kit, weights, report, threads)
    remove_file(checkpoint_path(model))
    return report


def require_memory(graph: Graph, batch: int, allowed_mb: int | None) -> None:
    """Refuse a training that cannot fit; what is refused is sure not to fit, what is not may still need more.

    Raises:
        TrainingError: The least need is above ``allowed_mb``, or above what the system has free.
    """
    least, free = least_memory_mb(graph, batch), memory_available_mb()
    if allowed_mb is not None and least > allowed_mb:
        raise TrainingError(
            f"training needs at least {least} MB, {allowed_mb} MB are allowed",
            "allow more with --memory-mb, or pack a run with a smaller student or batch",
        )
    if free is not None and least - BASE_MB > free:
        raise TrainingError(
            f"training needs at least {least - BASE_MB} MB more, {free} MB are free",
            "stop other programs, or pack a run with a smaller student or batch",
        )


def least_memory_mb(graph: Graph, batch: int) -> int:
    """MB below which no training of this student fits: weights, state, and the activations that gradients need."""
    weights = 6 * graph.parameter_count  # parameters and two moments, before and after a step
    activations = batch * sum(prod(graph.shapes[op.name]) for op in graph.ops)
    return BASE_MB + (4 * (weights + activations) >> 20)


def write_model(
    model: Path, kit: Kit, weights: Mapping[str, NDArray[np.float32]], report: TrainReport, threads: int
) -> None:
    """Write and compare the model's files, then put the folder in its place; errors as :func:`train`."""
    from safetensors.numpy import save

    distilled = kit.distilled
    indices = np.arange(len(distilled.recipes))[:PARITY_ITEMS]
    views = render(distilled.items(), distilled.recipes, indices)
    with new_folder(model) as draft:
        about = {"labels": ",".join(kit.labels), "kit_sha256": kit.sha256}
        export_in_child(kit.graph, weights, draft, views, about, threads=threads)
        write_bytes(draft / WEIGHTS, save({name: np.ascontiguousarray(value) for name, value in weights.items()}))
        write_bytes(draft / DISTILLED, kit.members[DISTILLED])
        write_bytes(draft / CARD, kit.members[CARD])
        description = {
            "schema": SCHEMA,
            "labels": list(kit.labels),
            "frontend": distilled.frontend.to_json(),
            "student": kit.graph.to_json(),
            "architecture": kit.manifest["student"],
            "provenance": kit.manifest["provenance"],
            "training": report.to_json(),
            "machine": describe_machine(),
            "files": describe_files(draft),
        }
        write_json(draft / DESCRIPTION, description)
        keep_previous(model)


def _start(
    kit: Kit, model: Path, schedule: Schedule, settings: Settings, threads: int
) -> tuple[Checkpoint, TrainingState]:
    fresh = Checkpoint(
        kit.sha256, settings.seed, schedule.steps, threads, 0, 0.0, 0.0, 0.0, settings.drawing.words(kit)
    )
    path = checkpoint_path(model)
    if not settings.resume or not path.exists():
        return fresh, begin(kit.graph, kit.weights, schedule.optimiser)
    found, state = load_checkpoint(path)
    for what in ("kit", "seed", "steps", "threads", "drawing"):
        stored, asked = getattr(found, what), getattr(fresh, what)
        if stored != asked:
            raise TrainingError(
                f"the checkpoint {path} is of another training: {what} is {stored}, not {asked}",
                "go on with the same kit and flags, or start again without --resume",
            )
    if _shapes(state) != _shapes(begin(kit.graph, kit.weights, schedule.optimiser)):
        raise TrainingError(
            f"the checkpoint {path} holds other weights than the kit's student", "start again without --resume"
        )
    return found, state


def _shapes(state: TrainingState) -> dict[str, tuple[int, ...]]:
    return {name: value.shape for name, value in state.values.items()}


def _make_steps(
    kit: Kit,
    start: tuple[Checkpoint, TrainingState],
    saver: _Saver,
    schedule: Schedule,
    source: Source,
    advance: Advance,
) -> tuple[TrainingState, Checkpoint]:
    made, state = start
    session = TrainingSession(kit.step, made.threads)
    check_golden(kit.golden, session, kit.graph, kit.weights, kit.distilled)
    began, before = time.monotonic(), made.seconds
    try:
        while state.done < schedule.steps:
            state, loss = session.step(state, *source.at(state.done), schedule, made.seed)
            first = seconds_since_start() if state.done == 1 else made.first_step_s
            seconds = before + time.monotonic() - began
            made = replace(made, done=state.done, loss=loss, first_step_s=first, seconds=seconds)
            advance(state.done, f"loss {loss:.3f}")
            saver.offer(made, state)
    except KeyboardInterrupt:
        if made.done == state.done > 0:  # otherwise the interruption fell between a step and its account
            saver.save(made, state)
        raise
    return state, made


class _Saver:
    """Saves a checkpoint every few seconds, and never for more than a fiftieth of the time."""

    def __init__(self, path: Path, seconds: float) -> None:
        self._path, self._seconds = path, seconds
        self._next = time.monotonic() + seconds

    def offer(self, checkpoint: Checkpoint, state: TrainingState) -> None:
        now = time.monotonic()
        if now >= self._next:
            self.save(checkpoint, state)
            took = time.monotonic() - now
            self._next = now + took + max(self._seconds, 50 * took if self._seconds else 0)

    def save(self, checkpoint: Checkpoint, state: TrainingState) -> None:
        save_checkpoint(self._path, checkpoint, state)


def _with_statistics(kit: Kit, state: TrainingState, threads: int) -> dict[str, NDArray[np.float32]]:
    parameters = {name: state.values[name] for name in kit.graph.parameters}
    statistics = {}
    if kit.graph.statistics:
        statistics = running_statistics(kit.statistics_step, threads, kit.graph, parameters, kit.distilled)
    weights = {**parameters, **statistics}
    try:
        kit.graph.check(weights)
    except GraphError as error:
        raise TrainingError(f"the trained student cannot be used: {error.message}", error.hint) from error
    return weights


def _require_kept_bound(report: TrainReport, allowed_mb: int | None) -> None:
    if allowed_mb is not None and report.peak_rss_mb is not None and report.peak_rss_mb > allowed_mb:
        raise GateFailed(
            f"the training took {report.peak_rss_mb:.0f} MB, {allowed_mb} MB are allowed; no model was written",
            "allow more with --memory-mb, or pack a run with a smaller student or batch",
        )
