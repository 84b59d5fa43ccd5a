"""The experts of a run: which ones it needs, how each is trained, and where they are kept.

trained = train_experts(run, task, label_jobs(settings, task), Workers(2))
ensemble = label_ensemble(settings, task, trained)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

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
from edgeser.run import Run
from edgeser.settings import Settings
from edgeser.students import build, initial_weights
from edgeser.workers import Workers
from edgeser_device.progress import note, progress_bar
from edgeser_export.graph import Graph, Weights

LABEL_EXPERT_SEED = 1000
"""Label experts have starts of their own, so that their errors differ; trajectories share the fixed start."""


@dataclass(frozen=True)
class ExpertJob:
    """One expert to train: a pure function's arguments."""

    graph: Graph
    start: Weights
    recipe: ExpertRecipe
    seed: int
    keep_snapshots: bool


def label_jobs(settings: Settings, task: Task) -> dict[str, ExpertJob]:
    """The experts that label: each from its own start, AdamW on one cycle; they may be larger than the student."""
    graph = label_graph(settings, task)
    epochs = -(-settings.expert_steps // steps_per_epoch(len(task.clips), settings.batch))
    recipe = ExpertRecipe("adamw", epochs, batch=settings.batch)
    return {
        f"label-expert-{number}": ExpertJob(graph, initial_weights(graph, seed), recipe, seed, keep_snapshots=False)
        for number, seed in enumerate(LABEL_EXPERT_SEED * (settings.seed + 1) + k for k in range(settings.experts))
    }


def label_graph(settings: Settings, task: Task) -> Graph:
    """The op graph of the label experts."""
    channels, mels, frames = task.graph.input_shape
    return build(settings.label_arch, task.classes, settings.label_width, (channels, mels, frames))


def trajectory_jobs(task: Task, settings: Settings, start: Weights, epochs: int) -> dict[str, ExpertJob]:
    """The experts that are matched: all from the fixed start, plain SGD at a constant rate, only the epochs used."""
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
        f"trajectory-{number}": ExpertJob(task.graph, start, recipe, settings.seed * 100 + number, keep_snapshots=True)
        for number in range(settings.trajectories)
    }


def train_experts(run: Run, task: Task, jobs: dict[str, ExpertJob], workers: Workers) -> dict[str, Trajectory]:
    """Train what the run does not hold yet, side by side; each is saved as soon as it is done."""
    missing = [name for name in jobs if not _path(run, name).is_file()]
    if missing:
        note(f"training {len(missing)} experts")
    run.trajectories.mkdir(exist_ok=True)
    arguments = [(task, jobs[name], _path(run, name)) for name in missing]
    with progress_bar("experts", len(missing)) as advance:
        for done, name in enumerate(workers.each(_train_and_save, arguments), start=1):
            run.log("expert", name=name)
            advance(done, name)
    return {name: load_trajectory(_path(run, name)) for name in jobs}


def _train_and_save(task: Task, job: ExpertJob, path: Path) -> str:
    task = replace(task, graph=job.graph)
    save_trajectory(path, train_expert(task, job.start, job.recipe, job.seed, job.keep_snapshots))
    return path.stem


def _path(run: Run, name: str) -> Path:
    return run.trajectories / f"{name}.safetensors"


def label_ensemble(settings: Settings, task: Task, trained: dict[str, Trajectory]) -> Ensemble:
    """The label experts among the trained ones, with their starts."""
    jobs = label_jobs(settings, task)
    known = [name for name in jobs if name in trained]
    return Ensemble(
        label_graph(settings, task),
        tuple(trained[name].final for name in known),
        tuple(jobs[name].start for name in known),
    )
