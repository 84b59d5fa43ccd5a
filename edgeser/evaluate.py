"""What a distilled set is worth: the same student trained on it, on all real clips, and on simple baselines.

    result = evaluate(run, Plan(seeds=(0, 1, 2), rows=("distilled", "full", "random_bank")), Workers(2))

Every row trains the run's student from the run's fixed initialisation for the set's number of steps. A seed varies the
order of training and, for baselines, the choice of items. Dev speakers are reported beside test speakers, which are
scored once, at the end, and choose nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from edgeser.distill.coresets import random_items
from edgeser.distill.expert_jobs import label_ensemble, label_jobs, train_experts
from edgeser.distill.method import Assignment
from edgeser.distill.pipeline import describe, finish, prepare, require_same_corpus
from edgeser.experts import Ensemble, Task
from edgeser.network import to_tensors
from edgeser.run import Run
from edgeser.scoring import Clips, Score, average_by_clip, probabilities, score, score_of
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

REAL_CLIPS = Schedule(steps=1000, batch=32, peak_rate=1e-2, weight_decay=0.1)
"""How students are trained on real clips, whatever the distilled set's own rates are; the steps are the student's.
Rate, decay and augmentation were chosen on the dev speakers of RAVDESS and EMO-DB, one recipe for both."""
BEST_STEPS = 2500
"""Steps of full data at its best: more gain nothing on the dev speakers of RAVDESS."""
FEWEST_VIEWS = 64
"""Views for each item of the baseline ``random_bank``, also where the distilled set has fewer."""


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
        assignment: Experts and initialisation, as the method had them.
        distilled: The run's set.
        dev: Clips of the dev speakers.
        test: Clips of the test speakers.
    """

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
    everything = np.arange(len(bench.task.clips))
    return _train_on_real(bench, graph, start, everything, bench.task.hard_labels, seed)


def train_full_best(bench: Bench, graph: Graph, start: Weights, seed: int) -> Arrays:
    """On all real clips with hard labels, for as many steps as help."""
    steps = max(BEST_STEPS, bench.assignment.settings.steps)
    clips, labels = torch.from_numpy(bench.task.clips), torch.from_numpy(bench.task.hard_labels)
    return train_on_clips(graph, start, clips, labels, replace(REAL_CLIPS, steps=steps), seed)


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
    own = bench.assignment.settings
    settings = replace(own, seed=seed, labels="bank", views=max(FEWEST_VIEWS, own.views))
    assignment = replace(bench.assignment, settings=settings)
    items = np.asarray(random_items(assignment)["items"], dtype=np.float32)
    return train_on_set(graph, start, finish(assignment, items, bench.distilled.frontend), seed)


ROWS: Mapping[str, Row] = MappingProxyType(
    {
        "distilled": train_distilled,
        "full": train_full,
        "full_best": train_full_best,
        "random": train_random,
        "random_soft": train_random_soft,
        "random_bank": train_random_bank,
    }
)
BASELINES = ("random", "random_soft", "random_bank")


def evaluate(run: Run, plan: Plan, workers: Workers, folder: str = "") -> dict[str, Any]:
    """Measure a run and write its metrics.json.

    Args:
        run: A finished run.
        plan: What to measure; rows of an earlier evaluation with the same seeds are kept beside it.
        workers: Where students are trained.
        folder: Where the corpus is now, if it was moved.

    Returns:
        The JSON object of ``edgeser evaluate --json``.

    Raises:
        RunError: The run is not finished, or the corpus is not the one it was made of.
        EdgeserError: The corpus is gone, or does not fit any more.
    """
    distilled, own = run.distilled(), run.settings()
    shape = (1, distilled.frontend.mels, distilled.frontend.frames)
    others = {name: build(name, len(distilled.names), own.width, shape) for name in plan.transfer}
    bench, split = open_bench(run, distilled, workers, folder)
    jobs = [(row, bench, bench.task.graph, bench.assignment.init, seed) for row in plan.rows for seed in plan.seeds]
    for graph in others.values():
        jobs += [("distilled", bench, graph, initial_weights(graph, own.seed), seed) for seed in plan.seeds]
    scores = []
    with progress_bar("evaluate", len(jobs)) as advance:
        for done, pair in enumerate(workers.each(measure, jobs), start=1):
            scores.append(pair)
            advance(done, f"{jobs[done - 1][0]}: {pair[1].uar:.3f}")
    result = with_earlier_rows(summarise(run, bench, plan, others, scores, split), run.metrics())
    write_json(run.folder / "metrics.json", result)
    return result


