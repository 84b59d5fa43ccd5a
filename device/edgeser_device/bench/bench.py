"""Latency, memory and size of a model: each file in each runtime with each number of threads, in a fresh process.

bench = run_bench(load_model(Path("model")), runtime=None, threads=(1, 4), repeat=200)
bench.to_json()         # {"results": [...], "skipped": [...], "machine": {...}}
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgeser_device.errors import GateFailed, ModelError
from edgeser_device.machine import describe_machine
from edgeser_device.model.joined_files import LEAST_COSINE, file_content, joined_formats, vector_cosine
from edgeser_device.model.model import Model
from edgeser_device.model.reexport import agreement
from edgeser_export.runtimes import RUNTIMES, Runtime, find_runtime
from edgeser_export.utilities.children import run_child
from edgeser_export.utilities.errors import EdgeserError, MissingRuntime
from edgeser_export.utilities.progress import Advance, ignore_progress
from edgeser_export.utilities.words import counted
from edgeser_export.writers.formats import FORMATS, find_format, format_of

MAX_DROP = 0.02
"""UAR, or agreement, that a recommended file may lose to the best one."""


@dataclass(frozen=True)
class Bench:
    """The measurements of a model on this machine.

    Attributes:
        results: One row a measurement, see :func:`edgeser_device.bench.bench_child.measure`.
        skipped: Measurements that failed: format, precision, runtime, threads, reason.
        machine: See :func:`edgeser_device.machine.describe_machine`.
        conditions: Governor, temperature, throttling and load "before" and "after".
        recommended: The row to use, see :func:`with_recommendation`.
    """

    results: tuple[dict[str, Any], ...]
    skipped: tuple[dict[str, Any], ...]
    machine: dict[str, Any]
    conditions: dict[str, Any] = field(default_factory=dict)
    recommended: dict[str, Any] | None = None

    def files(self) -> list[tuple[str, str]]:
        """Every file that was measured with its runtime, see :func:`file_of`."""
        return sorted({file_of(row) for row in self.results})

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        lists = {"results": list(self.results), "skipped": list(self.skipped), "notes": slower_int8(self.results)}
        return {**vars(self), **lists}


def run_bench(
    model: Model, runtime: str | None, threads: Sequence[int], repeat: int, advance: Advance = ignore_progress
) -> Bench:
    """Measure a model.

    Args:
        model: The model folder.
        runtime: Only this row of the table of runtimes; None for all that are installed.
        threads: Numbers of threads.
        repeat: Measured calls.
        advance: Told the measurements done.

    Raises:
        ModelError: Nothing could be measured.
        ExportError: There is no such runtime.
    """
    wanted = RUNTIMES.values() if runtime is None else [find_runtime(runtime)]
    before = _conditions()
    results, skipped = list[dict[str, Any]](), list[dict[str, Any]]()
    joins = joined_formats(model)
    pairs = [(name, row) for name in joins or model.formats for row in wanted if row.kind == FORMATS[name].kind]
    plan = [(name, row, count) for name, row in pairs for count in threads]
    for done, (name, row, count) in enumerate(plan, start=1):
        key = {"format": row.kind, "precision": FORMATS[name].precision, "runtime": row.name, "threads": count}
        try:
            data = file_content(model, name)
            found = _measure(model, name, data if joins else None, row, count, repeat)
            results.append({**key, "runtime_version": row.version, **found, "bytes": len(data), "uar": None})
        except (EdgeserError, ValueError, IndexError) as error:
            skipped.append({**key, "reason": str(error)})
        advance(done, f"{name} in {row.name}, {counted(count, 'thread')}")
    if not results:
        reasons = "; ".join(sorted({row["reason"] for row in skipped})) or "it has no file for this runtime"
        raise ModelError(f"nothing of {model.folder} could be measured: {reasons}", "run edgeser doctor")
    conditions = {"before": before, "after": _conditions()}
    return Bench(tuple(results), tuple(skipped), describe_machine(), conditions)


def with_recommendation(bench: Bench, model: Model) -> Bench:
    """Name the fastest row that loses no more than ``MAX_DROP`` to the best.

    Compared is UAR where every row has one; else how often a file names the class that the model's own file names on
    views of the distilled set, which becomes the rows' "agreement". Files that hold an encoder have a "cosine" instead,
    the smallest that their vectors have to those of the encoder's own file on sounds of noise.
    """
    rows, measure, allowed = bench.results, "uar", MAX_DROP
    if not all(row["uar"] is not None for row in rows):
        if joined_formats(model):
            measure, allowed = "cosine", 1 - LEAST_COSINE
            found = {pair: vector_cosine(model, find_format(pair[0])) for pair in bench.files()}
        else:
            measure = "agreement"
            found = {pair: agreement(model, model.file(pair[0]), pair[1]).after for pair in bench.files()}
        rows = tuple({**row, measure: found[file_of(row)]} for row in rows)
    best = max(row[measure] for row in rows)
    good = [row for row in rows if row[measure] >= best - allowed]
    chosen = min(good, key=lambda row: (row["frontend_ms_p50"] + row["model_ms_p50"], row["threads"]))
    keys = ("format", "precision", "runtime", "threads", "model_ms_p50", measure)
    return replace(bench, results=rows, recommended={key: chosen[key] for key in keys})


def slower_int8(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each runtime and number of threads where int8 is slower than float32, by p50."""
    times = {(row["runtime"], row["threads"], row["precision"]): row["model_ms_p50"] for row in rows}
    return [
        f"int8 is slower than float32 in {runtime} with {counted(threads, 'thread')}: {ms:.2f} ms against "
        f"{times[runtime, threads, 'float32']:.2f} ms, so use float32 there"
        for (runtime, threads, precision), ms in times.items()
        if precision == "int8" and ms > times.get((runtime, threads, "float32"), ms)
    ]


