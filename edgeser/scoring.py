"""Scores of a student on clips: the probabilities of a clip's windows are averaged, then recalls are counted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from edgeser.network import infer
from edgeser.representation.base import Part
from edgeser_export.graph import Graph, Weights


@dataclass(frozen=True)
class Score:
    """What a student reached on one part.

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


def average_by_clip(values: NDArray[np.float32], owners: NDArray[np.int64], clips: int) -> NDArray[np.float64]:
    """Mean of the windows' rows for each clip, float64 (clips, classes)."""
    total = np.zeros((clips, values.shape[1]))
    np.add.at(total, owners, values)
    return total / np.bincount(owners, minlength=clips)[:, None]
