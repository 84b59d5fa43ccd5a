"""Trials of benchmarks/distillation.py: what each is, how it is measured, and what is measured once for many.

A trial is one distillation: corpus, budget, method, start, student and seed. What does not depend on the method is
common to the trials of a corpus and budget: label experts, and the rows on real clips. Each result is one JSON file,
written when it is there, so an interrupted table goes on with what is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillation_runs import (
    Request,
    distil,
    experts_folder,
    fingerprint,
    has_seeds,
    keep_experts,
    prepare_run,
    read,
    require_same,
    say,
    update,
    without_folder,
)

from edgeser.config.settings import SETTINGS, Settings, value_of
from edgeser.config.values import changed, values_of
from edgeser.errors import SettingsError
from edgeser.evaluation.conditions import BANKS, Bench, bank_bytes, ensemble_score, measure
from edgeser.evaluation.evaluate import Shelf, evaluate_each, open_bench, summary
from edgeser.run import Run
from edgeser_device.machine import describe_machine
from edgeser_export.utilities.files import write_json

CORPUS_ROWS = ("full", "full_best", "full_soft")
"""Rows that are the same for every budget."""
BUDGET_ROWS = ("random", "random_soft", "random_bank")
"""Rows that are the same for every method of a budget."""
COMMON = (
    "corpus", "folder", "split", "arch", "width", "ipc", "share", "views", "steps", "batch", "peak_rate",
    "weight_decay", "init_epoch", "experts.temperature", "experts.count", "experts.arch", "experts.width",
    "experts.steps",
)  # fmt: skip
"""Settings that common rows depend on; a method with other ones has common rows of its own."""
PATH = ("mtt.trajectory_rate", "mtt.trajectory_momentum", "mtt.sam")
"""Settings of the trajectory from which ``init_epoch`` takes the initialisation; they matter where it does."""
OF_BUDGET = ("ipc", "share", "views", "labels", "peak_rate", "weight_decay")
"""Settings that ``CORPUS_ROWS`` do not depend on."""
NAMES = tuple(key for key in SETTINGS if key != "folder")
NOT_DISTILLING = ("start", "features")
"""Phases of a run that are the same for every method: starting Python, reading the corpus."""


@dataclass(frozen=True)
class Group:
    """Trials that differ by the seed of their distillation only: one line of the table.

    Attributes:
        corpus: Name of the corpus format.
        budget: Items per class, "6", or a share of the training items, "0.056".
        method: Name of the method.
        start: The start of items; empty for the method's own, or where it makes no difference.
        arch: Architecture of the student.
        width: Factor on its channels.
        distillations: Seeds of distillation.
    """

    corpus: str
    budget: str
    method: str
    start: str
    arch: str
    width: float
    distillations: int

    @property
    def label(self) -> str:
        """The method in words."""
        return f"{self.method} from {self.start}" if self.start else self.method

    def settings(self, seed: int, request: Request) -> Settings:
        """The settings that one trial is distilled with.

        Raises:
            SettingsError: They do not fit.
        """
        place = "" if self.corpus == "demo" else str((request.corpora / self.corpus).resolve())
        values = {"corpus": self.corpus, "folder": place, "arch": self.arch, "width": self.width, "seed": seed}
        if self.start:
            values["start"] = self.start
        return request.settings(self.method, {**values, **parse_budget(self.budget)})


def parse_budget(text: str) -> dict[str, Any]:
    """The setting that a budget is: 6 items per class, or 0.056 of the training items.

    Raises:
        SettingsError: It is no number.
    """
    try:
        value = float(text)
    except ValueError as error:
        raise SettingsError(f"the budget {text!r} is no number", "write 6 (a class) or 0.056 (a share)") from error
    return {"share": value} if value < 1 else {"ipc": round(value)}


def common_settings(settings: Settings, request: Request) -> Settings:
    """Settings of the run whose experts and initialisation the common rows use: random items, seed 0."""
    carried = {key: value_of(settings, key) for key in names_of_common(settings)}
    return changed(request.settings("random", {"ipc": 1}), {**carried, "labels": "bank", "seed": 0})


def names_of_common(settings: Settings) -> tuple[str, ...]:
    """The settings that common rows depend on."""
    return (*COMMON, *(PATH if settings.init_epoch else ()))


def measure_common(settings: Settings, request: Request) -> dict[str, Any]:
    """The rows of real clips for a corpus, student and budget, and what the label experts reach together.

    Returns:
        ``rows``: name to the UAR of each seed; ``experts``; ``split``; ``machine``.
    """
    base = common_settings(settings, request)
    by_corpus, by_budget = common_files(base, request)
    files = {by_corpus: CORPUS_ROWS, by_budget: BUDGET_ROWS}
    missing = {
        file: [row for row in rows if row in request.rows and not has_seeds(read(file).get(row), request.seeds)]
        for file, rows in files.items()
    }
    names = names_of_common(base)
    for_all = [name for name in names if name not in OF_BUDGET]
    require_same(by_corpus, read(by_corpus).get("settings", {}), base, for_all)
    require_same(by_budget, read(by_budget).get("settings", {}), base, names)
    if any(missing.values()) or "experts" not in read(by_corpus):
        bench, split = open_base(base, request)
        if "experts" not in read(by_corpus):
            reached = ensemble_score(bench.assignment.ensemble, bench.test).uar
            experts = {"uar": reached, "members": len(bench.assignment.ensemble.members)}
            found = {"split": split["name"], "machine": describe_machine(), "experts": experts}
            write_json(by_corpus, {**read(by_corpus), **found, "settings": without_folder(base)})
        if "settings" not in read(by_budget):
            write_json(by_budget, {"settings": without_folder(base)})
        for file, rows in missing.items():
            for row, figures in measure_rows(bench, rows, request):
                update(file, row, figures)
    known = read(by_corpus) | read(by_budget)
    other = ("experts", "split", "machine")
    asked = {row: known[row] for row in (*CORPUS_ROWS, *BUDGET_ROWS) if row in request.rows}
    return {"rows": asked, **{key: known[key] for key in other}}


def common_files(base: Settings, request: Request) -> tuple[Path, Path]:
    """The files of the rows of a corpus and student, and of those that depend on the budget too."""
    values, folder = values_of(base), request.out / "common"
    student = f"{base.corpus}-{base.arch}x{base.width:g}"
    budget = f"{base.ipc or base.share:g}"
    return (
        folder / f"{student}-{fingerprint(values, OF_BUDGET)}.json",
        folder / f"{student}-{budget}-{fingerprint(values)}.json",
    )


def open_base(base: Settings, request: Request) -> tuple[Bench, dict[str, Any]]:
    """The bench of common rows; its run is made if it is not there yet, and its label experts are kept for all."""
    folder = common_files(base, request)[1].with_suffix("")
    run = prepare_run(folder, base, names_of_common(base), request)
    say(f"{folder.name}: experts and rows of real clips")
    distil([run], together=1, jobs=request.workers.jobs)
    keep_experts(run, experts_folder(base, request))
    return open_bench(run, run.distilled(), Shelf(request.workers))


def measure_rows(bench: Bench, rows: Sequence[str], request: Request) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and figures of each row, all trainings side by side; banks say how large they are."""
    seeds = range(request.seeds)
    jobs = [(row, bench, bench.task.graph, bench.assignment.init, seed) for row in rows for seed in seeds]
    pairs = request.workers.each(measure, jobs)
    for row in rows:
        figures = summary([next(pairs) for _ in seeds], bench.distilled.names)
        if row in BANKS:
            size = BANKS[row](bench)
            figures |= {"ipc": size.ipc, "views": size.views, "bytes": bank_bytes(bench, size)}
        say(f"  {row}: {figures['uar_mean']:.3f}")
        yield row, figures


