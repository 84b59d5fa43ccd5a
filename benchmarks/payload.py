"""What it costs to store items as bytes and labels in 16 bits: students trained on both, compared on the test speakers.

    python benchmarks/payload.py RUN [--seeds 5] [--folder CORPUS]

Writes RUN/payload.json, which ``edgeser pack`` puts into the kit and prints. The unrounded items are those of the run's
checkpoint; the experts of the run label their views anew, in float32. Each seed trains one student on the unrounded set
and one on the stored set, from the same start and in the same order. "agreement" is the share of the test clips that
both name alike; "agreement_seeds" is the same for two students of the stored set whose order differs, as a measure of
what any change does. "agreement_labels" compares the labels' likeliest classes, view by view.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

from edgeser.distill.label_bank import LABELS
from edgeser.evaluation.conditions import Bench
from edgeser.evaluation.evaluate import Shelf, open_bench
from edgeser.evaluation.intervals import deviation
from edgeser.evaluation.scoring import Clips, average_by_clip, probabilities, score_of
from edgeser.models.training import train_on_set
from edgeser.packaging.pack import FILE
from edgeser.run import Run
from edgeser.workers import Workers
from edgeser_device.data.distilled import DistilledSet
from edgeser_device.data.sample_storage import quantise
from edgeser_device.data.schedule import Schedule
from edgeser_device.data.views import Recipes
from edgeser_device.machine import describe_machine
from edgeser_export.utilities.files import write_json


@dataclass(frozen=True)
class Unrounded:
    """What training reads of a distilled set, with items and labels in float32."""

    levels: NDArray[np.float32]
    soft: NDArray[np.float32]
    recipes: Recipes
    schedule: Schedule

    def items(self) -> NDArray[np.float32]:
        """As of a distilled set."""
        return self.levels

    def labels_of(self, indices: NDArray[np.integer]) -> NDArray[np.float32]:
        """As of a distilled set."""
        return cast("NDArray[np.float32]", self.soft[indices])


def unrounded(run: Run, bench: Bench) -> Unrounded:
    """The set of a run before it was rounded."""
    distilled, settings = bench.distilled, bench.assignment.settings
    items = load_file(run.folder / "checkpoint" / "state.safetensors")["items"].astype(np.float32)
    if not np.array_equal(quantise(items)[0], distilled.levels):
        raise SystemExit(f"{run.folder}: the checkpoint's items are not those that were shipped")
    classes = distilled.classes.astype(np.int64)
    labels = LABELS[settings.labels](
        items, classes, distilled.recipes, bench.assignment.ensemble, settings.experts.temperature
    )
    return Unrounded(items, labels, distilled.recipes, distilled.schedule)


def answers(bench: Bench, source: DistilledSet | Unrounded, seed: int) -> tuple[float, NDArray[np.intp]]:
    """UAR of a student on the test speakers, and the class that it gives each of their clips."""
    graph, clips = bench.task.graph, cast("Clips", bench.test)
    weights = train_on_set(graph, bench.assignment.init, cast("DistilledSet", source), seed)
    by_clip = average_by_clip(probabilities(graph, weights, clips.x), clips.owners, len(clips.labels))
    return score_of(by_clip, clips).uar, by_clip.argmax(axis=1)


def measure(run: Run, seeds: range, folder: str) -> dict[str, Any]:
    """The comparison as JSON values."""
    bench, split = open_bench(run, run.distilled(), Shelf(Workers(1), folder))
    before = unrounded(run, bench)
    rows = [(answers(bench, before, seed), answers(bench, bench.distilled, seed)) for seed in seeds]
    for (one, first), (two, second) in rows:
        print(f"UAR {one:.4f} in float32, {two:.4f} as stored; {np.mean(first == second):.1%} alike", flush=True)
    float_uar, stored_uar = (np.array([row[part][0] for row in rows]) for part in (0, 1))
    stored = [row[1][1] for row in rows]
    difference = stored_uar - float_uar
    likeliest = bench.distilled.soft_labels.argmax(axis=1) == before.soft.argmax(axis=1)
    return {
        "uar_float": float(float_uar.mean()),
        "uar_stored": float(stored_uar.mean()),
        "uar_difference": float(difference.mean()),
        "uar_difference_std": deviation(difference.tolist()),
        "agreement": float(np.mean([np.mean(one[1] == two[1]) for one, two in rows])),
        "agreement_seeds": float(np.mean([np.mean(a == b) for a, b in pairwise(stored)])),
        "agreement_labels": float(likeliest.mean()),
        "seeds": list(seeds),
        "test_clips": len(bench.test.labels),
        "split": split["name"],
        "bytes_float": before.levels.nbytes + before.soft.nbytes,
        "bytes_stored": bench.distilled.levels.nbytes + bench.distilled.soft_labels.nbytes,
        "machine": describe_machine(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folder", default="", help="where the corpus is now, if it was moved")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(Run(asked.run), range(asked.seeds), asked.folder)
    write_json(asked.run / FILE, found)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
