"""The transfer matrix: UAR of every student on every distilled set, from runs that differ in their student.

    python benchmarks/transfer.py runs/edgenet runs/cnn6 runs/resnet9 runs/vgg15 --seeds 5 --picture transfer.svg

A row is a run: what its set was distilled with. A column is a student that is trained on it, from its own start. The
figures are kept in each run's metrics.json; what is there already is not measured again. JSON is printed on stdout, the
table on stderr.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distillation_tables import Sheet, student_words, uar_words
from rich.console import Console

from edgeser.errors import EdgeserError, SettingsError
from edgeser.evaluation.evaluate import Plan, evaluate
from edgeser.report.pictures import check_picture, save, transfer_picture
from edgeser.run import Run
from edgeser.workers import Workers
from edgeser_device.machine import available_cores
from edgeser_export.utilities.files import write_bytes

ALIKE = ("corpus", "split", "ipc")
"""What the runs of one matrix must have in common."""


def main() -> None:
    """Measure what is missing and print the matrix."""
    arguments = parser().parse_args()
    try:
        if arguments.picture:
            check_picture(arguments.picture)
        result = measure([Run(folder) for folder in arguments.runs], arguments.seeds, Workers(arguments.jobs))
        matrix = {
            row: {name: cell["uar_mean"] for name, cell in cells.items()} for row, cells in result["rows"].items()
        }
        if arguments.picture:
            save(transfer_picture(matrix), arguments.picture)
        if arguments.markdown:
            write_bytes(arguments.markdown, f"{sheet_of(result).markdown()}\n".encode())
    except EdgeserError as error:
        sys.exit(f"error: {error.message}\nhint: {error.hint}")
    print(json.dumps(result, indent=2))
    Console(stderr=True, width=None if sys.stderr.isatty() else 160, highlight=False).print(sheet_of(result).rich())


def measure(runs: Sequence[Run], seeds: int, workers: Workers) -> dict[str, Any]:
    """The matrix as a JSON object.

    Raises:
        SettingsError: The runs cannot be compared, or two have the same student.
    """
    students = students_of(runs)
    rows, machine = {}, {}
    for own, run in zip(students, runs, strict=True):
        others = tuple(name for name in students if name != own)
        metrics = run.metrics()
        if metrics is None or metrics["seeds"] != list(range(seeds)) or not set(others) <= set(metrics["transfer"]):
            print(f"{run.folder}: {len(others) + 1} students", file=sys.stderr)
            metrics = evaluate(run, Plan(tuple(range(seeds)), ("distilled",), others), workers)
        cells = {own: metrics["distilled"], **metrics["transfer"]}
        rows[students[own]] = {
            students[name]: {key: cells[name][key] for key in ("uar", "uar_mean", "uar_std")} for name in students
        }
        machine = metrics["machine"]
    description = alike(runs[0])
    return {**description, "rows": rows, "seeds": list(range(seeds)), "varies": "order of training", "machine": machine}


def students_of(runs: Sequence[Run]) -> dict[str, str]:
    """The students of the runs as evaluate names them, and in words.

    Raises:
        SettingsError: The runs cannot be compared, or two have the same student.
    """
    found: dict[str, str] = {}
    for run in runs:
        for key, value in alike(run).items():
            if value != alike(runs[0])[key]:
                said = f"{run.folder} has the {key} {value}, {runs[0].folder} has {alike(runs[0])[key]}"
                raise SettingsError(said, "give runs that differ in their student only")
        student = run.description()["student"]
        name = f"{student['architecture']}:{student['width']:g}"
        if name in found:
            raise SettingsError(f"two runs have the student {name}", "give one run for each student")
        found[name] = student_words(student)
    return found


def alike(run: Run) -> dict[str, Any]:
    """What runs of one matrix share."""
    description = run.description()
    values = (description["corpus"]["name"], description["split"]["name"], description["budget"]["ipc"])
    return dict(zip(ALIKE, values, strict=True))


def sheet_of(result: Mapping[str, Any]) -> Sheet:
    """The matrix for people."""
    names = list(result["rows"])
    title = (
        f"UAR on the test speakers, {result['corpus']}, {result['ipc']} items per class, {len(result['seeds'])} seeds"
    )
    lines = [(name, *(uar_words(result["rows"][name][other]) for other in names)) for name in names]
    return Sheet(title, ("distilled with, trained on it:", *names), lines, words=1)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="finished runs, one for each student")
    made.add_argument("--seeds", type=int, default=5, help="trainings of each student on each set")
    made.add_argument("--picture", type=Path, metavar="FILE", help="draw the matrix there")
    made.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there too")
    made.add_argument("--jobs", type=int, default=available_cores(), help="trainings side by side")
    return made


if __name__ == "__main__":
    main()