def measure_group(group: Group, request: Request) -> list[dict[str, Any]]:
    """The trials of a group, each from its file, or distilled and measured now, side by side."""
    wanted = [group.settings(seed, request) for seed in range(group.distillations)]
    folders = [trial_folder(group, settings, request) for settings in wanted]
    for folder, settings in zip(folders, wanted, strict=True):
        require_same(folder, read(folder / "trial.json").get("settings", {}), settings, NAMES)
    pending = [
        (folder, settings)
        for folder, settings in zip(folders, wanted, strict=True)
        if not has_seeds(read(folder / "trial.json"), request.trainings)
    ]
    if pending:
        say(f"{group.corpus} {group.budget} {group.label} {group.arch} x {group.width:g}: {len(pending)} distillations")
        runs = [prepare_run(folder / "run", settings, NAMES, request) for folder, settings in pending]
        distil(runs, together=request.workers.jobs, jobs=1)
        results = evaluate_each(runs, request.plan, request.workers)
        for (folder, settings), run, result in zip(pending, runs, results, strict=True):
            write_json(folder / "trial.json", trial_of(run, settings, result))
            say(f"  distillation {settings.seed}: {result['distilled']['uar_mean']:.3f}")
    if "random_bank_bytes" in request.rows:
        kept = common_files(common_settings(wanted[0], request), request)[1]
        measure_bank_of_same_bytes(folders[0], kept, request)
    return [read(folder / "trial.json") for folder in folders]