def file_of(row: Mapping[str, Any]) -> tuple[str, str]:
    """The file that a row was measured on, by its row of the table of formats, and the runtime."""
    return format_of(row["format"], row["precision"]).name, row["runtime"]


def _conditions() -> dict[str, Any]:
    """The conditions that make a machine slower than it was, or busier."""
    found = describe_machine()
    kept = {key: found[key] for key in ("governor", "temperature_c", "throttled")}
    return {**kept, "load_average": round(os.getloadavg()[0], 2)}


def check_budget(bench: Bench, budget_ms: float | None, budget_mb: float | None) -> None:
    """Compare the best row with the budgets: one file that keeps both is enough, for one file is what will run.

    Raises:
        GateFailed: No row keeps the budgets.
    """

    def keeps(row: dict[str, Any]) -> bool:
        in_time = budget_ms is None or row["p95"] <= budget_ms
        return in_time and (budget_mb is None or (row["peak_rss_mb"] is not None and row["peak_rss_mb"] <= budget_mb))

    if any(keeps(row) for row in bench.results):
        return
    best_ms = min(row["p95"] for row in bench.results)
    best_mb = min(row["peak_rss_mb"] or float("inf") for row in bench.results)
    asked = [f"{budget_ms:g} ms" if budget_ms is not None else "", f"{budget_mb:g} MB" if budget_mb is not None else ""]
    budget = " and ".join(filter(None, asked))
    raise GateFailed(
        f"no file keeps the budget of {budget}: the best are {best_ms:g} ms (p95) and {best_mb:g} MB",
        "pack a smaller student (--width), or allow more",
    )


def _measure(model: Model, name: str, data: bytes | None, row: Runtime, threads: int, repeat: int) -> dict[str, Any]:
    if not row.installed:
        raise MissingRuntime(f"{row.name} is not installed", "run edgeser doctor")
    words = [str(model.folder), name, row.name, str(threads), str(repeat)]
    with tempfile.TemporaryDirectory(prefix="edgeser-bench-") as folder:
        if data is not None:
            path = Path(folder) / "joined"
            path.write_bytes(data)
            words.append(str(path))
        said = run_child(("-m", "edgeser_device.bench.bench_child", *words), "the measurement")
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    return found
