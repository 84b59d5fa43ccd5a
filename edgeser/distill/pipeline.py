"""From a corpus to a finished run: features, experts, the method's loop, the label bank, the distilled set.

    run = distill(settings, Path("runs/rav"), Workers(jobs=2), resume=False)

Every stage leaves its result in the run, so an interrupted run goes on where it stopped and ends with the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeser import __version__
from edgeser.corpora.corpus import Corpus
from edgeser.corpora.splits import Split, make_split
from edgeser.corpora.table import load_corpus
from edgeser.distill.loop import run_method
from edgeser.distill.method import Assignment, clips_of_class
from edgeser.distill.table import find_method
from edgeser.errors import SettingsError
from edgeser.experts import (
    Ensemble,
    ExpertRecipe,
    Task,
    Trajectory,
    load_trajectory,
    save_trajectory,
    steps_per_epoch,
    train_expert,
)
from edgeser.features import Features, extract
from edgeser.labels import LABELS, BankPlan, make_bank
from edgeser.run import Run, open_run, require_usable
from edgeser.settings import Settings, with_budget
from edgeser.students import build, initial_weights
from edgeser.training import Arrays
from edgeser.workers import Workers
from edgeser_device.distilled import DistilledSet, quantise
from edgeser_device.frontend import FrontendSpec
from edgeser_device.progress import progress_bar
from edgeser_device.schedule import Schedule
from edgeser_export.files import write_bytes, write_json
from edgeser_export.graph import Graph, Weights

Say: TypeAlias = Callable[[str], None]
"""Told what happens, a line at a time."""
LABEL_EXPERT_SEED = 1000
"""Label experts have starts of their own, so that their errors differ; trajectories share the fixed start."""


@dataclass(frozen=True)
class Material:
    """What a run works on, read and checked before anything is trained.

    Attributes:
        corpus: The corpus.
        split: Its parts.
        features: Their log-mels.
        settings: With ``ipc`` decided.
        task: The training clips and the student.
    """

    corpus: Corpus
    split: Split
    features: Features
    settings: Settings
    task: Task

    @property
    def graph(self) -> Graph:
        """The student's op graph."""
        return self.task.graph


def prepare(settings: Settings, workers: Workers) -> Material:
    """Read the corpus, split it, compute features, and check that the settings fit.

    Raises:
        CorpusError: The corpus cannot be used; a leaf says why.
        SettingsError: The budget, method or student does not fit.
    """
    find_method(settings.method)
    if settings.labels not in LABELS:
        raise SettingsError(f"there is no kind of labels {settings.labels!r}", f"choose one of: {', '.join(LABELS)}")
    corpus = load_corpus(settings.corpus, settings.folder or None)
    split = make_split(corpus, settings.split or None)
    spec = FrontendSpec()
    graph = build(settings.arch, len(corpus.labels), settings.width, (1, spec.mels, spec.frames))
    features = extract(corpus, split, spec, workers.jobs)
    task = Task(graph, features.train.crops, features.train.labels, len(corpus.labels))
    fixed = with_budget(settings, len(task.clips), task.classes)
    empty = Ensemble(graph, ())
    for number in range(task.classes):
        clips_of_class(Assignment(task, corpus.labels, fixed, {}, empty), number)
    return Material(corpus, split, features, fixed, task)


def distill(settings: Settings, out: Path, workers: Workers, resume: bool, say: Say) -> Run:
    """Make a run, or go on with an interrupted one.

    Raises:
        RunError: ``out`` holds something else, or a run of other settings.
        EdgeserError: A leaf says what does not fit.
    """
    require_usable(out, settings, resume)  # before the corpus is read, which may take minutes
    material = prepare(settings, workers)
    for path, reason in material.features.unreadable:
        say(f"left out: {path}: {reason}")
    run = open_run(out, settings, resume)
    if run.is_finished:
        say(f"{out} is finished")
        return run
    write_json(out / "run.json", describe(material))
    run.log("features", clips=len(material.task.clips), unreadable=len(material.features.unreadable))
    assignment = assign(run, material, workers, say)
    run.save_student(material.graph, assignment.init)
    method = find_method(settings.method)
    total = max(1, settings.iterations if method.improve else 0)
    with progress_bar(f"distil ({settings.method})", total) as advance:
        state = run_method(run, method, assignment, advance)
    say("labelling the views")
    distilled = finish(assignment, np.asarray(state["items"], dtype=np.float32), material)
    write_bytes(out / "distilled.safetensors", distilled.to_bytes())
    run.log("finished", items=len(distilled), views=len(distilled.recipes))
    return run


def assign(run: Run, material: Material, workers: Workers, say: Say) -> Assignment:
    """Train or reload the experts, and put together what the method works on."""
    settings, task = material.settings, material.task
    start = initial_weights(task.graph, settings.seed)
    jobs = label_jobs(settings, task)
    if find_method(settings.method).needs_trajectories or settings.init_epoch:
        jobs |= trajectory_jobs(settings, start)
    trained = train_experts(run, task, jobs, workers, say)
    paths = tuple(trajectory for name, trajectory in trained.items() if name.startswith("trajectory"))
    return Assignment(
        task=task,
        names=material.corpus.labels,
        settings=settings,
        init=fixed_init(task.graph, start, paths, settings.init_epoch),
        ensemble=label_ensemble(task, trained),
        trajectories=paths,
    )


