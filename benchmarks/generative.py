"""The table of the generative distiller: budgets, fresh points, class ratios, an ablation, speakers, size and time.

    python benchmarks/generative.py CORPORA --out runs/generative --corpora ravdess emodb urdu --seeds 5
    python benchmarks/generative.py CORPORA --out runs/generative --corpora emodb --picture samples.png --wav samples

CORPORA is a folder with one folder a corpus. One generator is trained for each corpus, loss and seed; every set drawn
from it and every row beside it is measured once and kept in --out, so an interrupted table goes on. JSON is printed on
stdout and kept in --out/generative.json, the tables are printed on stderr. Test speakers choose nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from distillation_cells import Group, measure_common, measure_group
from distillation_runs import Request, read, update
from distillation_tables import Sheet
from generative_cells import LOSSES, Cell, Draw, Opened, measure_draw, measure_generator, open_cell, real_and_sampled
from generative_pictures import samples_picture, write_sounds
from generative_speakers import speaker_row
from rich.console import Console

from edgeser.config.settings import STEPS, Settings
from edgeser.errors import EdgeserError, SettingsError
from edgeser.evaluation.intervals import deviation, with_deviation
from edgeser.report.pictures import check_picture, save
from edgeser.workers import Workers
from edgeser_device.machine import available_cores, describe_machine
from edgeser_export.utilities.files import write_json

ROWS = ("full", "full_best", "random", "random_soft", "random_bank")
SHARES = ("0.056", "0.112")
"""The paper's shares of the training items."""
POINTS = ("50", "100")
"""The paper's points a class; random clips end at the size of a class."""
DRAWS = (
    *(Draw(budget) for budget in (*SHARES, *POINTS)),
    *(Draw(budget, labels="soft") for budget in SHARES),
    Draw("0.056", ratio="original"),
    Draw("50", ratio="original"),
    Draw("50", fresh=True),
    Draw("50", ratio="original", fresh=True),
)
ABLATED = (Draw("0.056"), Draw("50"))
"""What is drawn from the generators of the ablation, where --sets does not leave it out."""


def main() -> None:
    """Measure what is missing and print the tables."""
    arguments = parser().parse_args()
    try:
        if arguments.picture:
            check_picture(arguments.picture)
        request = request_of(arguments)
        draws = draws_of(arguments.sets)
        asked = arguments.corpora_names, arguments.distillations, arguments.ablation, draws, arguments.beside
        result = measure(*asked, request)
        if arguments.picture or arguments.wav:
            opened = open_cell(Cell(arguments.corpora_names[0], "all", 0), request)
            illustrate(opened, arguments.picture, arguments.wav)
    except EdgeserError as error:
        sys.exit(f"error: {error.message}\nhint: {error.hint}")
    print(json.dumps(result, indent=2))
    console = Console(stderr=True, width=None if sys.stderr.isatty() else 180, highlight=False)
    for sheet in sheets_of(result):
        console.print(sheet.rich())


def measure(
    corpora: Sequence[str],
    distillations: int,
    ablation: int,
    draws: Sequence[Draw],
    budgets: Sequence[str],
    request: Request,
) -> dict[str, Any]:
    """All figures as one JSON object, kept after each corpus."""
    found: dict[str, Any] = {"machine": describe_machine(), "seeds": request.seeds, "corpora": {}}
    for corpus in corpora:
        cells = [open_cell(Cell(corpus, "all", seed), request) for seed in range(distillations)]
        found["corpora"][corpus] = {
            "sets": {draw.name: together([measure_draw(cell, draw, request) for cell in cells]) for draw in draws},
            "beside": {budget: beside(corpus, budget, request) for budget in budgets},
            "ablation": {loss: ablated(corpus, loss, ablation, draws, request) for loss in LOSSES if ablation},
            "generator": measure_generator(cells[0], request),
            "speakers": {budget: speakers(cells[0], Draw(budget), request) for budget in (SHARES[0], POINTS[0])},
        }
        write_json(request.out / "generative.json", found)
    return found


def beside(corpus: str, budget: str, request: Request) -> dict[str, Any]:
    """Rows on real clips and the default method, at the same budget."""
    group = Group(corpus, budget, Settings.method, "", "edgenet", 1.0, 1)
    rows = measure_common(group.settings(0, request), request)["rows"]
    kept = {row: {key: figures[key] for key in ("uar_mean", "uar_std", "uar")} for row, figures in rows.items()}
    return {**kept, Settings.method: together(measure_group(group, request))}


def ablated(corpus: str, loss: str, distillations: int, draws: Sequence[Draw], request: Request) -> dict[str, Any]:
    """The sets of the ablation's line, of those that are measured."""
    cells = [open_cell(Cell(corpus, loss, seed), request) for seed in range(distillations)]
    return {
        draw.name: together([measure_draw(cell, draw, request) for cell in cells]) for draw in ABLATED if draw in draws
    }


def speakers(opened: Opened, draw: Draw, request: Request) -> dict[str, Any]:
    """The row on speakers, kept in the generator's folder; one that was scored on other clips is measured again."""
    path = opened.cell.folder(request) / "speakers.json"
    if "scored" not in read(path).get(draw.name, {}):
        update(path, draw.name, speaker_row(opened, draw, int(request.overrides.get("steps", STEPS))))
    return dict(read(path)[draw.name])