def open_bench(run: Run, distilled: DistilledSet, workers: Workers, folder: str) -> tuple[Bench, dict[str, Any]]:
    """Everything a row needs, and the split in words; experts that the run lacks are trained again."""
    settings = run.settings()
    material = prepare(replace(settings, folder=folder or settings.folder), workers)
    description = describe(material)
    require_same_corpus(run, description)
    trained = train_experts(run, material.task, label_jobs(material.settings, material.task), workers)
    assignment = Assignment(
        task=material.task,
        names=distilled.names,
        settings=material.settings,
        init=run.init(),
        ensemble=label_ensemble(material.settings, material.task, trained),
    )
    parts = (Clips.of(part, material.task.classes) for part in (material.features.dev, material.features.test))
    return Bench(assignment, distilled, *parts), description["split"]


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
    schedule = replace(REAL_CLIPS, steps=bench.assignment.settings.steps)
    return train_on_clips(graph, start, clips, torch.from_numpy(labels), schedule, seed)


def summarise(
    run: Run,
    bench: Bench,
    plan: Plan,
    others: Mapping[str, Graph],
    scores: Sequence[tuple[Score, Score]],
    split: Mapping[str, Any],
) -> dict[str, Any]:
    """The JSON object of an evaluation; ``scores`` are in the order of rows, then of other students, seeds within."""
    count, names = len(plan.seeds), bench.distilled.names
    groups = [_summary(scores[place : place + count], names) for place in range(0, len(scores), count)]
    rows = dict(zip(plan.rows, groups, strict=False))
    description = run.description()
    return {
        "full": rows.get("full"),
        "full_best": rows.get("full_best"),
        "distilled": {
            **rows["distilled"],
            "share": description["budget"]["share"],
            "ipc": bench.distilled.per_class,
            "bytes": (run.folder / "distilled.safetensors").stat().st_size,
        },
        "init": {"uar": init_score(bench).uar},
        "experts": {
            "uar": ensemble_score(bench.assignment.ensemble, bench.test).uar,
            "members": len(bench.assignment.ensemble.members),
        },
        "baselines": {row: rows[row] for row in BASELINES if row in rows},
        "transfer": {
            name: {**row, "width": bench.assignment.settings.width, "parameters": graph.parameter_count}
            for (name, graph), row in zip(others.items(), groups[len(plan.rows) :], strict=True)
        },
        "split": split,
        "seeds": list(plan.seeds),
        "varies": "order of training; for baselines also the choice of items",
        "student": description["student"],
        "method": description["method"],
        "schedule": bench.distilled.schedule.to_json(),
        "schedule_real": replace(REAL_CLIPS, steps=bench.assignment.settings.steps).to_json(),
        "edgeser": description["edgeser"],
        "machine": describe_machine(),
    }


def with_earlier_rows(result: dict[str, Any], earlier: Mapping[str, Any] | None) -> dict[str, Any]:
    """A result with the ratios, and with the rows of an earlier one that were measured in the same way."""
    same = ("seeds", "split", "schedule", "schedule_real", "student", "edgeser")
    if earlier is not None and all(earlier.get(key) == result[key] for key in same):
        result = {
            **result,
            **{key: result[key] or earlier.get(key) for key in ("full", "full_best")},
            **{key: {**earlier.get(key, {}), **result[key]} for key in ("baselines", "transfer")},
        }
    reached = result["distilled"]["uar_mean"]
    ratios = {name: reached / row["uar_mean"] if row else None for name, row in _full_rows(result).items()}
    return {**result, "distilled": {**result["distilled"], **ratios}}


def _full_rows(result: Mapping[str, Any]) -> dict[str, Any]:
    return {"ratio": result["full"], "ratio_best": result["full_best"]}


def _summary(pairs: Sequence[tuple[Score, Score]], names: tuple[str, ...]) -> dict[str, Any]:
    dev, test = ([pair[part].uar for pair in pairs] for part in (0, 1))
    recalls = np.mean([pair[1].recalls for pair in pairs], axis=0)  # NaN where no test speaker has the class
    return {
        "uar_mean": float(np.mean(test)),
        "uar_std": float(np.std(test, ddof=1)) if len(test) > 1 else None,
        "uar": [round(value, 6) for value in test],
        "dev_uar_mean": float(np.mean(dev)),
        "recalls": {name: float(recall) for name, recall in zip(names, recalls, strict=True) if np.isfinite(recall)},
    }
