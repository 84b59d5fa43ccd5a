"""What a distilled set is worth: the same student trained on it, on all real clips, and on simple baselines.

    result = evaluate(run, Plan(seeds=(0, 1, 2), rows=("distilled", "full", "random_bank")), Workers(2))

Every row trains the run's student from the run's fixed initialisation for the set's number of steps. A seed varies the
order of training and, for baselines, the choice of items. Dev speakers are reported beside test speakers, which are
scored once, at the end, and choose nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from edgeser.distill.coresets import random_items
from edgeser.distill.method import Assignment
from edgeser.distill.pipeline import (
    Material,
    finish,
    label_ensemble,
    label_jobs,
    prepare,
    student_schedule,
    train_experts,
)
from edgeser.errors import SettingsError
from edgeser.experts import Ensemble, Task
from edgeser.network import to_tensors
from edgeser.run import Run
from edgeser.scoring import Clips, Score, average_by_clip, probabilities, score, score_of
from edgeser.settings import Settings
from edgeser.students import build, initial_weights
from edgeser.training import Arrays, train_on_clips, train_on_set, with_statistics
from edgeser.workers import Workers
from edgeser_device.distilled import DistilledSet
from edgeser_device.machine import describe_machine
from edgeser_device.progress import progress_bar
from edgeser_device.schedule import Schedule, statistics_batches
from edgeser_device.views import render
from edgeser_export.files import write_json
from edgeser_export.graph import Graph, Weights

FULL_DATA_RATE = 5e-3
"""Largest learning rate on real clips; better on dev speakers than the 1e-2 that suits label banks."""


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        seeds: One training for each, in every row.
        rows: Rows of ``ROWS``.
        transfer: Other architectures to train on the same set, each from its own start.
    """

    seeds: tuple[int, ...]
    rows: tuple[str, ...]
    transfer: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bench:
    """What every row trains on and is scored with.

    Attributes:
        material: Corpus, split and features.
        assignment: Experts and initialisation, as the method had them.
        distilled: The run's set.
        dev: Clips of the dev speakers.
        test: Clips of the test speakers.
    """

    material: Material
    assignment: Assignment
    distilled: DistilledSet
    dev: Clips
    test: Clips

    @property
    def task(self) -> Task:
        """The real clips."""
        return self.assignment.task


Row: TypeAlias = Callable[[Bench, Graph, Weights, int], Arrays]
"""(bench, student, its start, seed) to trained weights."""


def train_distilled(bench: Bench, graph: Graph, start: Weights, seed: int) -> Arrays:
    """On the views of the distilled set."""
    return train_on_set(graph, start, bench.distilled, seed)


def train_full(bench: Bench, graph: Graph, start: Weights, seed: int) -> Arrays:
    """On all real clips with hard labels, for as many steps."""
    return _train_on_real(bench, graph, start, np.arange(len(bench.task.clips)), bench.task.hard_labels, seed)


def train_random(bench: Bench, graph: Graph, start: Weights, seed: int) -> Arrays:
    """On random real items with hard labels, freshly augmented."""
    chosen = random_choice(bench, seed)
    return _train_on_real(bench, graph, start, chosen, bench.task.hard_labels[chosen], seed)


def train_random_soft(bench: Bench, graph: Graph, start: Weights, seed: int) -> Arrays:
    """On random real items with one label of the experts an item, freshly augmented."""
    chosen = random_choice(bench, seed)
    temperature = bench.assignment.settings.temperature
    labels = bench.assignment.ensemble.soft_labels(bench.task.clips[chosen], temperature)
    return _train_on_real(bench, graph, start, chosen, labels, seed)


def train_random_bank(bench: Bench, graph: Graph, start: Weights, seed: int) -> Arrays:
    """On a label bank over random real items, as many and of as many bytes as the distilled set."""
    settings = replace(bench.assignment.settings, seed=seed, labels="bank")
    assignment = replace(bench.assignment, settings=settings)
    items = np.asarray(random_items(assignment)["items"], dtype=np.float32)
    return train_on_set(graph, start, finish(assignment, items, bench.material), seed)


ROWS: Mapping[str, Row] = MappingProxyType(
    {
        "distilled": train_distilled,
        "full": train_full,
        "random": train_random,
        "random_soft": train_random_soft,
        "random_bank": train_random_bank,
    }
)
BASELINES = ("random", "random_soft", "random_bank")


