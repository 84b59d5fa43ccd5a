"""The generative distiller on vectors of utterances: log-mel statistics, a dense student, the shares of the paper.

    python benchmarks/vectors.py CORPORA --out runs/vectors --corpora emodb ravdess --seeds 5
    python benchmarks/vectors.py --file wavlm.npz --out runs/vectors

Without --file the vectors are mean, standard deviation, ninetieth percentile and spread of the differences of every mel
band of a clip. Several generators a share, each with trainings of its own. JSON is printed on stdout and kept in
--out/vectors.json, the table on stderr. Test speakers choose nothing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from distillation_tables import Sheet
from numpy.typing import NDArray
from rich.console import Console

from edgeser.config.values import settings_of
from edgeser.corpora.splits import make_split
from edgeser.corpora.table import load_corpus
from edgeser.distill.pipeline import distill
from edgeser.errors import EdgeserError
from edgeser.evaluation.evaluate import Plan, evaluate
from edgeser.evaluation.intervals import deviation, with_deviation
from edgeser.representation.logmel import LogMelPart, extract
from edgeser.representation.vector_file import CORPUS
from edgeser.workers import Workers
from edgeser_device.frontend import FrontendSpec
from edgeser_export.utilities.files import write_json

SHARES = (0.056, 0.112)
"""The paper's shares of the training items."""
ROWS = ("full", "full_soft", "distilled", "random", "random_soft", "random_bank")


def main() -> None:
    """Measure and print the table."""
    arguments = parser().parse_args()
    try:
        files = {arguments.file.stem: arguments.file} if arguments.file else {}
        for name in () if arguments.file else arguments.corpora_names:
            files[name] = write_statistics(name, arguments.corpora, arguments.out / f"{name}.npz")
        result = {name: measure(file, arguments) for name, file in files.items()}
    except EdgeserError as error:
        sys.exit(f"error: {error.message}\nhint: {error.hint}")
    write_json(arguments.out / "vectors.json", result)
    print(json.dumps(result, indent=2))
    Console(stderr=True, width=None if sys.stderr.isatty() else 160).print(sheet(result).rich())


def measure(file: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """The rows of one file at every share, over all generators and trainings."""
    found: dict[str, Any] = {}
    for share in SHARES:
        every: dict[str, list[float]] = {row: [] for row in ROWS}
        for seed in range(arguments.distillations):
            folder = arguments.out / f"{file.stem}-{share:g}-{seed}"
            shutil.rmtree(folder, ignore_errors=True)
            own = settings_of({"corpus": CORPUS, "folder": str(file.resolve()), "share": share, "seed": seed})
            workers = Workers.all_cores()
            run = distill(own, folder, workers, resume=False, warn=print)
            result = evaluate(run, Plan(tuple(range(arguments.seeds)), ROWS), workers)
            rows = {**result, **result["baselines"]}
            for row in ROWS:
                every[row] += rows[row]["uar"]
        found[f"{share:g}"] = {"ipc": result["distilled"]["ipc"], "rows": {row: summed(every[row]) for row in ROWS}}
        found["machine"], found["split"] = result["machine"], result["split"]["name"]
    return found


def summed(values: Sequence[float]) -> dict[str, float | None]:
    """Mean and standard deviation over all trainings."""
    return {"uar_mean": float(np.mean(values)), "uar_std": deviation(values), "trainings": len(values)}


def write_statistics(name: str, corpora: Path, out: Path) -> Path:
    """A file of vectors: statistics of the log-mels of a corpus's clips."""
    corpus = load_corpus(name, None if name == "demo" else corpora / name)
    split = make_split(corpus)
    features = extract(corpus, split, FrontendSpec(), Workers(1))
    parts = [part for part in (features.train, features.dev, features.test) if isinstance(part, LogMelPart)]
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        out,
        features=np.stack([statistics(levels) for part in parts for levels in part.levels]),
        labels=np.array([corpus.labels[label] for part in parts for label in part.labels]),
        speakers=np.array([speaker for part in parts for speaker in part.speakers]),
    )
    return out


def statistics(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of a log-mel (mels, frames): float32 (4 x mels,)."""
    changes = np.diff(levels, axis=1)
    columns = (levels.mean(1), levels.std(1), np.percentile(levels, 90, axis=1), changes.std(1))
    return np.concatenate(columns).astype(np.float32)


def sheet(result: Mapping[str, Any]) -> Sheet:
    """The table in words."""
    lines = [
        (
            name,
            share,
            str(found["ipc"]),
            *(with_deviation(row["uar_mean"], row["uar_std"]) for row in found["rows"].values()),
        )
        for name, shares in result.items()
        for share, found in shares.items()
        if isinstance(found, Mapping) and "rows" in found
    ]
    return Sheet("vectors: UAR on test speakers", ("file", "share", "a class", *ROWS), lines, 1)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("corpora", type=Path, nargs="?", default=Path(), help="folder with one folder a corpus")
    made.add_argument("--file", type=Path, help="vectors that were computed elsewhere")
    made.add_argument("--out", type=Path, default=Path("runs/vectors"), metavar="DIR")
    made.add_argument("--corpora", dest="corpora_names", nargs="+", default=["emodb"], metavar="NAME")
    made.add_argument("--seeds", type=int, default=5, help="trainings of each row")
    made.add_argument("--distillations", type=int, default=2, help="generators of each share")
    return made


if __name__ == "__main__":
    main()
