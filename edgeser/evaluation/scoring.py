"""Scores of a student on clips: the probabilities of a clip's windows are averaged, then recalls are counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgeser.corpora.joined import corpus_in
from edgeser.evaluation.intervals import FEWEST, Interval, around
from edgeser.models.network import infer
from edgeser.representation.base import Part
from edgeser_export.graph.op_graph import Graph, Weights


@dataclass(frozen=True)
class Score:
    """The scores that a student reached on one part.

    Attributes:
        uar: Unweighted average recall over the classes that occur, 0 to 1.
        recalls: Recall of each class, float64 (classes,); NaN where a class does not occur.
        confusion: Counts, int64 (true classes, predicted classes).
        predicted: The class that was said of each clip, int64 (clips,).
    """

    uar: float
    recalls: NDArray[np.float64]
    confusion: NDArray[np.int64]
    predicted: NDArray[np.int64]


@dataclass(frozen=True)
class Clips:
    """Windows of a part, cut once and scored many times.

    Attributes:
        x: Windows as a student reads them, float32 (windows, channels, rows, columns).
        owners: Clip of each window, int64 (windows,).
        labels: Class of each clip, int64 (clips,).
        classes: Number of classes.
        speakers: Speaker of each clip; empty where nobody asks.
    """

    x: NDArray[np.float32]
    owners: NDArray[np.int64]
    labels: NDArray[np.int64]
    classes: int
    speakers: tuple[str, ...] = ()

    @classmethod
    def of(cls, part: Part, classes: int) -> Clips:
        """All windows of a part."""
        x, owners = part.windows()
        return cls(x, owners, part.labels, classes, part.speakers)


def probabilities(graph: Graph, weights: Weights, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Class probabilities in inference, float32 (windows, classes)."""
    return torch.from_numpy(infer(graph, weights, x)).softmax(1).numpy()


def score(graph: Graph, weights: Weights, clips: Clips) -> Score:
    """UAR of a student on clips."""
    return score_of(average_by_clip(probabilities(graph, weights, clips.x), clips.owners, len(clips.labels)), clips)


def score_of(by_clip: NDArray[np.float64], clips: Clips) -> Score:
    """UAR of probabilities (clips, classes)."""
    confusion = np.zeros((clips.classes, clips.classes), dtype=np.int64)
    predicted = by_clip.argmax(1)
    np.add.at(confusion, (clips.labels, predicted), 1)
    counts = confusion.sum(1)
    recalls = np.where(counts > 0, np.diag(confusion) / np.maximum(counts, 1), np.nan)
    return Score(float(np.nanmean(recalls)), recalls, confusion, predicted)


def uar_by_corpus(scores: Sequence[Score], clips: Clips) -> dict[str, float]:
    """Mean UAR of one row on the clips of each of several corpora, over the classes that occur there.

    Args:
        scores: One a seed, all on ``clips``.
        clips: The clips that were scored, their speakers called CORPUS/SPEAKER.
    """
    of_clip = np.array([corpus_in(speaker) for speaker in clips.speakers])
    found = {}
    for name in sorted(set(of_clip.tolist())):
        own = of_clip == name
        truth = clips.labels[own]
        said = np.stack([score.predicted[own] for score in scores])
        found[name] = float(np.mean([(said[:, truth == label] == label).mean() for label in np.unique(truth)]))
    return found


def average_by_clip(values: NDArray[np.float32], owners: NDArray[np.int64], clips: int) -> NDArray[np.float64]:
    """Mean of the windows' rows for each clip, float64 (clips, classes)."""
    total = np.zeros((clips, values.shape[1]))
    np.add.at(total, owners, values)
    return total / np.bincount(owners, minlength=clips)[:, None]


def row_details(scores: Sequence[Score], clips: Clips, names: Sequence[str]) -> dict[str, Any]:
    """Details of one row.

    Args:
        scores: One a seed, all on ``clips``.
        clips: The clips that were scored, with speakers.
        names: Names of the classes.

    Returns:
        ``confusion``: counts over all seeds, a row a true class. ``speakers``: for each the number of its ``clips``,
        its ``uar`` by seed and its mean ``recalls``. ``interval``: 95 %, over speakers, ``low`` and ``high``; or None.
    """
    speakers, numbers = np.unique(clips.speakers, return_inverse=True)
    hits = np.zeros((len(scores), len(speakers), clips.classes))
    totals = np.zeros((len(speakers), clips.classes))
    np.add.at(totals, (numbers, clips.labels), 1)
    for seed, score in enumerate(scores):
        np.add.at(hits[seed], (numbers, clips.labels), score.predicted == clips.labels)
    own = _uar(hits, totals)
    return {
        "confusion": sum(score.confusion for score in scores).tolist(),  # type: ignore[union-attr]
        "speakers": {
            str(speaker): {
                "clips": int(totals[place].sum()),
                "uar": [round(float(value), 6) for value in own[:, place]],
                "recalls": _named(hits[:, place].mean(0), totals[place], names),
            }
            for place, speaker in enumerate(speakers)
        },
        "interval": speaker_interval(hits, totals),
    }


def speaker_interval(hits: NDArray[np.float64], totals: NDArray[np.float64]) -> Interval | None:
    """Interval of 95 % of a mean UAR over speakers.

    Args:
        hits: Clips that were recognised, (seeds, speakers, classes).
        totals: Clips that there are, (speakers, classes).

    Returns:
        ``low`` and ``high`` between 0 and 1, or None with fewer than ``FEWEST`` speakers.
    """
    count = len(totals)
    if count < FEWEST:
        return None
    value = float(_uar(hits.sum(1), totals.sum(0)).mean())
    without = _uar(hits.sum(1, keepdims=True) - hits, totals.sum(0) - totals).mean(0)
    error = float(np.sqrt((count - 1) / count * ((without - without.mean()) ** 2).sum()))
    return around(value, error, count - 1)


def _uar(hits: NDArray[np.float64], totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the classes that occur, (..., classes) to (...)."""
    shares = np.where(totals > 0, hits / np.maximum(totals, 1), 0)
    return np.asarray(shares.sum(-1) / np.maximum((totals > 0).sum(-1), 1))


def _named(hits: NDArray[np.float64], totals: NDArray[np.float64], names: Sequence[str]) -> dict[str, float]:
    return {
        name: round(float(hit / total), 6) for name, hit, total in zip(names, hits, totals, strict=True) if total > 0
    }
