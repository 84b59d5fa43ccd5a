"""What sampled items tell of the training speakers: the first row of an audit, not the audit.

The training clips of every speaker are halved. A classifier of speakers learns the first half. ``applied``: how sure it
is of a speaker (the mean largest probability) on sampled items, on a real subset and on the other half. ``retrained``:
accuracy on the other half of a classifier that learns sampled items, or as many real clips, as the first one labels
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from generative_cells import Draw, Opened, assignment_of
from numpy.typing import NDArray

from edgeser.distill.gan import items as generated_items
from edgeser.network import infer
from edgeser.rows import REAL_CLIPS
from edgeser.students import build, initial_weights
from edgeser.training import Arrays, train_on_clips
from edgeser_export.graph import Graph


def speaker_row(opened: Opened, draw: Draw, steps: int) -> dict[str, Any]:
    """The figures of one set of sampled items against as many real clips; 0 to 1."""
    task = opened.bench.task
    names, speakers = np.unique(task.speakers, return_inverse=True)
    first, other = halves(speakers)
    graph = build("edgenet", len(names), 1.0, task.graph.input_shape)
    judge = learn(graph, task.clips[first], np.eye(len(names), dtype=np.float32)[speakers[first]], steps)
    sampled = generated_items(assignment_of(opened.bench.assignment, draw), opened.state)[:, None]
    real = task.clips[np.random.default_rng(0).permutation(first)[: len(sampled)]]
    seen = {"sampled": sampled, "real_subset": real, "other_half": task.clips[other]}
    retrained = {}
    for name in ("sampled", "real_subset"):
        pupil = learn(graph, seen[name], probabilities(graph, judge, seen[name]), steps)
        retrained[name] = accuracy(graph, pupil, task.clips[other], speakers[other])
    return {
        "chance": 1 / len(names),
        "speakers": len(names),
        "items": len(sampled),
        "real": accuracy(graph, judge, task.clips[other], speakers[other]),
        "applied": {name: float(probabilities(graph, judge, x).max(1).mean()) for name, x in seen.items()},
        "retrained": retrained,
    }


def halves(speakers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the two halves of every speaker's clips."""
    random = np.random.default_rng(0)
    own = [random.permutation(np.flatnonzero(speakers == number)) for number in np.unique(speakers)]
    return np.concatenate([each[::2] for each in own]), np.concatenate([each[1::2] for each in own])


def learn(graph: Graph, x: NDArray[np.float32], labels: NDArray[np.float32], steps: int) -> Arrays:
    """A classifier of speakers."""
    schedule = replace(REAL_CLIPS, steps=steps)
    start = initial_weights(graph, 0)
    return train_on_clips(graph, start, torch.from_numpy(x), torch.from_numpy(labels), schedule, seed=0)


def probabilities(graph: Graph, weights: Mapping[str, NDArray[np.float32]], x: NDArray[np.float32]) -> NDArray[Any]:
    """Of the speakers, float32 (items, speakers)."""
    return torch.from_numpy(infer(graph, weights, x)).softmax(1).numpy()


def accuracy(
    graph: Graph, weights: Mapping[str, NDArray[np.float32]], x: NDArray[np.float32], truth: NDArray[np.int64]
) -> float:
    """Share of clips whose speaker is found."""
    return float((infer(graph, weights, x).argmax(1) == truth).mean())
