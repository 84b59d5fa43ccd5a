"""The cross-corpus table: the student of each run on the other runs' corpora, the set against all real clips.

    python benchmarks/cross_corpus.py runs/ravdess runs/emodb runs/urdu --seeds 5 --map ravdess:calm=neutral

A row is a pair: what was learnt on, what was listened to. The figures are kept in each run's metrics.json under
``cross_corpus``; what is there already is not measured again, and the students of a run are trained once for all other
corpora. Corpora lie where the runs found them; ``--corpora`` names another folder with one folder a corpus. JSON is
printed on stdout, the table on stderr.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distillation_runs import say
from distillation_tables import CONFOUNDED, Sheet
from rich.console import Console

from edgeser.across import Other, keep_entries, measure_across, open_other
from edgeser.errors import EdgeserError, SettingsError
from edgeser.evaluate import Plan, evaluate
from edgeser.run import Run
from edgeser.tables import map_words, with_interval
from edgeser.workers import Workers
from edgeser_device.machine import available_cores
from edgeser_export.files import write_bytes


def main() -> None:
    """Measure what is missing and print the table."""
    arguments = parser().parse_args()
    try:
        result = measure(
            [Run(folder) for folder in arguments.runs],
            arguments.seeds,
            arguments.map,
            arguments.corpora,
            Workers(arguments.jobs),
        )
        if arguments.markdown:
            write_bytes(arguments.markdown, f"{sheet_of(result).markdown()}\n".encode())
    except EdgeserError as error:
        sys.exit(f"error: {error.message}\nhint: {error.hint}")
    print(json.dumps(result, indent=2))
    Console(stderr=True, width=None if sys.stderr.isatty() else 160, highlight=False).print(sheet_of(result).rich())


def measure(
    runs: Sequence[Run], seeds: int, maps: Sequence[str], corpora: Path | None, workers: Workers
) -> dict[str, Any]:
    """All ordered pairs of the runs' corpora as a JSON object.

    Args:
        runs: Finished runs of different corpora.
        seeds: Trainings of each row.
        maps: CORPUS:OURS=THEIRS, changes of the label maps of the run of that corpus.
        corpora: Folder with one folder a corpus; None where the runs found theirs.
        workers: Where students are trained.

    Raises:
        SettingsError: Two runs are of one corpus.
        EdgeserError: As :func:`edgeser.across.open_other` and :func:`edgeser.across.measure_across`.
    """
    found = {}
    for run in runs:
        name = run.description()["corpus"]["name"]
        if name in found:
            raise SettingsError(f"two runs are of {name}", "give one run for each corpus")
        found[name] = run
    pairs = []
    for name, run in found.items():
        others = [other for other in found if other != name]
        missing = [other for other in others if not known(run, other, seeds)]
        if missing:
            say(f"{name} on {', '.join(missing)}")
            own = str(corpora / name) if corpora else ""
            if run.metrics() is None:
                evaluate(run, Plan(tuple(range(seeds)), ("distilled", "full")), workers, own)
            given = [text.partition(":")[2] for text in maps if text.startswith(f"{name}:")]
            heard = [open_from(run, found[other], other, given, corpora, workers) for other in missing]
            keep_entries(run, measure_across(run, heard, range(seeds), workers, own))
        pairs += [pair_of(run, name, known(run, other, seeds)) for other in others]
    return {"pairs": pairs, "seeds": list(range(seeds)), "varies": "order of training"}


def known(run: Run, other: str, seeds: int) -> dict[str, Any]:
    """What was measured of a run on another corpus with these seeds; empty where nothing was."""
    entries = (run.metrics() or {}).get("cross_corpus") or []
    wanted = list(range(seeds))
    return next((entry for entry in entries if entry["corpus"] == other and entry["seeds"] == wanted), {})


def open_from(run: Run, source: Run, name: str, given: Sequence[str], corpora: Path | None, workers: Workers) -> Other:
    """The corpus of another run, as this run's student hears it; changes of the map that do not apply are left out."""
    theirs = source.description()["labels"]
    fitting = [text for text in given if text.partition("=")[2] in ("", *theirs)]
    settings = source.settings()
    folder = corpora / name if corpora else Path(settings.folder) if settings.folder else None
    return open_other(run, name, folder, fitting, workers)


def pair_of(run: Run, name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """One line of the table."""
    description = run.description()
    return {
        "learnt_on": name,
        "method": description["method"],
        "ipc": description["budget"]["ipc"],
        "share": description["budget"]["share"],
        "own": {row: figures(run, row) for row in ("distilled", "full")},
        **entry,
    }


def figures(run: Run, row: str) -> dict[str, Any] | None:
    """UAR on the run's own test speakers, where it was measured."""
    found = (run.metrics() or {}).get(row)
    return None if found is None else {key: found[key] for key in ("uar_mean", "uar_std")}


def sheet_of(result: Mapping[str, Any]) -> Sheet:
    """The table for people; corpora in which who speaks gives the emotion away stand last and are marked."""
    columns = ("learnt on", "listens to", "shared", "clips", "speakers", "chance", "distilled", "full", "ratio", "cost")
    pairs = sorted(result["pairs"], key=lambda pair: bool({pair["learnt_on"], pair["corpus"]} & set(CONFOUNDED)))
    lines = [
        (
            *(f"{name}*" if name in CONFOUNDED else name for name in (pair["learnt_on"], pair["corpus"])),
            map_words(pair["labels"]),
            f"{pair['clips']}",
            f"{pair['speakers']}",
            f"{pair['chance']:.2f}",
            *(
                f"{with_interval(pair[row]['uar_mean'], pair[row])}, ± {pair[row]['uar_std'] or 0:.3f}"
                for row in ("distilled", "full")
            ),
            f"{pair['ratio']:.2f}",
            with_interval(pair["difference"]["value"], pair["difference"], sign="+"),
        )
        for pair in pairs
    ]
    title = f"UAR on all speakers of another corpus, {len(result['seeds'])} seeds"
    return Sheet(title, columns, lines, words=3)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="finished runs, one for each corpus")
    made.add_argument("--corpora", type=Path, metavar="DIR", help="folder with one folder a corpus")
    made.add_argument("--seeds", type=int, default=5, help="trainings of each row")
    made.add_argument(
        "--map", action="append", default=[], metavar="CORPUS:OURS=THEIRS", help="emotions of a run that mean the same"
    )
    made.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there too")
    made.add_argument("--jobs", type=int, default=available_cores(), help="trainings side by side")
    return made


if __name__ == "__main__":
    main()