def evaluate(run: Run, plan: Plan, workers: Workers, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure a run and write its metrics.json.

    Returns:
        The JSON object of ``edgeser evaluate --json``.

    Raises:
        RunError: The run is not finished.
        EdgeserError: The corpus is gone, or does not fit any more.
    """
    bench = open_bench(run, workers, say)
    jobs = [(row, bench, bench.task.graph, bench.assignment.init, seed) for row in plan.rows for seed in plan.seeds]
    for name in plan.transfer:
        graph = build(name, bench.task.classes, 1.0, bench.task.graph.input_shape)  # type: ignore[arg-type]
        jobs += [("distilled", bench, graph, initial_weights(graph, seed), seed) for seed in plan.seeds]
    with progress_bar("evaluate", len(jobs)) as advance:
        scores = []
        for done, pair in enumerate(workers.each(measure, jobs), start=1):
            scores.append(pair)
            advance(done, f"{jobs[done - 1][0]}: {pair[1].uar:.3f}")
    result = _result(run, bench, plan, scores)
    write_json(run.folder / "metrics.json", result)
    return result


def open_bench(run: Run, workers: Workers, say: Callable[[str], None]) -> Bench:
    """Everything a row needs; experts that the run lacks are trained again."""
    distilled = run.distilled()
    material = prepare(run.settings(), workers)
    if material.corpus.labels != distilled.names:
        raise SettingsError(
            f"the corpus now has the classes {', '.join(material.corpus.labels)}, the run {', '.join(distilled.names)}",
            "restore the corpus, or distil it again",
        )
    trained = train_experts(run, material.task, label_jobs(material.settings, material.task), workers, say)
    assignment = Assignment(
        task=material.task,
        names=distilled.names,
        settings=material.settings,
        init=run.init(),
        ensemble=label_ensemble(material.task, trained),
    )
    classes = material.task.classes
    return Bench(
        material,
        assignment,
        distilled,
        Clips.of(material.features.dev, classes),
        Clips.of(material.features.test, classes),
    )


def measure(row: str, bench: Bench, graph: Graph, start: Weights, seed: int) -> tuple[Score, Score]:
    """Train one row with one seed; its scores on dev and test speakers."""
    weights = ROWS[row](bench, graph, start, seed)
    return score(graph, weights, bench.dev), score(graph, weights, bench.test)


def random_choice(bench: Bench, seed: int) -> NDArray[np.int64]:
    """Training clips of a random baseline: as many of each class as the distilled set has."""
    random = np.random.default_rng([seed, 0xC1])
    per_class = bench.assignment.settings.ipc
    of_class = [np.flatnonzero(bench.task.labels == number) for number in range(bench.task.classes)]
    return np.concatenate([random.permutation(indices)[:per_class] for indices in of_class])


def init_score(bench: Bench) -> Score:
    """What the fixed initialisation reaches before any training, with running statistics over the set's views."""
    distilled, init = bench.distilled, bench.assignment.init
    items = distilled.items()
    views = (
        torch.from_numpy(render(items, distilled.recipes, indices))
        for indices in statistics_batches(len(distilled.recipes), distilled.schedule.batch)
    )
    graph = bench.task.graph
    parameters = {name: tensor for name, tensor in to_tensors(init).items() if name in graph.parameters}
    return score(graph, with_statistics(graph, parameters, views), bench.test)


def ensemble_score(ensemble: Ensemble, clips: Clips) -> Score:
    """What the experts reach together."""
    rows = np.mean([probabilities(ensemble.graph, member, clips.x) for member in ensemble.members], axis=0)
    return score_of(average_by_clip(rows, clips.owners, len(clips.labels)), clips)


def _train_on_real(
    bench: Bench, graph: Graph, start: Weights, chosen: NDArray[np.int64], labels: NDArray[np.float32], seed: int
) -> Arrays:
    clips = torch.from_numpy(bench.task.clips[chosen])
    return train_on_clips(graph, start, clips, torch.from_numpy(labels), real_schedule(bench.assignment.settings), seed)


def real_schedule(settings: Settings) -> Schedule:
    """The student's schedule for real clips: as many steps, at the rate that suits them."""
    return replace(student_schedule(settings), peak_rate=min(settings.peak_rate, FULL_DATA_RATE))


def _result(run: Run, bench: Bench, plan: Plan, scores: list[tuple[Score, Score]]) -> dict[str, Any]:
    count = len(plan.seeds)
    rows = {
        row: _summary(scores[place * count : (place + 1) * count], bench.distilled.names)
        for place, row in enumerate(plan.rows)
    }
    others = scores[len(plan.rows) * count :]
    full = rows.get("full")
    ratio = rows["distilled"]["uar_mean"] / full["uar_mean"] if full and full["uar_mean"] > 0 else None
    description = run.description()
    experts = ensemble_score(bench.assignment.ensemble, bench.test)
    return {
        "full": full,
        "distilled": {
            **rows["distilled"],
            "ratio": ratio,
            "share": description["budget"]["share"],
            "ipc": bench.distilled.per_class,
            "bytes": (run.folder / "distilled.safetensors").stat().st_size,
        },
        "init": {"uar": init_score(bench).uar},
        "experts": {"uar": experts.uar, "members": len(bench.assignment.ensemble.members)},
        "baselines": {row: rows[row] for row in BASELINES if row in rows},
        "transfer": {
            name: _summary(others[place * count : (place + 1) * count], bench.distilled.names)
            for place, name in enumerate(plan.transfer)
        },
        "split": bench.material.split.describe(),
        "seeds": list(plan.seeds),
        "varies": "order of training; for baselines also the choice of items",
        "student": description["student"],
        "method": description["method"],
        "schedule": bench.distilled.schedule.to_json(),
        "machine": describe_machine(),
    }


def _summary(pairs: list[tuple[Score, Score]], names: tuple[str, ...]) -> dict[str, Any]:
    dev, test = ([pair[part].uar for pair in pairs] for part in (0, 1))
    recalls = np.nanmean([pair[1].recalls for pair in pairs], axis=0)
    return {
        "uar_mean": float(np.mean(test)),
        "uar_std": float(np.std(test, ddof=1)) if len(test) > 1 else 0.0,
        "uar": [round(value, 6) for value in test],
        "dev_uar_mean": float(np.mean(dev)),
        "recalls": {name: float(recall) for name, recall in zip(names, recalls, strict=True) if np.isfinite(recall)},
    }
