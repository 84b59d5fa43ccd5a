"""What sampled items tell of the training speakers: the first row of an audit, not the audit.

The training clips of every speaker are halved. A classifier of speakers, the judge, learns the first half; the other
half it has not heard, and of every speaker half of that is scored and half lent as real clips. Sampled items and lent
clips are as many.

``applied`` is the judge's confidence, the mean of its largest probability, on sampled items, on lent clips and on those
that are scored. It is no accuracy: a sampled item has no speaker, so that no answer is right. ``retrained``: accuracy
on the scored clips of a classifier that learns sampled items, or lent clips, as the judge labels them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from generative_cells import Draw, Opened, assignment_of
from numpy.typing import NDArray

from edgeser.distill.methods.gan import items as generated_items
from edgeser.evaluation.conditions import REAL_CLIPS
from edgeser.models.network import infer
from edgeser.models.students import build
from edgeser.models.training import Arrays, train_on_clips
from edgeser.representation.base import Augmentation
from edgeser_export.graph.initial import initial_weights
from edgeser_export.graph.op_graph import Graph


def speaker_row(opened: Opened, draw: Draw, steps: int) -> dict[str, Any]:
    """The figures of one set of sampled items against as many real clips; 0 to 1."""
    task = opened.bench.task
    names, speakers = np.unique(task.speakers, return_inverse=True)
    sampled = generated_items(assignment_of(opened.bench.assignment, draw), opened.state)[:, None]
    first, lent, scored = parts_of(speakers, len(sampled))
    sampled = sampled[np.sort(np.random.default_rng(1).permutation(len(sampled))[: len(lent)])]
    graph = build("edgenet", len(names), 1.0, task.graph.input_shape)
    judge = learn(graph, task.clips[first], np.eye(len(names), dtype=np.float32)[speakers[first]], steps)
    seen = {"sampled": sampled, "real_subset": task.clips[lent], "other_half": task.clips[scored]}
    retrained = {}
    for name in ("sampled", "real_subset"):
        pupil = learn(graph, seen[name], probabilities(graph, judge, seen[name]), steps)
        retrained[name] = accuracy(graph, pupil, task.clips[scored], speakers[scored])
    return {
        "chance": 1 / len(names),
        "speakers": len(names),
        "items": len(sampled),
        "scored": len(scored),
        "real": accuracy(graph, judge, task.clips[scored], speakers[scored]),
        "applied": {name: float(probabilities(graph, judge, x).max(1).mean()) for name, x in seen.items()},
        "retrained": retrained,
    }


def parts_of(speakers: NDArray[np.int64], most: int) -> tuple[NDArray[np.int64], ...]:
    """Indices of clips, each in one part: the judge's, those that are lent (``most`` at most), and those scored."""
    first, other = halves(speakers)
    lent, scored = (other[places] for places in halves(speakers[other]))
    return first, np.sort(np.random.default_rng(0).permutation(lent)[:most]), scored


def halves(speakers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the two halves of every speaker's clips."""
    random = np.random.default_rng(0)
    own = [random.permutation(np.flatnonzero(speakers == number)) for number in np.unique(speakers)]
    return np.concatenate([each[::2] for each in own]), np.concatenate([each[1::2] for each in own])


def learn(graph: Graph, x: NDArray[np.float32], labels: NDArray[np.float32], steps: int) -> Arrays:
    """A classifier of speakers."""
    schedule = replace(REAL_CLIPS, steps=steps)
    start = initial_weights(graph, 0)
    return train_on_clips(graph, start, torch.from_numpy(x), torch.from_numpy(labels), schedule, 0, Augmentation())


def probabilities(graph: Graph, weights: Mapping[str, NDArray[np.float32]], x: NDArray[np.float32]) -> NDArray[Any]:
    """Of the speakers, float32 (items, speakers)."""
    return torch.from_numpy(infer(graph, weights, x)).softmax(1).numpy()


def accuracy(
    graph: Graph, weights: Mapping[str, NDArray[np.float32]], x: NDArray[np.float32], truth: NDArray[np.int64]
) -> float:
    """Share of clips whose speaker is found."""
    return float((infer(graph, weights, x).argmax(1) == truth).mean())