def trial_of(run: Run, settings: Settings, result: Mapping[str, Any]) -> dict[str, Any]:
    """The figures that are kept of one distillation."""
    took, distilled, budget = run.took(), result["distilled"], run.description()["budget"]
    seconds = sum(value for name, value in (took["seconds"] or {}).items() if name not in NOT_DISTILLING)
    whole = took["seconds"] and not (run.folder / "interrupted").exists()
    return {
        **{key: distilled[key] for key in ("uar", "uar_mean", "uar_std", "dev_uar_mean", "ipc", "share", "bytes")},
        "views": budget["views"] // budget["items"],
        "init": result["init"],
        "seconds": round(seconds, 2) if whole else None,  # of an interrupted run only the last part is known
        "phases": took["seconds"],
        "peak_rss_mb": took["peak_rss_mb"],
        "settings": without_folder(settings),
        "split": result["split"]["name"],
        "machine": result["machine"],
    }


def measure_bank_of_same_bytes(folder: Path, kept: Path, request: Request) -> None:
    """Add the row ``random_bank_bytes`` to a trial, unless the bank of as many items is as large.

    Banks of one size are the same row for all trials of a budget: they are measured once and ``kept`` for the others.
    """
    trial = read(folder / "trial.json")
    known = trial.get("random_bank_bytes")
    if known is not None and ("same_as" in known or has_seeds(known, request.seeds)):
        return
    run = Run(folder / "run")
    bench, _ = open_bench(run, run.distilled(), Shelf(request.workers))
    size = BANKS["random_bank_bytes"](bench)
    figures: Mapping[str, Any] = {"same_as": "random_bank"}
    if size != BANKS["random_bank"](bench):
        name = f"bank of {size.ipc} x {size.views}"
        if not has_seeds(read(kept).get(name), request.seeds):
            update(kept, name, next(measure_rows(bench, ["random_bank_bytes"], request))[1])
        figures = read(kept)[name]
    update(folder / "trial.json", "random_bank_bytes", figures)


def trial_folder(group: Group, settings: Settings, request: Request) -> Path:
    """The folder of a trial; the name says what it is, and its end tells other settings apart."""
    start = f"-{group.start}" if group.start else ""
    name = f"{group.corpus}-{group.budget}-{group.method}{start}-{group.arch}x{group.width:g}-seed{settings.seed}"
    return request.out / "trials" / f"{name}-{fingerprint(values_of(settings))}"
