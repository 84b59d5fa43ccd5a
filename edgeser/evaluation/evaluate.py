"""The worth of a distilled set: the same student trained on it, on all real clips, and on simple baselines.

    result = evaluate(run, Plan(seeds=(0, 1, 2), rows=("distilled", "full", "random_bank")), Workers(2))

Every row trains the run's student from the run's fixed initialisation for the set's number of steps. A seed varies the
order of training and, for baselines, the choice of items. Dev speakers are reported beside test speakers, which are
scored once, at the end, and choose nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np

from edgeser.config.settings import JOINED, Settings
from edgeser.distill.budget import resolve
from edgeser.distill.expert_jobs import label_ensemble
from edgeser.distill.method import Assignment
from edgeser.distill.pipeline import Material, label_experts, prepare, require_same_corpus
from edgeser.evaluation.conditions import (
    BANKS,
    BASELINES,
    Bench,
    bank_bytes,
    ensemble_score,
    init_score,
    measure,
    real_schedule,
)
from edgeser.evaluation.convergence import convergence
from edgeser.evaluation.intervals import deviation
from edgeser.evaluation.scoring import Clips, Score, row_details, uar_by_corpus
from edgeser.models.students import build, parse_student
from edgeser.run import Run
from edgeser.workers import Workers
from edgeser_device.data.generated import DESCRIPTION, PROBE, Description
from edgeser_device.data.stored import StoredSet
from edgeser_device.machine import describe_machine
from edgeser_export.graph.initial import initial_weights
from edgeser_export.graph.op_graph import Graph, Weights
from edgeser_export.utilities.files import write_json
from edgeser_export.utilities.progress import progress_bar

Pair: TypeAlias = tuple[Score, Score]
"""Scores of one training on dev and test speakers."""
Job: TypeAlias = tuple[str, Bench, Graph, Weights, int]
"""The arguments of ``measure``."""


@dataclass(frozen=True)
class Plan:
    """The rows and seeds to measure.

    Attributes:
        seeds: One training for each, in every row.
        rows: Rows of ``ROWS``, "distilled" among them.
        transfer: Other students to train on the same set, NAME or NAME:WIDTH, each from its own start; the width is the
            run's where none is named.
        convergence: Lengths of training to measure, as shares of the student's steps; none measures no convergence.
    """

    seeds: tuple[int, ...]
    rows: tuple[str, ...]
    transfer: tuple[str, ...] = ()
    convergence: tuple[float, ...] = ()


def evaluate(run: Run, plan: Plan, workers: Workers, folder: str = "") -> dict[str, Any]:
    """Measure a run and write its metrics.json.

    Args:
        run: A finished run.
        plan: The rows and seeds to measure; rows of an earlier evaluation with the same seeds are kept beside it.
        workers: The processes that train students.
        folder: The folder of the corpus now, if it was moved.

    Returns:
        The JSON object of ``edgeser evaluate --json``.

    Raises:
        RunError: The run is not finished, or the corpus is not the one it was made of.
        EdgeserError: The corpus is gone, or does not fit any more.
    """
    return next(evaluate_each([run], plan, workers, folder))


def evaluate_each(runs: Sequence[Run], plan: Plan, workers: Workers, folder: str = "") -> Iterator[dict[str, Any]]:
    """As :func:`evaluate`, several runs side by side; results in the order of the runs, each as soon as it is whole.

    Raises:
        EdgeserError: As :func:`evaluate`; all runs are opened before anything is trained.
    """
    shelf = Shelf(workers, folder)
    examinations = [open_examination(run, plan, shelf) for run in runs]
    jobs = [job for examination in examinations for job in examination.jobs()]
    with progress_bar("evaluate", len(jobs)) as advance:
        done, pairs = 0, workers.each(measure, jobs)
        for examination in examinations:
            scores = []
            for job in examination.jobs():
                scores.append(next(pairs))
                done += 1
                advance(done, f"{job[0]}: {scores[-1][1].uar:.3f}")
            result = examination.result(scores)
            if plan.convergence:
                result["convergence"] = convergence(examination.bench, plan.seeds, plan.convergence, workers)
            result = with_earlier_rows(result, examination.run.metrics())
            write_json(examination.run.folder / "metrics.json", result)
            yield result


@dataclass
class Shelf:
    """Corpora that were read, so that several runs of one corpus read and hold it once.

    Attributes:
        workers: The processes by which features are computed and missing experts are trained.
        folder: The folder of the corpus now, if it was moved.
    """

    workers: Workers
    folder: str = ""
    _read: dict[tuple[object, ...], tuple[Material, Clips, Clips]] = field(default_factory=dict)

    def take(self, settings: Settings) -> tuple[Material, Clips, Clips]:
        """The material of a run of these settings, and the clips of its dev and test speakers."""
        here = replace(settings, folder=self.folder or settings.folder)
        key = (
            *(here.corpus, here.folder, here.leave_out, here.encoder, here.split, here.arch, here.width),
            bool(here.epsilon),  # with epsilon vectors are standardised by synthetic speech
        )
        if key not in self._read:
            found = prepare(here, self.workers)
            parts = (found.features.dev, found.features.test)
            dev, test = (Clips.of(part, found.task.classes) for part in parts)
            self._read[key] = found, dev, test
        material, dev, test = self._read[key]
        return (
            replace(
                material,
                settings=resolve(here, len(material.task.clips), material.task.classes, material.task.fewest_clips),
            ),
            dev,
            test,
        )


def open_bench(run: Run, distilled: StoredSet, shelf: Shelf) -> tuple[Bench, dict[str, Any]]:
    """Everything a row needs, and the split in words; experts that the run lacks are trained again.

    Raises:
        RunError: The corpus is not the one that the run was made of.
        EdgeserError: The corpus is gone, or does not fit any more.
    """
    material, dev, test = shelf.take(run.settings())
    require_same_corpus(run, material)
    settings, task = material.settings, material.task
    trained = label_experts(run, material, shelf.workers)
    assignment = Assignment(
        task=task,
        names=distilled.names,
        settings=settings,
        method=material.method,
        init=run.init(),
        ensemble=label_ensemble(settings, task, trained),
    )
    return Bench(assignment, distilled, dev, test, run.generator()), material.split.describe()


@dataclass(frozen=True)
class Examination:
    """One run, opened, and what is to be trained for it.

    Attributes:
        run: The run.
        bench: The material that its rows train on.
        split: In words.
        plan: The plan that was asked for.
        twins: Rows that would repeat another one, and that other one: they are trained once.
        others: Other students, by the name that the plan gives them, with their widths.
    """

    run: Run
    bench: Bench
    split: Mapping[str, Any]
    plan: Plan
    twins: Mapping[str, str]
    others: Mapping[str, tuple[Graph, float]]

    def rows(self) -> list[str]:
        """The rows that are trained."""
        return [row for row in self.plan.rows if row not in self.twins]

    def jobs(self) -> list[Job]:
        """One training each: rows, then other students, seeds within."""
        bench, seeds, start = self.bench, self.plan.seeds, self.bench.assignment.init
        jobs: list[Job] = [(row, bench, bench.task.graph, start, seed) for row in self.rows() for seed in seeds]
        for graph, _ in self.others.values():
            own_start = initial_weights(graph, bench.assignment.settings.seed)
            jobs += [("distilled", bench, graph, own_start, seed) for seed in seeds]
        return jobs

    def result(self, scores: Sequence[Pair]) -> dict[str, Any]:
        """The JSON object of an evaluation; ``scores`` are in the order of the jobs."""
        count, bench = len(self.plan.seeds), self.bench
        groups = [
            summary(scores[place : place + count], bench.distilled.names) for place in range(0, len(scores), count)
        ]
        rows = dict(zip(self.rows(), groups, strict=False))
        if self.run.settings().corpus == JOINED:
            for place, row in enumerate(rows.values()):
                own = [pair[1] for pair in scores[place * count : (place + 1) * count]]
                row["corpora"] = uar_by_corpus(own, bench.test)
        rows |= {row: {**rows[other], "same_as": other} for row, other in self.twins.items()}
        description = self.run.description()
        start, experts = init_score(bench), ensemble_score(bench.assignment.ensemble, bench.test)
        return {
            **{row: rows.get(row) for row in ("full", "full_best", "full_soft")},
            "distilled": {
                **rows["distilled"],
                "share": description["budget"]["share"],
                **shipped_size(self.run, bench),
            },
            "init": {"uar": start.uar},
            "experts": {
                "uar": experts.uar,
                "members": len(bench.assignment.ensemble.members),
            },
            "baselines": {row: {**rows[row], **bank_size(row, bench)} for row in BASELINES if row in rows},
            "transfer": {
                name: {**row, "width": width, "parameters": graph.parameter_count}
                for (name, (graph, width)), row in zip(self.others.items(), groups[len(self.rows()) :], strict=True)
            },
            "convergence": None,
            "details": self.details(scores) | self._detailed({"init": [start], "experts": [experts]}),
            "split": self.split,
            "seeds": list(self.plan.seeds),
            "varies": "order of training; for baselines also the choice of items"
            + ("; for the generator the items that are drawn" if bench.generator else ""),
            "student": description["student"],
            "method": description["method"],
            "schedule": bench.distilled.schedule.to_json(),
            "schedule_real": real_schedule(bench.assignment.settings).to_json(),
            "edgeser": description["edgeser"],
            "machine": describe_machine(),
        }

    def details(self, scores: Sequence[Pair]) -> dict[str, Any]:
        """For each row that was trained what :func:`row_details` says, in the order of ``scores`` by the jobs."""
        count = len(self.plan.seeds)
        by_row = {
            row: [pair[1] for pair in scores[place * count : (place + 1) * count]]
            for place, row in enumerate(self.rows())
        }
        return self._detailed(by_row)

    def _detailed(self, by_row: Mapping[str, Sequence[Score]]) -> dict[str, Any]:
        return {row: row_details(found, self.bench.test, self.bench.distilled.names) for row, found in by_row.items()}


def open_examination(run: Run, plan: Plan, shelf: Shelf) -> Examination:
    """A run with everything that its plan needs.

    Raises:
        SettingsError: The plan names a student that does not exist.
        EdgeserError: As :func:`open_bench`.
    """
    distilled, own, shape = run.stored_set(), run.settings(), run.graph().input_shape
    others = {}
    for name in plan.transfer:
        arch, width = parse_student(name, own.width)
        others[name] = build(arch, len(distilled.names), width, shape), width
    bench, split = open_bench(run, distilled, shelf)
    same = {"random_bank_bytes": "random_bank"} if set(BANKS) <= set(plan.rows) else {}
    twins = {row: other for row, other in same.items() if BANKS[row](bench) == BANKS[other](bench)}
    return Examination(run, bench, split, plan, twins, others)


def other_students(run: Run, names: Sequence[str]) -> tuple[str, ...]:
    """The students among ``names``, NAME or NAME:WIDTH, that are not the run's own, each once.

    Raises:
        RunError: There is no such run.
        SettingsError: A width is no number.
    """
    own = run.settings()
    seen, others = {(own.arch, own.width)}, []
    for name in names:
        student = parse_student(name, own.width)
        if student not in seen:
            seen.add(student)
            others.append(name)
    return tuple(others)


def shipped_size(run: Run, bench: Bench) -> dict[str, int]:
    """Items per class and bytes of the set; of a generator what is drawn of each class, its bytes, and all items."""
    if not bench.generator:
        return {"ipc": bench.distilled.per_class, "bytes": (run.folder / "distilled.safetensors").stat().st_size}
    points = Description.from_bytes(bench.generator[DESCRIPTION]).points
    size = sum(len(data) for name, data in bench.generator.items() if name != PROBE)
    return {"ipc": points, "bytes": size, "drawn": points * bench.task.classes}


def bank_size(row: str, bench: Bench) -> dict[str, int]:
    """Items per class, views an item and bytes of a baseline that is a label bank; nothing for the others."""
    if row not in BANKS:
        return {}
    size = BANKS[row](bench)
    return {"ipc": size.ipc, "views": size.views, "bytes": bank_bytes(bench, size)}


def with_earlier_rows(result: dict[str, Any], earlier: Mapping[str, Any] | None) -> dict[str, Any]:
    """A result with the ratios, and with the rows of an earlier one that were measured in the same way."""
    same = ("seeds", "split", "schedule", "schedule_real", "student", "edgeser")
    if earlier is not None and all(earlier.get(key) == result[key] for key in same):
        kept = ("full", "full_best", "full_soft", "convergence")
        result = {
            **result,
            **{key: result[key] or earlier.get(key) for key in kept},
            **{key: {**earlier.get(key, {}), **result[key]} for key in ("baselines", "transfer", "details")},
        }
    across = ("split", "schedule", "schedule_real", "student", "edgeser")  # entries name their own seeds
    if earlier is not None and all(earlier.get(key) == result[key] for key in across):
        result = {**result, **{key: earlier[key] for key in ("on", "robust") if earlier.get(key)}}
    reached = result["distilled"]["uar_mean"]
    full = {"ratio": "full", "ratio_best": "full_best", "ratio_soft": "full_soft"}
    ratios = {name: reached / result[row]["uar_mean"] if result[row] else None for name, row in full.items()}
    return {**result, "distilled": {**result["distilled"], **ratios}}


def summary(pairs: Sequence[Pair], names: tuple[str, ...]) -> dict[str, Any]:
    """Mean, standard deviation and single values of the UAR of one row, and the mean recall of each class."""
    dev, test = ([pair[part].uar for pair in pairs] for part in (0, 1))
    recalls = np.mean([pair[1].recalls for pair in pairs], axis=0)  # NaN where no test speaker has the class
    return {
        "uar_mean": float(np.mean(test)),
        "uar_std": deviation(test),
        "uar": [round(value, 6) for value in test],
        "dev_uar_mean": float(np.mean(dev)),
        "recalls": {name: float(recall) for name, recall in zip(names, recalls, strict=True) if np.isfinite(recall)},
    }
