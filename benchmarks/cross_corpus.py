"""The cross-corpus table: the student of each run on the other runs' corpora, the set against all real clips.

    python benchmarks/cross_corpus.py runs/ravdess runs/emodb runs/urdu --seeds 5 --map ravdess:calm=neutral

A row is a pair: what was learnt on, what was listened to. The figures are kept in each run's metrics.json under
``on``; what is there already, of the same recordings, labels and seeds, is not measured again, and the
students of a run are trained once for all other corpora. Corpora lie where the runs found them; ``--corpora`` names
another folder with one folder a corpus. JSON is printed on stdout, the table on stderr.
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

from edgeser.corpora.emotions import plain_name
from edgeser.errors import RunError, SettingsError
from edgeser.evaluation.cross_corpus import Other, keep_entries, label_map, measure_across, open_other
from edgeser.evaluation.evaluate import Plan, evaluate
from edgeser.report.tables import map_words, with_interval
from edgeser.run import Run
from edgeser.workers import Workers
from edgeser_device.machine import available_cores
from edgeser_export.utilities.errors import EdgeserError, choice_hint
from edgeser_export.utilities.files import write_bytes


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
        workers: The processes that train the students.

    Raises:
        SettingsError: Two runs are of one corpus, or a change of a label map fits no pair of them.
        RunError: A corpus is another one than its run was made of.
        EdgeserError: As ``open_other`` and ``measure_across`` of :mod:`edgeser.evaluation.cross_corpus` raise it.
    """
    found = {}
    for run in runs:
        name = run.description()["corpus"]["name"]
        if name in found:
            raise SettingsError(f"two runs are of {name}", "give one run for each corpus")
        found[name] = run
    pairs, changes = [], changes_of(maps, {name: run.description()["labels"] for name, run in found.items()})
    for name, run in found.items():
        others = {other: pair_map(found[other], changes[name]) for other in found if other != name}
        missing = [other for other, given in others.items() if not known(run, found[other], given, seeds)]
        if missing:
            say(f"{name} on {', '.join(missing)}")
            own = str(corpora / name) if corpora else ""
            if run.metrics() is None:
                evaluate(run, Plan(tuple(range(seeds)), ("distilled", "full")), workers, own)
            heard = [open_from(run, found[other], others[other], corpora, workers) for other in missing]
            keep_entries(run, measure_across(run, heard, range(seeds), workers, own))
        pairs += [pair_of(run, name, known(run, found[other], given, seeds)) for other, given in others.items()]
    return {"pairs": pairs, "seeds": list(range(seeds)), "varies": "order of training"}


def changes_of(maps: Sequence[str], labels: Mapping[str, Sequence[str]]) -> dict[str, list[tuple[str, str]]]:
    """Our emotion and theirs, empty to leave ours out, of each change, by the corpus whose run it is for.

    Args:
        maps: CORPUS:OURS=THEIRS each.
        labels: Emotions of each corpus.

    Raises:
        SettingsError: One is not understood, or fits no pair of the corpora.
    """
    found: dict[str, list[tuple[str, str]]] = {name: [] for name in labels}
    for text in maps:
        name, colon, pair = text.partition(":")
        own, sign, their = (plain_name(part) for part in pair.partition("="))
        if not colon or not sign:
            raise SettingsError(f"--map {text} is no change", "write --map CORPUS:OURS=THEIRS")
        if name not in labels:
            raise SettingsError(f"--map {text}: no run is of {name!r}", choice_hint(name, labels))
        if own not in labels[name]:
            raise SettingsError(f"--map {text}: {name} has no emotion {own!r}", choice_hint(own, labels[name]))
        theirs = sorted({label for other, known in labels.items() if other != name for label in known})
        if their and their not in theirs:
            raise SettingsError(f"--map {text}: no other corpus has an emotion {their!r}", choice_hint(their, theirs))
        found[name].append((own, their))
    return found


def pair_map(source: Run, changes: Sequence[tuple[str, str]]) -> list[str]:
    """Changes of the label map, OURS=THEIRS each, that apply to the corpus of a run."""
    theirs = source.description()["labels"]
    return [f"{own}={their}" for own, their in changes if their in ("", *theirs)]


def known(run: Run, source: Run, given: Sequence[str], seeds: int) -> dict[str, Any]:
    """The figures of a run on the corpus of another by this label map with these seeds; empty if there are none."""
    description = source.description()
    wanted = {
        "fingerprint": description["corpus"]["fingerprint"],
        "labels": label_map(run.description()["labels"], description["labels"], given),
        "seeds": list(range(seeds)),
    }
    entries = (run.metrics() or {}).get("on") or []
    return next((entry for entry in entries if {key: entry.get(key) for key in wanted} == wanted), {})


def open_from(run: Run, source: Run, given: Sequence[str], corpora: Path | None, workers: Workers) -> Other:
    """The corpus of another run, as this run's student hears it.

    Raises:
        RunError: It is another one than that run was made of.
        EdgeserError: As :func:`edgeser.evaluation.cross_corpus.open_other`.
    """
    corpus, settings = source.description()["corpus"], source.settings()
    folder = corpora / corpus["name"] if corpora else Path(settings.folder) if settings.folder else None
    other = open_other(run, corpus["name"], folder, given, workers)
    if other.fingerprint != corpus["fingerprint"]:
        raise RunError(
            f"{folder} holds other recordings or emotions than the run {source.folder} was made of",
            "restore the corpus, or distil it again",
        )
    return other


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
                with_interval(pair[row]["uar_mean"], pair[row])
                + ("" if pair[row]["uar_std"] is None else f", ± {pair[row]['uar_std']:.3f}")
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
