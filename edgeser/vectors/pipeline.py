"""From a file of vectors to a finished run: standardise, train experts, let the method make vectors, label them.

    run = distil_vectors(settings, Path("runs/wavlm"), resume=False)

A vector is a map of one by one with as many channels, so that students, experts and the generator are trained by the
same functions as those of log-mels. The run's ``distilled.safetensors`` holds ``items``, float32 (items, D) in standard
deviations; ``classes`` uint8; ``soft_labels`` float16 (items, classes); ``mean`` and ``spread``, float32 (D,); and
``constant``, uint8 (D,): 1 where all training vectors are the same and every standardised vector is 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgeser import __version__
from edgeser.config.settings import Settings
from edgeser.corpora.errors import UnreadableLabels
from edgeser.corpora.splits import Split
from edgeser.distill.budget import resolve
from edgeser.distill.gan import KEPT, items, part
from edgeser.distill.loop import iterations_done, run_method
from edgeser.distill.method import Assignment, State
from edgeser.distill.table import find_method, require_start
from edgeser.errors import DistilledSetError, RunError, SettingsError
from edgeser.experts import Ensemble, Task
from edgeser.rows import REAL_CLIPS
from edgeser.run import Run, only_writer, open_run, require_usable, safetensors_bytes
from edgeser.students import initial_weights
from edgeser.training import Arrays, Augmentation, train_on_clips
from edgeser.vectors.corpus import Vectors, read_vectors, split_vectors
from edgeser.vectors.scale import Scale, scale_of
from edgeser.workers import one_thread
from edgeser_device.progress import progress_bar
from edgeser_export.files import write_bytes, write_json
from edgeser_export.graph import INPUT, BatchNorm, Conv, Graph, Linear, Reduce, Relu

ARCH = "mlp"
HIDDEN = 64
"""Numbers of the student's hidden layer at width 1."""
METHODS = ("gan", "random", "herding", "kcenter")
"""What works on vectors: the others move items that have time and frequency."""
MIXING = Augmentation(shift=0, gain=0.0, mixup=0.2)
"""How real and generated vectors are varied; those of log-mels are shifts and levels."""


