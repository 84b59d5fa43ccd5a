"""Results as tables for people; the JSON of the same verb holds the same numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from edgeser.errors import RunError
from edgeser.run import Run


def evaluation_table(result: Mapping[str, Any]) -> Table:
    """The rows of ``edgeser evaluate``."""
    distilled = result["distilled"]
    table = Table(
        title=f"UAR on the test speakers, split {result['split']['name']}, {len(result['seeds'])} seeds",
        min_width=72,
        caption=f"{distilled['ipc']} items per class, {distilled['share']:.1%} of the training items, "
        f"{distilled['bytes'] / 1000:.0f} kB; {result['machine']['cpu']}",
    )
    for title in ("row", "UAR", "std", "dev UAR", "ratio"):
        table.add_column(title, justify="left" if title == "row" else "right")
    full = result["full"]
    rows = {"full, at its best": result["full_best"], "full": full, "distilled": distilled, **result["baselines"]}
    rows |= {f"distilled -> {name}": row for name, row in result["transfer"].items()}
    for name, row in rows.items():
        if row is not None:
            ratio = f"{row['uar_mean'] / full['uar_mean']:.3f}" if full else ""
            table.add_row(name, f"{row['uar_mean']:.3f}", _number(row["uar_std"]), f"{row['dev_uar_mean']:.3f}", ratio)
    table.add_row("init", f"{result['init']['uar']:.3f}", "", "", "")
    table.add_row(f"experts ({result['experts']['members']})", f"{result['experts']['uar']:.3f}", "", "", "")
    return table


def comparison(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """One row a run.

    Raises:
        RunError: A run was not evaluated.
    """
    rows = []
    for folder in folders:
        run = Run(folder)
        description, metrics = run.description(), run.metrics()
        if metrics is None:
            raise RunError(f"the run {folder} was not evaluated", f"run: edgeser evaluate {folder} --full")
        distilled = metrics["distilled"]
        rows.append(
            {
                "run": str(folder),
                "corpus": description["corpus"]["name"],
                "method": description["method"],
                "student": description["student"]["architecture"],
                **{key: distilled[key] for key in ("ipc", "share", "bytes", "uar_mean", "uar_std", "ratio")},
            }
        )
    return rows


def comparison_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The rows of ``edgeser compare``."""
    table = Table()
    for title in ("run", "corpus", "method", "student", "IPC", "share", "kB", "UAR", "std", "ratio"):
        table.add_column(title)
    for row in rows:
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.3f}"
        table.add_row(
            row["run"], row["corpus"], row["method"], row["student"], str(row["ipc"]), f"{row['share']:.1%}",
            f"{row['bytes'] / 1000:.0f}", f"{row['uar_mean']:.3f}", _number(row["uar_std"]), ratio,
        )  # fmt: skip
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
