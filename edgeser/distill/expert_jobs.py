"""The experts of a run: which ones it needs, how each is trained, and where they are kept.

trained = train_experts(run, task, label_jobs(settings, task), Workers(2))
ensemble = label_ensemble(settings, task, trained)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from edgeser.config.settings import Settings
from edgeser.config.values import changed, usual_of
from edgeser.distill.method import Method
from edgeser.distill.methods.mtt import epochs_used
from edgeser.models.experts import (
    Ensemble,
    ExpertRecipe,
    Task,
    Trajectory,
    load_trajectory,
    save_trajectory,
    steps_per_epoch,
    train_expert,
)
from edgeser.models.students import build
from edgeser.models.training import advising
from edgeser.run import Run
from edgeser.workers import Workers
from edgeser_export.graph.initial import initial_weights
from edgeser_export.graph.op_graph import Graph, Weights
from edgeser_export.utilities.progress import note, progress_bar

LABEL_EXPERT_SEED = 1000
"""Label experts have starts of their own, so that their errors differ; trajectories share the fixed start."""
LABEL_RECIPE = ExpertRecipe("adamw", 1, weight_decay=0.1)
"""Chosen on the dev speakers of RAVDESS and EMO-DB; the epochs and the batch are settings, the rate is the student's
usual one."""
LABEL_MIXUP = 0.5
"""Parameter of the mixup of these experts' clips: wider than the students'."""

TRAJECTORY_OPTIMISERS = {0.0: "plain_sgd", 0.9: "sgd"}
"""Optimiser of the matched experts by its momentum."""


@dataclass(frozen=True)
class ExpertJob:
    """One expert to train: a pure function's arguments, and what to do when the training diverges."""

    graph: Graph
    start: Weights
    recipe: ExpertRecipe
    seed: int
    keep_snapshots: bool
    advice: str


def label_jobs(settings: Settings, task: Task) -> dict[str, ExpertJob]:
    """The experts that label: each from its own start, AdamW on one cycle; they may be larger than the student."""
    graph = label_graph(settings, task)
    epochs = -(-settings.experts.steps // steps_per_epoch(len(task.clips), settings.batch))
    augmentation = replace(task.representation.augmentation, mixup=LABEL_MIXUP)
    rate = usual_of(settings, "peak_rate")
    recipe = replace(LABEL_RECIPE, epochs=epochs, batch=settings.batch, peak_rate=rate, augmentation=augmentation)
    advice = f"use another --seed, or set experts.width below {settings.experts.width:g}"
    return {
        f"label-expert-{number}": ExpertJob(graph, initial_weights(graph, seed), recipe, seed, False, advice)
        for number, seed in enumerate(
            LABEL_EXPERT_SEED * (settings.seed + 1) + k for k in range(settings.experts.count)
        )
    }


def label_graph(settings: Settings, task: Task) -> Graph:
    """The op graph of the label experts."""
    return build(settings.experts.arch, task.classes, settings.experts.width, task.graph.input_shape)


def trajectory_jobs(task: Task, settings: Settings, start: Weights, epochs: int) -> dict[str, ExpertJob]:
    """The experts that are matched: all from the fixed start, SGD at a constant rate, only the epochs used."""
    recipe = ExpertRecipe(
        TRAJECTORY_OPTIMISERS[settings.mtt.trajectory_momentum],
        epochs,
        batch=min(settings.mtt.trajectory_batch, len(task.clips)),
        peak_rate=settings.mtt.trajectory_rate,
        weight_decay=0.0,
        warm_share=0.0,
        start_divisor=1.0,
        end_divisor=1.0,
        augmentation=task.representation.augmentation,
        flatness=settings.mtt.sam,
    )
    advice = f"set mtt.trajectory_rate below {settings.mtt.trajectory_rate:g}"
    return {
        f"trajectory-{number}": ExpertJob(task.graph, start, recipe, settings.seed * 100 + number, True, advice)
        for number in range(settings.mtt.trajectories)
    }


def needed_experts(method: Method, settings: Settings, task: Task) -> dict[str, ExpertJob]:
    """The experts that a run needs, by name, in the order in which they are trained."""
    asks = method.needs_experts and not settings.match.dp
    jobs = label_jobs(settings, task) if settings.labels != "hard" or asks else {}
    if method.needs_trajectories:
        epochs = max(epochs_used(settings), settings.init_epoch)
        return jobs | trajectory_jobs(task, settings, initial_weights(task.graph, settings.seed), epochs)
    if settings.init_epoch:
        one = changed(settings, {"mtt.trajectories": 1})
        return jobs | trajectory_jobs(task, one, initial_weights(task.graph, settings.seed), settings.init_epoch)
    return jobs


def train_experts(run: Run, task: Task, jobs: dict[str, ExpertJob], workers: Workers) -> dict[str, Trajectory]:
    """Train what the run does not hold yet, side by side; each is saved as soon as it is done."""
    missing = [name for name in jobs if not expert_path(run, name).is_file()]
    if missing:
        note(f"experts to train: {len(missing)}")
    run.trajectories.mkdir(exist_ok=True)
    arguments = [(task, jobs[name], expert_path(run, name)) for name in missing]
    with progress_bar("experts", len(missing)) as advance:
        for done, name in enumerate(workers.each(train_and_save, arguments), start=1):
            run.log("expert", name=name)
            advance(done, name)
    return {name: load_trajectory(expert_path(run, name)) for name in jobs}


def train_and_save(task: Task, job: ExpertJob, path: Path) -> str:
    """Train one expert and write it to ``path``, whole or not at all; its name."""
    task = replace(task, graph=job.graph)
    with advising(job.advice):
        trajectory = train_expert(task, job.start, job.recipe, job.seed, job.keep_snapshots)
    save_trajectory(path, trajectory)
    return path.stem


def expert_path(run: Run, name: str) -> Path:
    """The path at which an expert is kept."""
    return run.trajectories / f"{name}.safetensors"


def label_ensemble(settings: Settings, task: Task, trained: dict[str, Trajectory]) -> Ensemble:
    """The label experts among the trained ones, with their starts."""
    jobs = label_jobs(settings, task)
    known = [name for name in jobs if name in trained]
    return Ensemble(
        label_graph(settings, task),
        tuple(trained[name].final for name in known),
        tuple({**jobs[name].start, **trained[name].at(0)} for name in known),  # a file may come from another seed
    )