@dataclass(frozen=True)
class Material:
    """What a run of vectors works on.

    Attributes:
        vectors: The whole file.
        split: By speakers.
        rows: Rows of the file in each part.
        scale: Of the training part.
        assignment: For the method; experts are trained by :func:`with_experts`.
    """

    vectors: Vectors
    split: Split
    rows: dict[str, NDArray[np.int64]]
    scale: Scale
    assignment: Assignment

    def part(self, name: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Standardised vectors of a part, float32 (utterances, D, 1, 1), and their classes."""
        chosen = self.rows[name]
        return self.scale.standardised(self.vectors.x[chosen])[:, :, None, None], self.vectors.labels[chosen]


def mlp(size: int, classes: int, width: float = 1.0) -> Graph:
    """A dense network with one hidden layer, as convolutions of one by one over a map of one by one."""
    hidden = max(1, round(HIDDEN * width))
    ops = (
        Conv("hidden", INPUT, hidden, kernel=1, bias=False),
        BatchNorm("norm", "hidden"),
        Relu("relu", "norm"),
        Reduce("features", "relu", (1, 2), "mean"),
        Linear("logits", "features", classes),
    )
    return Graph((size, 1, 1), ops)


def prepare_vectors(settings: Settings) -> Material:
    """Read the file, split it, and check that the settings fit.

    Raises:
        CorpusError: The file cannot be used; a leaf says why.
        SettingsError: Method, labels or budget do not fit.
    """
    if settings.method not in METHODS:
        raise SettingsError(f"--method {settings.method} does not work on vectors", f"use one of: {', '.join(METHODS)}")
    if settings.gan.ship != "items" or settings.samples_per_item > 1:
        raise SettingsError("vectors are shipped as items, as they are", "leave out gan.ship and samples_per_item")
    require_start(settings)
    vectors = read_vectors(Path(settings.folder))
    split, rows = split_vectors(vectors, settings.split)
    scale = _scale(vectors, rows["train"])
    labels = vectors.labels[rows["train"]]
    graph = mlp(vectors.x.shape[1], len(vectors.names), settings.width)
    clips = scale.standardised(vectors.x[rows["train"]])[:, :, None, None]
    speakers = tuple(vectors.speakers[row] for row in rows["train"])
    task = Task(graph, clips, labels, len(vectors.names), speakers)
    fixed = _decided(replace(settings, arch=ARCH, samples_per_item=1), task, vectors.names)
    start = initial_weights(graph, settings.seed)
    assignment = Assignment(task, vectors.names, fixed, start, Ensemble(graph, (), ()))
    return Material(vectors, split, rows, scale, assignment)


def distil_vectors(settings: Settings, out: Path, resume: bool) -> Run:
    """Make a run of vectors, or go on with an interrupted one.

    Raises:
        RunError: ``out`` holds something else, or a run of other settings or of other vectors.
        EdgeserError: As :func:`prepare_vectors`.
    """
    begun = require_usable(out, settings, resume)
    run = Run(out)
    if run.is_finished:
        return run
    material = prepare_vectors(begun)
    with only_writer(open_run(out, material.assignment.settings, resume, settings)):
        describe_once(run, material)
        with one_thread():
            assignment = with_experts(material.assignment)
            run.save_student(assignment.task.graph, assignment.init)
            method, total = find_method(assignment.settings.method), assignment.settings.iterations
            with progress_bar(f"distil ({assignment.settings.method})", max(1, total), iterations_done(run)) as advance:
                state = run_method(run, method, assignment, advance)
            if assignment.settings.method == "gan":
                write_bytes(out / "generator.safetensors", safetensors_bytes(part(state, KEPT)))
            data = set_bytes(material, assignment, state)
        write_bytes(out / "distilled.safetensors", data)
        run.log("finished", items=len(assignment.classes), views=len(assignment.classes))
    return run


def with_experts(assignment: Assignment) -> Assignment:
    """The assignment with its label experts: students on the real vectors, seconds of training."""
    task, settings = assignment.task, assignment.settings
    graph = mlp(task.graph.input_shape[0], task.classes, settings.experts.width)
    schedule = replace(REAL_CLIPS, steps=settings.experts.steps, batch=settings.batch)
    x, labels = torch.from_numpy(task.clips), torch.from_numpy(task.hard_labels)
    seeds = [1000 * (settings.seed + 1) + number for number in range(settings.experts.count)]
    starts = tuple(initial_weights(graph, seed) for seed in seeds)
    trained = tuple(
        train_on_clips(graph, start, x, labels, schedule, seed, replace(MIXING, mixup=0.5))
        for start, seed in zip(starts, seeds, strict=True)
    )
    return replace(assignment, ensemble=Ensemble(graph, trained, starts))


def set_bytes(material: Material, assignment: Assignment, state: State) -> bytes:
    """The distilled set as one file; see the module."""
    made = np.asarray(items(assignment, state) if assignment.settings.method == "gan" else state["items"])
    made = made.reshape(len(assignment.classes), -1).astype(np.float32)
    made[:, material.scale.constant] = 0
    soft = label_vectors(assignment, made, assignment.classes)
    return safetensors_bytes(
        {
            "items": made,
            "classes": assignment.classes.astype(np.uint8),
            "soft_labels": soft.astype(np.float16),
            "mean": material.scale.mean,
            "spread": material.scale.spread,
            "constant": material.scale.constant.astype(np.uint8),
        }
    )


def label_vectors(assignment: Assignment, x: NDArray[np.float32], classes: NDArray[np.int64]) -> NDArray[np.float32]:
    """Labels of vectors (items, D), float32 (items, classes): the experts', or the classes themselves if hard."""
    if assignment.settings.labels == "hard":
        return np.eye(assignment.task.classes, dtype=np.float32)[classes]
    return assignment.ensemble.soft_labels(x[:, :, None, None], assignment.settings.experts.temperature)


def read_set(run: Run) -> Arrays:
    """The arrays of a run's ``distilled.safetensors``.

    Raises:
        DistilledSetError: The file is damaged, or of another kind.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        found = load((run.folder / "distilled.safetensors").read_bytes())
    except (OSError, SafetensorError) as error:
        raise DistilledSetError(f"{run.folder} holds no vectors: {error}", "run distill again") from error
    if not {"items", "classes", "soft_labels", "mean", "spread"} <= set(found):
        raise DistilledSetError(f"{run.folder} holds no vectors", "run distill again")
    return found


def describe_once(run: Run, material: Material) -> None:
    """Write run.json, or check that the file holds what the interrupted run was begun with.

    Raises:
        RunError: Vectors, labels or speakers are others now.
    """
    description = describe_vectors(material)
    if (run.folder / "run.json").is_file():
        require_same_vectors(run, description)
        return
    write_json(run.folder / "run.json", description)


def require_same_vectors(run: Run, description: Mapping[str, Any]) -> None:
    """Check that a description of the file as it is now says what the run's does.

    Raises:
        RunError: It does not.
    """
    before, key = run.description(), "fingerprint"
    same = before["corpus"].get(key) == description["corpus"][key]
    if not same or any(before.get(name) != description[name] for name in ("split", "labels")):
        raise RunError(
            f"the vectors are others than when the run {run.folder} was made",
            "restore the file, or distil it again in a new --out",
        )


def describe_vectors(material: Material) -> dict[str, Any]:
    """What run.json holds."""
    assignment = material.assignment
    settings, task, graph = assignment.settings, assignment.task, assignment.task.graph
    count = len(assignment.classes)
    return {
        "edgeser": __version__,
        "corpus": {
            "name": material.vectors.corpus.name,
            "folder": settings.folder,
            "fingerprint": material.vectors.fingerprint,
            **material.vectors.corpus.card.describe(),
        },
        "labels": list(assignment.names),
        "split": material.split.describe(),
        "student": {
            "architecture": ARCH,
            "width": settings.width,
            "parameters": graph.parameter_count,
            "multiply_accumulates": graph.multiply_accumulates,
        },
        "method": settings.method,
        "seed": settings.seed,
        "budget": {
            "ipc": settings.ipc,
            "share": round(count / len(task.clips), 6),
            "items": count,
            "formations": 1,
            "views": count,
            "train_items": len(task.clips),
        },
        "corpus_bytes": int(task.clips.nbytes),
        "unreadable": [],
    }


def _scale(vectors: Vectors, train: NDArray[np.int64]) -> Scale:
    """The scale of the training rows.

    Raises:
        UnreadableLabels: They are all the same, or a vector is too far from them.
    """
    scale = scale_of(vectors.x[train])
    if scale.constant.all():
        raise UnreadableLabels(vectors.path, "features of the training part do not differ, or by less than 1e-6")
    far = np.flatnonzero(~np.isfinite(scale.standardised(vectors.x)).all(1))
    if len(far):
        what = "no single precision holds them in standard deviations of the training part"
        raise UnreadableLabels(vectors.path, f"{len(far)} of the features are too large, first in row {far[0]}: {what}")
    return scale


def _decided(settings: Settings, task: Task, names: tuple[str, ...]) -> Settings:
    """The settings with everything decided.

    Raises:
        SettingsError: A class has too few vectors.
    """
    counts = np.bincount(task.labels, minlength=task.classes)
    own = resolve(settings, len(task.clips), task.classes, int(counts.min()))
    rarest, method = int(counts.argmin()), find_method(own.method)
    wanted = method.fewest_clips if method.makes_more else own.ipc
    if counts[rarest] < wanted:
        raise SettingsError(
            f"the class {names[rarest]!r} has {counts[rarest]} training items, fewer than the {wanted} needed",
            "give more vectors of it" if method.makes_more else f"use --ipc {counts[rarest]} or fewer",
        )
    return own
