"""A run's student in rooms, noise, codecs and at other levels: what is left of its UAR, and how many answers change.

found = measure_robust(run, seeds=(0, 1, 2), workers=Workers(2))
found["room"]["0.5 s"]["uar"], found["relative"]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeser.cache import read_recordings
from edgeser.evaluation.conditions import ROWS, Bench
from edgeser.evaluation.corruptions import CORRUPTIONS, CorruptedReader
from edgeser.evaluation.evaluate import Shelf, open_bench
from edgeser.evaluation.intervals import deviation
from edgeser.evaluation.scoring import Clips, Score, score
from edgeser.representation import representation_of
from edgeser.run import Run
from edgeser.workers import Workers
from edgeser_device.errors import AudioError
from edgeser_device.machine import describe_machine
from edgeser_export.graph.op_graph import Weights
from edgeser_export.utilities.files import write_json
from edgeser_export.utilities.progress import progress_bar

VOICES = 40
"""Training clips from which babble is made."""


def measure_robust(run: Run, seeds: Sequence[int], workers: Workers, folder: str = "") -> dict[str, Any]:
    """Score the student that is trained on a run's set on its test speakers, heard in all ways of ``CORRUPTIONS``.

    Args:
        run: A finished run.
        seeds: One training for each.
        workers: The processes that train and read recordings.
        folder: The present folder of the run's corpus, if it was moved.

    Returns:
        The entry ``robust`` of metrics.json: ``clean``; by kind and level ``uar`` and ``uar_std`` over the seeds and
        ``unchanged``, the share of the answers for clean sound that stay; ``mce``, the mean error, 1 less UAR, over all
        kinds and levels; and ``relative``, that error as a multiple of the one on clean sound.

    Raises:
        SettingsError: The run is of vectors from a file, which no sound has.
        RunError: The run is not finished, or the corpus is not the one that it was made of.
        AudioError: A test recording cannot be heard in one of these ways.
        EdgeserError: The corpus is gone, or does not fit any more.
    """
    settings, distilled, shelf = run.settings(), run.stored_set(), Shelf(workers, folder)
    hears = representation_of(settings).of_run(settings, distilled)
    reader = hears.reader()
    bench, _ = open_bench(run, distilled, shelf)
    features = shelf.take(settings)[0].features
    voices = _spread(tuple(each.path for each in features.train.utterances))
    bench = replace(bench, assignment=replace(bench.assignment, trajectories=()))
    students = list(workers.each(train_one, [(bench, seed) for seed in seeds]))
    clean = [score(bench.task.graph, weights, bench.test) for weights in students]
    utterances, found = features.test.utterances, dict[str, dict[str, Any]]()
    levels = [(kind, level) for kind, row in CORRUPTIONS.items() for level in row]
    with progress_bar("robustness", len(levels)) as advance:
        for done, (kind, level) in enumerate(levels, start=1):
            heard = read_recordings(
                [each.path for each in utterances], CorruptedReader(reader, kind, level, voices), workers
            )
            if wrong := [each for each in heard.values() if isinstance(each, str)]:
                raise AudioError(f"with {kind}, {level}: {wrong[0]}", "leave it out of the corpus")
            maps = tuple(np.asarray(heard[each.path]) for each in utterances)
            clips = Clips.of(hears.part(utterances, features.test.labels, maps), bench.task.classes)
            scores = [score(bench.task.graph, weights, clips) for weights in students]
            found.setdefault(kind, {})[level] = level_entry(scores, clean)
            advance(done, f"{kind}, {level}: {found[kind][level]['uar']:.3f}")
    workers.release()
    return summed(clean, found) | {"seeds": list(seeds), "machine": describe_machine()}


def train_one(bench: Bench, seed: int) -> Weights:
    """The student that is trained on the set with one seed."""
    return ROWS["distilled"](bench, bench.task.graph, bench.assignment.init, seed)


def level_entry(scores: Sequence[Score], clean: Sequence[Score]) -> dict[str, Any]:
    """UAR of one kind and level over the seeds, and the share of answers that are those for clean sound."""
    unchanged = [np.mean(own.predicted == before.predicted) for own, before in zip(scores, clean, strict=True)]
    return {**_uar(scores), "unchanged": float(np.mean(unchanged))}


def summed(clean: Sequence[Score], found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, Any]:
    """The entry of all kinds, with the mean error and its multiple of the clean one; None where that is zero."""
    mean_error = float(np.mean([1 - each["uar"] for row in found.values() for each in row.values()]))
    own = _uar(clean)
    relative = mean_error / (1 - own["uar"]) if own["uar"] < 1 else None
    return {"clean": own, **found, "mce": mean_error, "relative": relative}


def keep_robust(run: Run, found: Mapping[str, Any]) -> dict[str, Any]:
    """Write the entry into the run's metrics.json, in the place of an earlier one; all that stands there."""
    metrics = {**(run.metrics() or {}), "robust": dict(found)}
    write_json(run.folder / "metrics.json", metrics)
    return metrics


def _uar(scores: Sequence[Score]) -> dict[str, Any]:
    values = [each.uar for each in scores]
    return {"uar": float(np.mean(values)), "uar_std": deviation(values)}


def _spread(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    """At most ``VOICES`` of the paths, evenly over all."""
    chosen = np.linspace(0, len(paths) - 1, min(VOICES, len(paths))).round().astype(int)
    return tuple(paths[place] for place in chosen)
