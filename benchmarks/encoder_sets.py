"""Sets distilled of a pretrained encoder's vectors: several budgets, methods and distillations, beside all clips.

    python benchmarks/encoder_sets.py CORPORA --out runs/encoder --corpora ravdess emodb --methods herding kcenter

CORPORA is a folder with one folder a corpus. Finished runs and evaluations in --out are used again, so an interrupted
table goes on. JSON is printed on stdout and kept in --out/encoder_sets.json, the table on stderr; --markdown writes a
page. Test speakers choose nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from distillation_tables import Sheet
from rich.console import Console

from edgeser.config.values import settings_of
from edgeser.distill.pipeline import distill
from edgeser.evaluation.evaluate import Plan, evaluate
from edgeser.evaluation.intervals import deviation, with_deviation
from edgeser.run import Run
from edgeser.workers import Workers
from edgeser_device.machine import available_cores, describe_machine, machine_words
from edgeser_export.utilities.errors import EdgeserError
from edgeser_export.utilities.files import write_bytes, write_json

BUDGETS: Mapping[str, tuple[int, ...]] = {"ravdess": (2, 6, 16), "emodb": (1, 2, 5)}
"""Items a class; of RAVDESS 1.9, 5.7 and 15.2 % of the training clips, of EMO-DB 3.1, 6.2 and 15.6 %."""
OTHERS = (1, 2, 5)
"""Items a class of other corpora."""
CAPTION = (
    "Each distillation has a seed of its own, which its training, its random clips and the training on all clips "
    "share: figures are mean ± standard deviation over them. `full` trains the same student for as many steps on all "
    "training clips with hard labels, `random` on as many random clips with hard labels, `random_bank` on random clips "
    "with a label bank."
)
ROWS = ("full", "distilled", "random", "random_bank")


def main() -> None:
    """Measure what is missing and print the table."""
    arguments = parser(__doc__).parse_args()
    try:
        result = {
            name: {
                f"{method}, {ipc}": measure(name, arguments.split, method, ipc, arguments)
                for method in arguments.methods
                for ipc in arguments.ipc or BUDGETS.get(name, OTHERS)
            }
            for name in arguments.corpora_names
        }
    except EdgeserError as error:
        sys.exit(f"error: {error.message}\nhint: {error.hint}")
    publish(result, sheet(result), arguments, Path(__file__).stem, CAPTION)


def measure(name: str, split: str, method: str, ipc: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """The rows of one corpus, split, method and budget, over all distillations and trainings."""
    every: dict[str, list[float]] = {row: [] for row in ROWS}
    dev: dict[str, list[float]] = {row: [] for row in ROWS}
    for seed in range(arguments.distillations):
        result = measure_run(name, split, method, ipc, seed, arguments)
        rows = {**result, **result["baselines"]}
        for row in ROWS:
            every[row] += rows[row]["uar"]
            dev[row].append(rows[row]["dev_uar_mean"])
    found = {row: {**summed(every[row]), "dev_uar_mean": float(np.mean(dev[row]))} for row in ROWS}
    return {"split": result["split"]["name"], "rows": found, **{key: result[key] for key in ("machine", "student")}}


def measure_run(
    name: str, split: str, method: str, ipc: int, seed: int, arguments: argparse.Namespace
) -> dict[str, Any]:
    """The evaluation of one run, which is made where it is missing; each run has seeds of its own for its trainings."""
    kind = "" if arguments.labels == "bank" else f"-{arguments.labels}"
    folder = arguments.out / f"{name}-{(split or 'quick').replace(':', '')}-{method}-{ipc}{kind}-{seed}"
    values: dict[str, Any] = {"corpus": name, "encoder": arguments.encoder, "method": method, "ipc": ipc, "seed": seed}
    values["labels"] = arguments.labels
    if name != "demo":
        values["folder"] = str((arguments.corpora / name).resolve())
    if split:
        values["split"] = split
    seeds = tuple(range(seed * arguments.seeds, (seed + 1) * arguments.seeds))
    plan, workers, run = Plan(seeds, ROWS), Workers(arguments.jobs), Run(folder)
    measured = run.metrics() if run.is_finished else None
    if measured and measured["seeds"] == list(seeds) and measured["full"]:
        return measured
    begun = (folder / "config.toml").is_file()
    return evaluate(distill(settings_of(values), folder, workers, resume=begun, warn=say), plan, workers)


def say(text: str) -> None:
    """Tell what was decided, on stderr."""
    print(text, file=sys.stderr)


def summed(values: Sequence[float]) -> dict[str, float | None]:
    """Mean and standard deviation over all trainings."""
    return {"uar_mean": float(np.mean(values)), "uar_std": deviation(values), "trainings": len(values)}


def publish(result: Mapping[str, Any], table: Sheet, arguments: argparse.Namespace, name: str, caption: str) -> None:
    """Write the result to --out, print it and the table, and write the page that --markdown names."""
    write_json(arguments.out / f"{name}.json", result)
    print(json.dumps(result, indent=2))
    Console(stderr=True, width=None if sys.stderr.isatty() else 160).print(table.rich())
    if arguments.markdown:
        words = f"Measured on {machine_words(describe_machine())}, with `benchmarks/{name}.py`. {caption}"
        head = f"<!-- generated by benchmarks/{name}.py --markdown: run that again, do not edit -->"
        page = "\n\n".join((head, f"# {table.title}", words, table.markdown()))
        write_bytes(arguments.markdown, f"{page}\n".encode())


def sheet(result: Mapping[str, Any]) -> Sheet:
    """The table in words."""
    lines = [
        (name, words, *(with_deviation(row["uar_mean"], row["uar_std"]) for row in found["rows"].values()))
        for name, by_set in result.items()
        for words, found in by_set.items()
    ]
    return Sheet(
        "Sets of encoder vectors: UAR on the test speakers", ("corpus", "method, items a class", *ROWS), lines, 2
    )


def parser(words: str | None) -> argparse.ArgumentParser:
    """The command line that the tables of encoders share."""
    made = argparse.ArgumentParser(description=words, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("corpora", type=Path, nargs="?", default=Path(), help="folder with one folder a corpus")
    made.add_argument("--out", type=Path, default=Path("runs/encoder"), metavar="DIR")
    made.add_argument("--corpora", dest="corpora_names", nargs="+", default=["ravdess", "emodb"], metavar="NAME")
    made.add_argument("--encoder", default="smart-turn-2", metavar="NAME", help="encoder that edgeser encoder has")
    made.add_argument("--methods", nargs="+", default=["kip"], metavar="NAME")
    made.add_argument("--ipc", type=int, nargs="*", default=[], help="items a class instead of the usual budgets")
    made.add_argument("--labels", default="bank", choices=("hard", "soft", "bank"), help="labels of the sets")
    made.add_argument("--split", default="", help="split of the corpora; each one's own by default")
    made.add_argument("--seeds", type=int, default=1, help="trainings of each row in each run")
    made.add_argument("--distillations", type=int, default=5, help="runs of each method and budget")
    made.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there too")
    made.add_argument("--jobs", type=int, default=available_cores(), help="trainings side by side")
    return made


if __name__ == "__main__":
    main()
