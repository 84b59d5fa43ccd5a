"""What generated vectors are worth: the same dense student trained on them, on all real vectors, and on random ones.

result = evaluate_vectors(run, seeds=(0, 1, 2, 3, 4))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgeser.errors import RunError
from edgeser.evaluate import summary
from edgeser.rows import REAL_CLIPS, ensemble_score
from edgeser.run import Run
from edgeser.scoring import Clips, Score, score
from edgeser.training import Arrays, train_on_clips
from edgeser.vectors.pipeline import (
    MIXING,
    Material,
    describe_vectors,
    label_vectors,
    prepare_vectors,
    read_set,
    require_same_vectors,
    with_experts,
)
from edgeser.workers import one_thread
from edgeser_device.machine import describe_machine
from edgeser_device.progress import progress_bar
from edgeser_export.files import write_json

Given = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Vectors (items, D) and soft labels (items, classes)."""


def evaluate_vectors(run: Run, seeds: Sequence[int], folder: str = "") -> dict[str, Any]:
    """Measure a run of vectors on dev and test speakers, and write its metrics.json.

    Args:
        run: A finished run.
        seeds: One training for each, in every row.
        folder: Where the file of vectors is now, if it was moved.

    Raises:
        RunError: The run is not finished, or the file has other vectors than when it was made.
        EdgeserError: The file is gone, or does not fit any more.
    """
    if not run.is_finished:
        raise RunError(f"the run {run.folder} is not finished", "go on with it: edgeser distill --resume")
    own, kept = run.settings(), read_set(run)
    material = prepare_vectors(replace(own, folder=folder or own.folder))
    require_same_vectors(run, describe_vectors(material))
    with one_thread():
        material = replace(material, assignment=with_experts(material.assignment))
        rows = rows_of(material, kept)
        parts = [clips_of(material, part) for part in ("dev", "test")]
        found: dict[str, Any] = {}
        with progress_bar("evaluate", len(rows) * len(seeds)) as advance:
            for name, row in rows.items():
                scores = []
                for seed in seeds:
                    student = train(material, row(seed), seed)
                    scores.append(tuple(score(material.assignment.task.graph, student, part) for part in parts))
                    advance(len(found) * len(seeds) + len(scores), f"{name}: {scores[-1][1].uar:.3f}")
                found[name] = summary([pair_of(each) for each in scores], material.assignment.names)
    result = result_of(run, material, found, seeds)
    write_json(run.folder / "metrics.json", result)
    return result


def rows_of(material: Material, kept: Mapping[str, NDArray[Any]]) -> dict[str, Callable[[int], Given]]:
    """What each row trains on, given the seed."""
    task, assignment = material.assignment.task, material.assignment
    real = task.clips[:, :, 0, 0]

    def random(seed: int) -> NDArray[np.int64]:
        chosen = np.random.default_rng([seed, 0xC1])
        counts = np.bincount(assignment.classes, minlength=task.classes)
        of_class = [np.flatnonzero(task.labels == number) for number in range(task.classes)]
        return np.concatenate([chosen.permutation(own)[:count] for own, count in zip(of_class, counts, strict=True)])

    def random_hard(seed: int) -> Given:
        return real[random(seed)], task.hard_labels[random(seed)]

    def random_soft(seed: int) -> Given:
        chosen = random(seed)
        return real[chosen], label_vectors(soft(assignment), real[chosen], task.labels[chosen])

    return {
        "full": lambda _seed: (real, task.hard_labels),
        "full_soft": lambda _seed: (real, label_vectors(soft(assignment), real, task.labels)),
        "distilled": lambda _seed: (kept["items"], kept["soft_labels"].astype(np.float32)),
        "random": random_hard,
        "random_soft": random_soft,
    }


def soft(assignment: Any) -> Any:
    """The assignment whose labels are the experts', whatever the run's are."""
    return replace(assignment, settings=replace(assignment.settings, labels="soft"))


def train(material: Material, given: Given, seed: int) -> Arrays:
    """One student from the run's fixed initialisation."""
    settings, task = material.assignment.settings, material.assignment.task
    schedule = replace(REAL_CLIPS, steps=settings.steps, batch=settings.batch)
    x, labels = torch.from_numpy(given[0][:, :, None, None].copy()), torch.from_numpy(np.array(given[1]))
    return train_on_clips(task.graph, material.assignment.init, x, labels, schedule, seed, MIXING)


def clips_of(material: Material, part: str) -> Clips:
    """A part as the scoring functions want it: a window an utterance."""
    x, labels = material.part(part)
    return Clips(x, np.arange(len(x)), labels, material.assignment.task.classes)


def pair_of(scores: tuple[Score, ...]) -> tuple[Score, Score]:
    """Of dev and test."""
    return scores[0], scores[1]


def result_of(run: Run, material: Material, found: Mapping[str, Any], seeds: Sequence[int]) -> dict[str, Any]:
    """The JSON object of ``edgeser evaluate --json``, with the keys that vectors have."""
    description = run.description()
    test = clips_of(material, "test")
    reached, whole = found["distilled"]["uar_mean"], found["full"]["uar_mean"]
    return {
        "full": found["full"],
        "full_best": None,
        "full_soft": found["full_soft"],
        "distilled": {
            **found["distilled"],
            "ratio": reached / whole,
            "share": description["budget"]["share"],
            "ipc": description["budget"]["ipc"],
            "bytes": Path(run.folder / "distilled.safetensors").stat().st_size,
        },
        "init": {"uar": score(material.assignment.task.graph, material.assignment.init, test).uar},
        "experts": {
            "uar": ensemble_score(material.assignment.ensemble, test).uar,
            "members": len(material.assignment.ensemble.members),
        },
        "baselines": {name: found[name] for name in ("random", "random_soft")},
        "transfer": {},
        "convergence": None,
        "split": material.split.describe(),
        "seeds": list(seeds),
        "student": description["student"],
        "method": description["method"],
        "edgeser": description["edgeser"],
        "machine": describe_machine(),
    }