def together(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Several generators in one line: UAR over all trainings, and each generator's mean."""
    every = [value for cell in cells for value in cell["uar"]]
    dev = float(np.mean([cell["dev_uar_mean"] for cell in cells]))
    means = [float(np.mean(cell["uar"])) for cell in cells]
    own = {key: cells[0][key] for key in ("items", "share", "bytes") if key in cells[0]}
    return {
        **own,
        "uar_mean": float(np.mean(every)),
        "uar_std": deviation(every),
        "dev_uar_mean": dev,
        "generators": means,
    }


def illustrate(opened: Opened, picture: Path | None, sounds: Path | None) -> None:
    """The picture, and the sounds, that were asked for."""
    real, sampled = real_and_sampled(opened, 4)
    names, frontend = opened.bench.distilled.names, opened.bench.distilled.frontend
    if picture is not None:
        save(samples_picture(real, sampled, names, frontend), picture)
    if sounds is not None:
        write_sounds(real, sampled, names, frontend, sounds)


def sheets_of(result: Mapping[str, Any]) -> list[Sheet]:
    """The tables in words."""
    sheets = []
    for corpus, found in result["corpora"].items():
        full = next((rows["full"]["uar_mean"] for rows in found["beside"].values() if "full" in rows), None)
        size, made = found["generator"]["corpus_bytes"], found["generator"]
        lines = [
            (name, f"{row['share']:.1%}", uar(row), ratio(row, full), *weight(row["bytes"], size))
            for name, row in found["sets"].items()
        ]
        lines.append(
            ("generator and experts", "", "", "", *weight(made["generator_bytes"] + made["expert_bytes"], size))
        )
        for budget, rows in found["beside"].items():
            lines += [(f"{name} ({budget})", "", uar(row), ratio(row, full), "", "") for name, row in rows.items()]
        titles = ("set", "share", "UAR", "ratio", "size", "storage saved")
        saved = f"training saved against full_best, in steps: {made['training_saved']:.0%}"
        sheets.append(Sheet(f"{corpus}: UAR on test speakers; {saved}", titles, lines, 1))
        ablation = [(loss, *(uar(row) for row in rows.values())) for loss, rows in found["ablation"].items()]
        if ablation:
            titles = ("losses", *next(iter(found["ablation"].values())))
            sheets.append(Sheet(f"{corpus}: ablation", titles, ablation, 1))
        told = [(name, *speaker_cells(row)) for name, row in found["speakers"].items()]
        sheets.append(Sheet(f"{corpus}: what items tell of speakers", SPEAKER_TITLES, told, 1))
    return sheets


SPEAKER_TITLES = (
    "points", "log-mels", "chance", "real clips", "confidence: sampled", "lent clips", "scored clips",
    "retrained on: sampled", "lent clips",
)  # fmt: skip


def speaker_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """One line of the table of speakers."""
    shares = (row["chance"], row["real"], *row["applied"].values(), *row["retrained"].values())
    return str(row["items"]), *(f"{share:.2f}" for share in shares)


def weight(size: int, corpus: int) -> tuple[str, str]:
    """Bytes, and what they save of the recordings."""
    return f"{size / 1000:.0f} kB", f"{1 - size / corpus:.1%}"


def uar(row: Mapping[str, Any]) -> str:
    """Mean and standard deviation."""
    return with_deviation(row["uar_mean"], row.get("uar_std"))


def ratio(row: Mapping[str, Any], full: float | None) -> str:
    """To full data."""
    return f"{row['uar_mean'] / full:.2f}" if full else ""


def draws_of(names: Sequence[str]) -> tuple[Draw, ...]:
    """The sets of these names; all where none is named.

    Raises:
        SettingsError: There is no such set.
    """
    known = {draw.name: draw for draw in DRAWS}
    for name in names:
        if name not in known:
            raise SettingsError(f"there is no set {name!r}", f"known are: {', '.join(known)}")
    return tuple(draw for name, draw in known.items() if name in names or not names)


def request_of(arguments: argparse.Namespace) -> Request:
    """What was asked.

    Raises:
        SettingsError: A setting is not understood.
    """
    from distillation import parse_setting

    if not arguments.corpora_names:
        raise SettingsError("no corpus is named", "give --corpora ravdess emodb urdu")
    overrides = dict(parse_setting(text) for text in arguments.settings)
    workers = Workers(arguments.jobs)
    return Request(
        arguments.corpora, arguments.out.resolve(), arguments.seeds, arguments.seeds, ROWS, overrides, workers
    )


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("corpora", type=Path, metavar="CORPORA", help="folder with one folder a corpus")
    made.add_argument("--out", type=Path, default=Path("runs/generative"), metavar="DIR")
    made.add_argument(
        "--corpora", dest="corpora_names", nargs="+", default=["ravdess", "emodb", "urdu"], metavar="NAME"
    )
    made.add_argument("--beside", nargs="*", default=list(SHARES), metavar="SHARE", help="budgets of real rows")
    made.add_argument("--seeds", type=int, default=5, help="trainings of each row")
    made.add_argument("--distillations", type=int, default=2, help="generators of each corpus")
    made.add_argument(
        "--ablation", type=int, default=1, help="generators of each line of the ablation; 0 leaves it out"
    )
    made.add_argument("--sets", nargs="+", default=[], metavar="NAME", help='measure these only: "0.056 bank balanced"')
    made.add_argument("--settings", nargs="+", default=[], metavar="KEY=VALUE", help="of all runs")
    made.add_argument("--picture", type=Path, metavar="FILE", help="draw sampled items beside clips")
    made.add_argument("--wav", type=Path, metavar="DIR", help="render them as sound (Griffin and Lim)")
    made.add_argument("--jobs", type=int, default=available_cores(), help="trainings side by side")
    return made


if __name__ == "__main__":
    main()
