"""The table of what distilled sets are worth: method x budget x corpus, with mean and standard deviation over seeds.

    python benchmarks/distillation.py CORPORA --out runs/table --corpora ravdess emodb urdu --methods mtt random
    python benchmarks/distillation.py CORPORA --out runs/table --trials ravdess:6 emodb:0.056 --arch edgenet cnn6:0.25

CORPORA is a folder with one folder a corpus. Each distillation, and each row on real clips, is measured once and kept
in --out; an interrupted table goes on. JSON is printed on stdout and kept in --out/table.json, the tables are printed
on stderr. The label experts are one set a corpus, for all seeds of distillation too.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from distillation_runs import Request
from distillation_tables import markdown_page, panels_of, result_of, row_of, sheets_of
from distillation_trials import Group, measure_common, measure_group, parse_budget
from rich.console import Console

from edgeser.config.settings import SETTINGS, Settings
from edgeser.distill.registry import METHODS, find_method
from edgeser.errors import SettingsError
from edgeser.evaluation.conditions import ROWS
from edgeser.models.students import parse_student
from edgeser.report.pictures import budget_picture, check_picture, save
from edgeser.representation.logmel import LogMel
from edgeser.workers import Workers
from edgeser_device.machine import available_cores
from edgeser_export.utilities.errors import EdgeserError, choice_hint
from edgeser_export.utilities.files import write_bytes, write_json

TRIALS_DECIDE = ("corpus", "folder", "method", "arch", "width", "ipc", "share", "seed", "start")
"""Settings that are dimensions of the table, so that --settings cannot give them."""


def main() -> None:
    """Measure the trials and print the table."""
    arguments = parser().parse_args()
    try:
        request, groups = request_of(arguments), groups_of(arguments)
        for picture in [arguments.picture] if arguments.picture else []:
            check_picture(picture)
        for group in groups:
            group.settings(0, request)  # what does not fit shows before anything is measured
        result = measure(groups, request, command_of(arguments))
        sheets = sheets_of(result)
        if arguments.picture:
            save(budget_picture(panels_of(result)), arguments.picture)
        if arguments.markdown:
            page = markdown_page(result, sheets, arguments.picture, arguments.markdown)
            write_bytes(arguments.markdown, page.encode())
    except EdgeserError as error:
        sys.exit(f"error: {error.message}\nhint: {error.hint}")
    print(json.dumps(result, indent=2))
    console = Console(stderr=True, width=None if sys.stderr.isatty() else 180, highlight=False)
    for sheet in sheets:
        console.print(sheet.rich())


def measure(groups: list[Group], request: Request, command: str) -> dict[str, Any]:
    """Measure all groups; what is known of the table is written after each."""
    lines: list[dict[str, Any]] = []
    for group in groups:
        common = measure_common(group.settings(0, request), request)
        lines.append(row_of(group, measure_group(group, request), common, request))
        result = result_of(lines, request, command)
        write_json(request.out / "table.json", result)
    return result


def request_of(arguments: argparse.Namespace) -> Request:
    """The request that the command line makes for the whole table.

    Raises:
        SettingsError: A row or a setting does not exist.
    """
    for row in arguments.rows:
        if row not in ROWS:
            raise SettingsError(f"there is no row {row!r}", choice_hint(row, ROWS))
    overrides = dict(parse_setting(text) for text in arguments.settings)
    rows = tuple(row for row in arguments.rows if row != "distilled")
    workers = Workers(arguments.jobs)
    trainings = arguments.trainings or arguments.seeds
    return Request(arguments.corpora, arguments.out.resolve(), arguments.seeds, trainings, rows, overrides, workers)


def parse_setting(text: str) -> tuple[str, Any]:
    """Name and value of KEY=VALUE.

    Raises:
        SettingsError: No such setting, one that the table itself decides, or a value of another type.
    """
    name, _, value = text.partition("=")
    known = [key for key in SETTINGS if key not in TRIALS_DECIDE]
    if name not in known:
        raise SettingsError(f"--settings cannot give {name!r}", choice_hint(name, known))
    parsed = SETTINGS[name].parse(value)
    SETTINGS[name].check(parsed)
    return name, parsed


def groups_of(arguments: argparse.Namespace) -> list[Group]:
    """One group for each corpus, student, budget, method and start, in this order.

    Raises:
        SettingsError: A trial, method or student is not understood.
    """
    trials = [(corpus, f"{share:g}") for corpus in arguments.corpora_names for share in arguments.shares]
    if arguments.trials:
        trials = [(corpus, budget) for corpus, _, budget in (text.partition(":") for text in arguments.trials)]
    for _, budget in trials:
        parse_budget(budget)
    names = list(dict.fromkeys(corpus for corpus, _ in trials))
    students = [parse_student(text, arguments.width) for text in arguments.arch]
    groups = [
        Group(corpus, budget, method, start, arch, width, count_of(name, start, arguments))
        for corpus in names
        for arch, width in students
        for budget in [budget for other, budget in trials if other == corpus]
        for name in arguments.methods
        for method, start in starts_of(name, arguments)
    ]
    return list(dict.fromkeys(groups))


def count_of(name: str, start: str, arguments: argparse.Namespace) -> int:
    """Seeds of distillation of a method and a start; the defaults of both have more."""
    if name.partition(":")[0] == Settings.method and start in ("", *LogMel.usual_starts):
        return int(arguments.distillations)
    return int(min(arguments.distillations, arguments.other_distillations))


def starts_of(name: str, arguments: argparse.Namespace) -> list[tuple[str, str]]:
    """A method, as METHOD or METHOD:START, with each of its starts; a method that only chooses real items has none.

    Raises:
        SettingsError: There is no such method or start, or the method has none.
    """
    method, _, start = name.partition(":")
    learns = find_method(method).improve is not None
    if start and not learns:
        raise SettingsError(f"{method} chooses real items and begins as nothing", f"write {method} alone")
    if start:
        SETTINGS["start"].check(start)
        return [(method, start)]
    return [(method, each) for each in (arguments.start if learns and arguments.start else [""])]


def command_of(arguments: argparse.Namespace) -> str:
    """The command that gives the same table, without the places of files."""
    words = ["python", "benchmarks/distillation.py", "CORPORA"]
    for action in parser()._actions:
        value = getattr(arguments, action.dest, None)
        places = ("corpora", "out", "markdown", "picture", "jobs", "help")
        if action.dest not in places and value not in (None, action.default):
            values = value if isinstance(value, list) else [value]
            words += [action.option_strings[0], *map(str, values)]
    return shlex.join(words)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("corpora", type=Path, metavar="CORPORA", help="folder with one folder a corpus")
    made.add_argument("--out", type=Path, default=Path("runs/table"), metavar="DIR")
    made.add_argument(
        "--corpora", dest="corpora_names", nargs="+", default=["ravdess", "emodb", "urdu"], metavar="NAME"
    )
    made.add_argument("--shares", type=float, nargs="+", default=[0.015, 0.056, 0.149], metavar="P", help="budgets")
    made.add_argument(
        "--trials", nargs="+", default=[], metavar="CORPUS:BUDGET", help="instead of --corpora and --shares"
    )
    made.add_argument(
        "--methods",
        "--method",
        nargs="+",
        default=[Settings.method],
        metavar="M[:START]",
        help=", ".join(METHODS),
    )
    made.add_argument(
        "--start", "--from", nargs="+", default=[], metavar="START", help="what items begin as: a line each"
    )
    made.add_argument("--arch", nargs="+", default=[Settings.arch], metavar="NAME[:WIDTH]", help="students")
    made.add_argument("--width", type=float, default=Settings.width, help="of students that name none")
    made.add_argument("--rows", nargs="+", default=list(ROWS), metavar="ROW", help=", ".join(ROWS))
    made.add_argument("--seeds", type=int, default=5, help="trainings of each row")
    made.add_argument(
        "--trainings", type=int, default=0, help="of each distillation; as many as --seeds when not given"
    )
    made.add_argument("--distillations", type=int, default=1, help=f"seeds of distillation of {Settings.method}")
    made.add_argument("--other-distillations", type=int, default=2, help="at most, of the other methods")
    made.add_argument("--settings", nargs="+", default=[], metavar="KEY=VALUE", help="of all trials")
    made.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there too")
    made.add_argument("--picture", type=Path, metavar="FILE", help="draw UAR against budget there")
    made.add_argument("--jobs", type=int, default=available_cores(), help="distillations and trainings side by side")
    return made


if __name__ == "__main__":
    main()
