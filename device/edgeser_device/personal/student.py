"""A trained student cut in two: what its lower part computes is computed once, its upper part is trained further.

    student = CutStudent.open(graph, weights, "tail", threads=1)
    features = student.features(views)                 # once
    upper = student.train(Lesson(...), AdaptSettings()) # new weights of the upper part
    probabilities = student.probabilities(features, upper)

Batch normalisations keep their running statistics: a dozen clips are too few to replace them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import cos, isfinite, pi
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeser_device.errors import TrainingError
from edgeser_device.personal.settings import AdaptSettings
from edgeser_device.trainer import ForwardPass, compute, open_session
from edgeser_export.cut import cut_for, split, weights_of
from edgeser_export.graph import Graph, Weights
from edgeser_export.reference import softmax
from edgeser_export.stepstate import ITEMS, LABELS, LOSS, next_state, scalars, weight_names, zero_state
from edgeser_export.stepwriter import Request, write_in_child

Floats = NDArray[np.float32]
BATCH = 32
"""Views a step, half of them own."""
OPTIMISER = "adamw"


@dataclass(frozen=True)
class Lesson:
    """What an upper part is trained on; the rows of the first three belong together, and those of the last two.

    Attributes:
        own: Features of views of own clips, float32 (views, ...).
        own_labels: Probabilities, float32 (views, classes).
        own_shares: How often each own view is drawn, float64 (views,), sums to one.
        rehearsal: Features of views of the distilled set, float32 (views, ...); may be empty.
        rehearsal_labels: Probabilities, float32 (views, classes).
    """

    own: Floats
    own_labels: Floats
    own_shares: NDArray[np.float64]
    rehearsal: Floats
    rehearsal_labels: Floats


class CutStudent:
    """The two parts of a student, loaded."""

    def __init__(self, lower: Graph | None, upper: Graph, weights: Weights, files: Mapping[str, bytes], threads: int):
        """Load what :meth:`open` wrote."""
        self.upper = upper
        self.weights = weights_of(upper, weights)
        self._lower = None if lower is None else ForwardPass(lower, files["lower"], threads)
        self._lower_weights = {} if lower is None else weights_of(lower, weights)
        self._upper = ForwardPass(upper, files["upper"], threads)
        self._step = open_session(files["step"], threads)
        self._outputs = [output.name for output in self._step.get_outputs()]

    @classmethod
    def open(cls, graph: Graph, weights: Weights, part: str, threads: int) -> CutStudent:
        """Cut a student, write its files in a child process, and load them.

        Args:
            graph: The student.
            weights: Trained, with running statistics.
            part: What is trained further, a row of :data:`edgeser_export.cut.CUTS`.
            threads: At least 1.

        Raises:
            GraphError: There is no such part.
            ExportError: The files could not be written.
            MissingRuntime: onnxruntime or onnx is missing.
        """
        lower, upper = split(graph, cut_for(graph, part))
        step = {"batch": BATCH, "optimiser": OPTIMISER, "trained": "frozen"}
        requests = {"upper": ForwardPass.request(upper), "step": Request("training", upper, step)}
        if lower is not None:
            requests["lower"] = ForwardPass.request(lower)
        return cls(lower, upper, weights, write_in_child(requests), threads)

    def features(self, views: Floats) -> Floats:
        """What the upper part reads for some views, float32 (views, channels, mels, frames) -> (views, ...)."""
        return views if self._lower is None else self._lower(views, self._lower_weights)

    def probabilities(self, features: Floats, upper: Weights | None = None) -> Floats:
        """What the student says, float32 (views, classes), with the weights it had or with other ones."""
        return softmax(self._upper(features, self.weights if upper is None else upper)).astype(np.float32)

    def train(self, lesson: Lesson, settings: AdaptSettings) -> dict[str, Floats]:
        """Train the upper part further.

        Returns:
            Its weights, by the whole student's names: ``settings.share`` of the way from the old to the new ones.

        Raises:
            TrainingError: The loss is not finite, or a step could not be computed.
        """
        random = np.random.default_rng([settings.seed, 0x0E])
        own_rows = BATCH if not len(lesson.rehearsal) else round(BATCH * settings.own_share)
        parameters = {name: self.weights[name] for name in self.upper.parameters}
        statistics = {name: self.weights[name] for name in self.upper.statistics}
        state = {**parameters, **zero_state(self.upper, OPTIMISER)}
        for step in range(settings.steps):
            own = random.choice(len(lesson.own), own_rows, p=lesson.own_shares)
            rehearsed = random.integers(0, max(1, len(lesson.rehearsal)), BATCH - own_rows)
            feeds = {
                **state,
                **statistics,
                ITEMS: np.concatenate([lesson.own[own], lesson.rehearsal[rehearsed]]),
                LABELS: np.concatenate([lesson.own_labels[own], lesson.rehearsal_labels[rehearsed]]),
                **scalars(OPTIMISER, step + 1, rate_of(step, settings)),
            }
            state = self._advance(feeds, step)
        share = np.float32(settings.share)
        moved = {name: old + share * (state[name] - old) for name, old in parameters.items()}
        return {name: (moved | statistics)[name] for name in weight_names(self.upper, "frozen")}

    def _advance(self, feeds: Mapping[str, Any], step: int) -> dict[str, Floats]:
        read = {entry.name for entry in self._step.get_inputs()}
        given = {name: value for name, value in feeds.items() if name in read}
        outputs = dict(zip(self._outputs, compute(self._step, self._outputs, given), strict=True))
        if not isfinite(float(outputs[LOSS])):
            raise TrainingError(
                f"the loss is {float(outputs[LOSS])} in step {step + 1} of training on own clips",
                "the model itself may be broken: train it again without --clips",
            )
        return next_state(outputs)


def rate_of(step: int, settings: AdaptSettings) -> float:
    """Learning rate of a step, counted from 0: up in a straight line over a tenth, then down half a cosine."""
    warm = max(1, settings.steps // 10)
    if step < warm:
        return settings.rate * (step + 1) / warm
    return settings.rate * (0.5 + 0.5 * cos(pi * (step - warm) / (settings.steps - warm)))
