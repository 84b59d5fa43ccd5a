"""Calibration of a student: one temperature, fitted on the distilled set before the student's files are written.

A student learns the experts' labels, which were softened by a temperature of their own (2 unless set otherwise), so
its probabilities are too low. Its logits divided by T are fitted to the labels with that softening undone: the same
power of each, brought back to a sum of 1. The fit is Guo et al., "On calibration of modern neural networks" (ICML 2017,
section 4.2), with soft targets. It does not change which emotion of a window is the most probable.

Hard labels say nothing here: a student is as sure as it likes of what it was trained on. Then T stays 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeser_device.data.stored import batch_of
from edgeser_device.kit.kit import Kit
from edgeser_device.train.trainer import FORWARD_BATCH, ForwardPass
from edgeser_export.graph.op_graph import Weights
from edgeser_export.trainstep.step_writer import write_in_child


def recalls(truth: Sequence[str], guesses: Sequence[str]) -> Mapping[str, float]:
    """Recall of each emotion that occurs in ``truth``, 0 to 1, in alphabetical order."""
    found = {}
    for emotion in sorted(set(truth)):
        own = [guess for true, guess in zip(truth, guesses, strict=True) if true == emotion]
        found[emotion] = own.count(emotion) / len(own)
    return found


def unweighted_average_recall(truth: Sequence[str], guesses: Sequence[str]) -> float:
    """UAR over the emotions that occur in ``truth``, which must not be empty."""
    each = recalls(truth, guesses)
    return sum(each.values()) / len(each)


VIEWS = 512
"""Views that are asked, spread over all items."""
LABEL_TEMPERATURE = 2.0
"""Temperature of the experts' labels where a kit does not state it: the default of ``edgeser distill``."""
LOWEST, HIGHEST, TRIED = 0.2, 5.0, 129
"""Temperatures that are tried, in equal ratios of 2.5 %."""
HARD = 0.999
"""Labels whose mean largest probability is above this are hard."""


def fit_student(kit: Kit, weights: Weights, threads: int) -> float:
    """The temperature of a trained student.

    Args:
        kit: The kit that it was trained from; its provenance may state the temperature of the labels.
        weights: Its parameters and running statistics.
        threads: Threads of one call.

    Raises:
        MissingRuntime: onnxruntime or onnx is missing.
        ExportError: The student could not be written.
        TrainingError: It could not be computed.
    """
    distilled, config = kit.distilled, kit.manifest["provenance"].get("config")
    step = max(1, len(distilled.recipes) // VIEWS)
    chosen = np.arange(0, len(distilled.recipes), step)
    stated = config.get("temperature") if isinstance(config, Mapping) else None
    softened = float(stated) if isinstance(stated, int | float) else LABEL_TEMPERATURE
    file = write_in_child({"student": ForwardPass.request(kit.graph)})["student"]
    student, items = ForwardPass(kit.graph, file, threads), distilled.items()
    parts = np.array_split(chosen, -(-len(chosen) // FORWARD_BATCH))
    logits = np.concatenate([student(batch_of(distilled, items, part), weights) for part in parts])
    return fit_temperature(logits, distilled.labels_of(chosen), softened)


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.float32], softened: float) -> float:
    """The temperature with the least cross-entropy.

    Args:
        logits: Float32 (views, classes).
        labels: Probabilities, float32 (views, classes).
        softened: The temperature of the labels, above 0.

    Returns:
        A number from 0.2 to 5, rounded to four digits; 1 for hard labels.
    """
    if labels.max(axis=1).mean() > HARD:
        return 1.0
    targets = np.maximum(labels.astype(np.float64), 1e-12) ** softened
    targets /= targets.sum(axis=1, keepdims=True)
    tried = np.geomspace(LOWEST, HIGHEST, TRIED)
    losses = [-(targets * log_softmax(logits / temperature)).sum(axis=1).mean() for temperature in tried]
    return round(float(tried[int(np.argmin(losses))]), 4)


def log_softmax(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Logarithms of probabilities, float64, along the last axis."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    found: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return found