@dataclass(frozen=True)
class ExpertJob:
    """One expert to train: a pure function's arguments."""

    start: Weights
    recipe: ExpertRecipe
    seed: int
    keep_snapshots: bool


def label_jobs(settings: Settings, task: Task) -> dict[str, ExpertJob]:
    """The experts that label: each from its own start, AdamW on one cycle."""
    epochs = -(-settings.expert_steps // steps_per_epoch(len(task.clips), settings.batch))
    recipe = ExpertRecipe("adamw", epochs, batch=settings.batch)
    return {
        f"label-expert-{number}": ExpertJob(initial_weights(task.graph, seed), recipe, seed, keep_snapshots=False)
        for number, seed in enumerate(LABEL_EXPERT_SEED * (settings.seed + 1) + k for k in range(settings.experts))
    }


def trajectory_jobs(settings: Settings, start: Weights) -> dict[str, ExpertJob]:
    """The experts that are matched: all from the fixed start, plain SGD at a constant rate, only the epochs used."""
    epochs = max(settings.start_window + settings.expert_span, settings.init_epoch)
    recipe = ExpertRecipe(
        "plain_sgd",
        epochs,
        batch=settings.batch,
        peak_rate=settings.trajectory_rate,
        weight_decay=0.0,
        warm_share=0.0,
        start_divisor=1.0,
        end_divisor=1.0,
    )
    return {
        f"trajectory-{number}": ExpertJob(start, recipe, settings.seed * 100 + number, keep_snapshots=True)
        for number in range(settings.trajectories)
    }


def train_experts(
    run: Run, task: Task, jobs: dict[str, ExpertJob], workers: Workers, say: Say
) -> dict[str, Trajectory]:
    """Train what the run does not hold yet, side by side; each is saved as soon as it is done."""
    missing = [name for name in jobs if not _path(run, name).is_file()]
    if missing:
        say(f"training {len(missing)} experts")
    run.trajectories.mkdir(exist_ok=True)
    arguments = [(task, jobs[name], _path(run, name)) for name in missing]
    with progress_bar("experts", len(missing)) as advance:
        for done, name in enumerate(workers.each(_train_and_save, arguments), start=1):
            run.log("expert", name=name)
            advance(done, name)
    return {name: load_trajectory(_path(run, name)) for name in jobs}


def _train_and_save(task: Task, job: ExpertJob, path: Path) -> str:
    save_trajectory(path, train_expert(task, job.start, job.recipe, job.seed, job.keep_snapshots))
    return path.stem


def _path(run: Run, name: str) -> Path:
    return run.trajectories / f"{name}.safetensors"


def label_ensemble(task: Task, trained: dict[str, Trajectory]) -> Ensemble:
    """The label experts among the trained ones."""
    members = tuple(trajectory.final for name, trajectory in trained.items() if name.startswith("label"))
    return Ensemble(task.graph, members)


def fixed_init(graph: Graph, start: Weights, paths: tuple[Trajectory, ...], epoch: int) -> Arrays:
    """The student's fixed initialisation: the first trajectory's snapshot after ``epoch`` epochs, or the start."""
    parameters = paths[0].at(epoch) if epoch else {name: start[name] for name in graph.parameters}
    return {**parameters, **{name: start[name] for name in graph.statistics}}


def finish(assignment: Assignment, items: NDArray[np.float32], material: Material) -> DistilledSet:
    """Quantise the items, draw and label their views."""
    settings = assignment.settings
    levels, scale, offset = quantise(items)
    stored = levels.astype(np.float32) * scale[:, None, None] + offset[:, None, None]
    plan = BankPlan(settings.views, settings.temperature, settings.seed)
    recipes, labels = make_bank(settings.labels, stored, assignment.classes, assignment.ensemble, plan)
    return DistilledSet(
        levels=levels,
        scale=scale,
        offset=offset,
        classes=assignment.classes.astype(np.uint8),
        recipes=recipes,
        soft_labels=labels,
        names=material.corpus.labels,
        schedule=student_schedule(settings),
        frontend=material.features.frontend,
    )


def student_schedule(settings: Settings) -> Schedule:
    """How the student is trained."""
    return Schedule(
        steps=settings.steps,
        batch=settings.batch,
        peak_rate=settings.peak_rate,
        weight_decay=settings.weight_decay,
    )


def describe(material: Material) -> dict[str, Any]:
    """What run.json holds."""
    settings, task = material.settings, material.task
    items = settings.ipc * task.classes
    return {
        "edgeser": __version__,
        "corpus": {
            "name": material.corpus.name,
            "folder": str(material.corpus.folder),
            **material.corpus.card.describe(),
        },
        "labels": list(material.corpus.labels),
        "split": material.split.describe(),
        "student": {
            "architecture": settings.arch,
            "width": settings.width,
            "parameters": task.graph.parameter_count,
            "multiply_accumulates": task.graph.multiply_accumulates,
        },
        "method": settings.method,
        "seed": settings.seed,
        "budget": {
            "ipc": settings.ipc,
            "share": round(items / len(task.clips), 6),
            "items": items,
            "views": items * settings.views,
            "train_items": len(task.clips),
        },
        "corpus_bytes": material.features.audio_bytes,
        "unreadable": [[str(path), reason] for path, reason in material.features.unreadable],
    }
