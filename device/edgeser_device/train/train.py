"""Training on the board: a kit goes in, a model folder comes out, with onnxruntime alone.

    report = train(read_kit(Path("emotions.edgeser")), Path("model"), Settings(threads=4))

The kit's golden values are checked first; the steps made for it are the first ones of a training by the kit's own
schedule, and are not made twice. Checkpoints lie beside the model folder; an interrupted training goes on with
``resume`` and ends bit-identical. The files for the runtimes are written and compared by a child process, and the new
model replaces the older one only when all of that was good; the older one is kept for rollback.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeser_device.data.generated import Drawing, open_source, with_set
from edgeser_device.data.schedule import Schedule
from edgeser_device.data.stored import first_levels
from edgeser_device.errors import GateFailed, TrainingError
from edgeser_device.kit.golden import SEED
from edgeser_device.kit.kit import Kit
from edgeser_device.machine import (
    available_cores,
    describe_machine,
    installed_versions,
    seconds_since_start,
)
from edgeser_device.model.calibration import fit_student
from edgeser_device.model.inputs import install_encoder
from edgeser_device.model.model import (
    CARD,
    DESCRIPTION,
    DISTILLED,
    SCHEMA,
    WEIGHTS,
    describe_files,
    file_metadata,
    only_writer,
    previous_path,
    require_replaceable,
)
from edgeser_device.train.steps import choose_plan, give_back_memory, open_checked, with_batch
from edgeser_device.train.trainer import (
    Checkpoint,
    TrainingState,
    begin,
    checkpoint_path,
    load_checkpoint,
    make_steps,
    out_of_memory,
    running_statistics,
    save_checkpoint,
)
from edgeser_export.export import DEFAULT_FORMATS, INT8_FORMATS, export_in_child
from edgeser_export.graph.transform import recogniser
from edgeser_export.utilities.children import Told, ignore_phase, tree_peak_mb
from edgeser_export.utilities.errors import GraphError
from edgeser_export.utilities.files import exchange_folders, new_folder, remove_file, write_bytes, write_json
from edgeser_export.utilities.progress import Advance, ignore_progress, note

PARITY_ITEMS = 16
"""Views on which the written files are compared with the trained student."""
CALIBRATION_ITEMS = 128
"""Views on which int8 files are calibrated."""


@dataclass(frozen=True)
class Settings:
    """Settings of a training.

    Attributes:
        steps: Training steps; None for the kit's schedule.
        seed: Decides the order of the views.
        threads: None for the target's threads, as far as there are cores.
        memory_mb: Train with a smaller batch where the kit's is not likely to fit into this much memory, refuse what
            cannot fit, and reject a model whose training took more.
        resume: Go on from the checkpoint if there is one.
        drawing: The way in which points are drawn from a kit that carries a generator.
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
    """The report of a training.

    Attributes:
        steps: Steps of the whole training.
        seconds: Seconds of the steps and the statistics, all parts of an interrupted training together.
        first_step_s: Seconds from the start of the program to the end of the first step, imports and checks included.
        total_seconds: Seconds since the program was started: imports, checks and the writing of the files too.
        peak_rss_mb: The most memory that the training process held at one time, together with a child that wrote files;
            None where the system does not tell.
        loss: Loss of the last step.
        backend: The runtime and its version.
        threads: Threads of the training.
        seed: Decides the order of the views.
        kit_sha256: SHA-256 of the kit, hexadecimal.
        resumed_at: Step at which this process went on; 0 for a training of its own.
        batch: Views in one step.
        plain: Whether plain operators stood in for the kit's step, which computed something else here.
        drawing: The way in which points were drawn, in words; empty where the kit holds items.
    """

    steps: int
    seconds: float
    first_step_s: float
    total_seconds: float
    peak_rss_mb: float | None
    loss: float
    backend: str
    threads: int
    seed: int
    kit_sha256: str
    resumed_at: int
    batch: int
    plain: bool
    drawing: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def train(kit: Kit, model: Path, settings: Settings = Settings(), advance: Advance = ignore_progress) -> TrainReport:
    """Train a kit's student and write the model folder.

    Args:
        kit: The kit.
        model: The folder to write; a model there is kept as ``MODEL.previous``.
        settings: Settings of the training.
        advance: It is told the steps done, and what is done before and after them.

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
            install_encoder(kit)
            return _train(kit, model, settings, advance)
        except MemoryError as error:
            raise out_of_memory(error) from error


def _train(kit: Kit, model: Path, settings: Settings, advance: Advance) -> TrainReport:
    threads = settings.threads or min(int(kit.manifest["target"]["threads"]), available_cores())
    plan = choose_plan(kit, settings.memory_mb)
    schedule = replace(kit.distilled.schedule, steps=settings.steps or kit.distilled.schedule.steps)
    schedule = with_batch(schedule, plan.batch)
    made = _start(kit, model, schedule, settings, threads)
    advance(made.state.done, "checking the kit")
    resumed_at = made.state.done
    own = _begins_with(kit, made, schedule)
    opened = open_checked(kit, plan, threads, made if own else None, advance if own else ignore_progress)
    source = open_source(kit, settings.drawing, schedule, settings.seed, threads, settings.memory_mb)
    made = opened.made if own and opened.made is not None else made
    session, files, plan = opened.session, opened.files, opened.plan
    del opened
    saver = _Saver(checkpoint_path(model), settings.checkpoint_seconds)
    try:
        for made in make_steps(session, made, source, schedule, schedule.steps):  # noqa: B020  each goes on from the last
            advance(made.state.done, f"loss {made.loss:.3f}")
            saver.offer(made)
    except KeyboardInterrupt:
        if made.state.done:
            saver.save(made)
        raise
    began = time.monotonic()
    kit = with_set(kit, source(schedule.steps - 1)[0])
    # What the session returned lies in its memory, which is free only when nothing points there.
    own_values = {name: value.copy() for name, value in made.state.values.items()}
    made = replace(made, state=replace(made.state, values=own_values))
    del session, source
    give_back_memory()
    advance(schedule.steps, "statistics")
    weights = _with_statistics(kit, files, made.state, schedule.batch, threads)
    report = TrainReport(
        steps=schedule.steps,
        seconds=round(made.seconds + time.monotonic() - began, 3),
        first_step_s=round(made.first_step_s, 3),
        total_seconds=0.0,
        peak_rss_mb=None,
        loss=made.loss,
        backend=f"onnxruntime {installed_versions().get('onnxruntime', 'unknown')}",
        threads=threads,
        seed=settings.seed,
        kit_sha256=kit.sha256,
        resumed_at=resumed_at,
        batch=plan.batch,
        plain=plan.plain,
        drawing=settings.drawing.words(kit),
    )

    def described() -> dict[str, Any]:
        nonlocal report
        report = replace(report, total_seconds=round(seconds_since_start(), 3), peak_rss_mb=tree_peak_mb())
        _require_kept_bound(report, settings.memory_mb)
        return {"training": report.to_json()}

    write_model(model, kit, weights, described, threads, told=partial(advance, schedule.steps))
    remove_file(checkpoint_path(model))
    return report


NOTHING: Mapping[str, bytes] = MappingProxyType({})


def write_model(
    model: Path,
    kit: Kit,
    weights: Mapping[str, NDArray[np.float32]],
    described: Callable[[], Mapping[str, Any]],
    threads: int,
    files: Mapping[str, bytes] = NOTHING,
    told: Told = ignore_phase,
) -> None:
    """Write and compare the model's files beside the model, then exchange both folders; errors as :func:`train`.

    Args:
        model: The folder.
        kit: The kit that was trained from.
        weights: Parameters and running statistics.
        described: Asked, when all memory has been taken, for model.json's "training", a report as JSON, and what else
            it should hold.
        threads: Threads of the comparison.
        files: Further files by name.
        told: It is called with what is done.
    """
    distilled, spec = kit.distilled, kit.frontend
    told("fitting the temperature")
    temperature = fit_student(kit, weights, threads)
    give_back_memory()
    graph, levels = recogniser(kit.graph, spec.mean, spec.std, temperature), first_levels(distilled, CALIBRATION_ITEMS)
    about = file_metadata(kit.labels, spec, temperature, kit.sha256, kit.encoder)
    formats, few = (*DEFAULT_FORMATS, *INT8_FORMATS), levels[:PARITY_ITEMS]
    with new_folder(previous_path(model)) as draft:
        found = export_in_child(graph, weights, draft, few, about, formats, threads, levels, INT8_FORMATS, told=told)
        for row in found.rows:
            if not row.passed:
                note(
                    f"{row.name} is left out: it differs by {row.max_probability_difference:.2g} from what was trained"
                )
        content = {WEIGHTS: weights_bytes(weights), DISTILLED: kit.members[DISTILLED], CARD: kit.members[CARD], **files}
        for name, data in content.items():
            write_bytes(draft / name, data)
        description = {
            "schema": SCHEMA,
            "kit": kit.path.name,
            "made": datetime.now().astimezone().isoformat(timespec="seconds"),
            "labels": list(kit.labels),
            "frontend": spec.to_json(),
            **({"encoder": kit.encoder.to_json()} if kit.encoder else {}),
            "student": kit.graph.to_json(),
            "architecture": kit.manifest["student"],
            "provenance": kit.manifest["provenance"],
            "uar_packed": kit.uar_packed,
            "temperature": temperature,
            "machine": describe_machine(),
            "files": describe_files(draft),
            **described(),
        }
        write_json(draft / DESCRIPTION, description)
    exchange_folders(previous_path(model), model)


def weights_bytes(weights: Mapping[str, NDArray[np.float32]]) -> bytes:
    """Weights as a safetensors file."""
    from safetensors.numpy import save

    return save({name: np.ascontiguousarray(value) for name, value in weights.items()})


def _start(kit: Kit, model: Path, schedule: Schedule, settings: Settings, threads: int) -> Checkpoint:
    state, path = begin(kit.graph, kit.weights, schedule.optimiser), checkpoint_path(model)
    fresh = Checkpoint(state, kit.sha256, settings.seed, schedule.steps, threads, settings.drawing.words(kit))
    if not settings.resume or not path.exists():
        return fresh
    found = load_checkpoint(path)
    for what in ("kit", "seed", "steps", "threads", "drawing"):
        stored, asked = getattr(found, what), getattr(fresh, what)
        if stored != asked:
            raise TrainingError(
                f"the checkpoint {path} is of another training: {what} is {stored}, not {asked}",
                "go on with the same kit and flags, or start again without --resume",
            )
    if _shapes(found.state) != _shapes(state):
        raise TrainingError(
            f"the checkpoint {path} holds other weights than the kit's student", "start again without --resume"
        )
    return found


def _shapes(state: TrainingState) -> dict[str, tuple[int, ...]]:
    return {name: value.shape for name, value in state.values.items()}


def _begins_with(kit: Kit, made: Checkpoint, schedule: Schedule) -> bool:
    """Whether a training makes the very steps that are compared: same views, order and rates, and none made before."""
    own = made.state.done == 0 and made.seed == SEED and schedule == kit.distilled.schedule and not made.drawing
    return own and len(kit.golden.losses) <= schedule.steps


class _Saver:
    """Saves a checkpoint every few seconds, and never for more than a fiftieth of the time."""

    def __init__(self, path: Path, seconds: float) -> None:
        self._path, self._seconds = path, seconds
        self._next = time.monotonic() + seconds

    def offer(self, made: Checkpoint) -> None:
        now = time.monotonic()
        if now >= self._next:
            self.save(made)
            took = time.monotonic() - now
            self._next = now + took + max(self._seconds, 50 * took if self._seconds else 0)

    def save(self, made: Checkpoint) -> None:
        save_checkpoint(self._path, made)


def _with_statistics(
    kit: Kit, files: Mapping[str, bytes], state: TrainingState, batch: int, threads: int
) -> dict[str, NDArray[np.float32]]:
    parameters = {name: state.values[name] for name in kit.graph.parameters}
    statistics = {}
    if kit.graph.statistics:
        statistics = running_statistics(files["statistics"], threads, kit.graph, parameters, kit.distilled, batch)
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
