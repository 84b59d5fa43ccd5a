"""The table of what distilled sets are worth: corpus x budget x row, with mean and standard deviation over seeds.

    python benchmarks/distillation.py CORPORA --out runs/table --cells ravdess:6 ravdess:2 emodb:2 --seeds 5

CORPORA is a folder with one folder a corpus. Label experts are trained once a corpus and shared by its cells; a cell
that is done is not measured again, so an interrupted table goes on. JSON is printed on stdout, the table on stderr.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from edgeser.distill.pipeline import distill
from edgeser.evaluate import ROWS, Plan, evaluate
from edgeser.run import Run
from edgeser.settings import Settings
from edgeser.workers import Workers
from edgeser_export.files import write_json


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr)


def measure_cell(cell: str, arguments: argparse.Namespace, workers: Workers) -> dict[str, Any]:
    """Distil and evaluate one cell, CORPUS:IPC, or read what was measured before."""
    corpus, ipc = cell.split(":")
    folder = arguments.out / f"{corpus}-{ipc}-{arguments.method}"
    done = folder / "cell.json"
    if done.is_file():
        found: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
        if set(arguments.rows) <= set(found["rows"]) and len(found["seeds"]) >= arguments.seeds:
            return found
    place = "" if corpus == "demo" else str((arguments.corpora / corpus).resolve())
    settings = Settings(corpus=corpus, folder=place, method=arguments.method, ipc=int(ipc))
    shared = arguments.out / "experts" / corpus
    if shared.is_dir() and not folder.is_dir():
        write_seed(folder, settings, shared)
    say(f"{cell}: {arguments.method}")
    run = distill(settings, folder, workers, resume=folder.is_dir(), warn=say)
    share_label_experts(run, shared)
    result = evaluate(run, Plan(tuple(range(arguments.seeds)), tuple(arguments.rows)), workers)
    rows = {
        "full": result["full"],
        "full_best": result["full_best"],
        "distilled": result["distilled"],
        **result["baselines"],
    }
    measured = {
        "corpus": corpus,
        "method": arguments.method,
        "ipc": int(ipc),
        "share": result["distilled"]["share"],
        "bytes": result["distilled"]["bytes"],
        "rows": {name: row for name, row in rows.items() if row is not None},
        "init": result["init"],
        "experts": result["experts"],
        "seeds": result["seeds"],
        "varies": result["varies"],
        "split": result["split"]["name"],
        "machine": result["machine"],
    }
    write_json(done, measured)
    return measured


def write_seed(folder: Path, settings: Settings, shared: Path) -> None:
    """Begin a run whose label experts are already there."""
    (folder / "trajectories").mkdir(parents=True)
    (folder / "config.toml").write_text(settings.to_toml(), encoding="utf-8")
    for expert in shared.iterdir():
        shutil.copy2(expert, folder / "trajectories")


def share_label_experts(run: Run, shared: Path) -> None:
    """Keep a run's label experts for the other cells of its corpus."""
    shared.mkdir(parents=True, exist_ok=True)
    for expert in run.trajectories.glob("label-expert-*"):
        if not (shared / expert.name).exists():
            shutil.copy2(expert, shared)


def table_of(cells: list[dict[str, Any]], rows: list[str]) -> Table:
    """UAR of each row with its standard deviation, a cell a line."""
    table = Table(title=f"UAR on test speakers, {len(cells[0]['seeds'])} seeds; {cells[0]['machine']['cpu']}")
    for title in ("corpus", "IPC", "share", "kB", "method", *rows, "ratio", "experts"):
        table.add_column(title)
    for cell in cells:
        scores = [cell["rows"].get(row) for row in rows]
        full = next((other["rows"]["full"] for other in cells if same_corpus(other, cell)), None)
        ratio = f"{cell['rows']['distilled']['uar_mean'] / full['uar_mean']:.3f}" if full else ""
        table.add_row(
            cell["corpus"],
            str(cell["ipc"]),
            f"{cell['share']:.1%}",
            f"{cell['bytes'] / 1000:.0f}",
            cell["method"],
            *(f"{score['uar_mean']:.3f} ± {score['uar_std'] or 0:.3f}" if score else "" for score in scores),
            ratio,
            f"{cell['experts']['uar']:.3f}",
        )
    return table


def same_corpus(other: dict[str, Any], cell: dict[str, Any]) -> bool:
    """Whether the other cell has the full-data row that this one is compared with."""
    return other["corpus"] == cell["corpus"] and "full" in other["rows"]


def main() -> None:
    """Measure the cells and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/table"))
    parser.add_argument("--cells", nargs="+", default=["ravdess:6", "emodb:2"], metavar="CORPUS:IPC")
    parser.add_argument("--method", default="mtt")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    if "distilled" not in arguments.rows:
        arguments.rows = ["distilled", *arguments.rows]
    cells = [measure_cell(cell, arguments, Workers.all_cores()) for cell in arguments.cells]
    print(json.dumps({"cells": cells}, indent=2))
    Console(stderr=True, width=160).print(table_of(cells, arguments.rows))


if __name__ == "__main__":
    main()
