"""A trained student cut in two: what its lower part computes is computed once, its upper part is trained further.

    student = CutStudent.open(graph, weights, "tail", threads=1)
    features = student.features(views)                 # once
    upper = student.train(TrainingData(...), AdaptSettings())  # new weights of the upper part
    probabilities = student.probabilities(features, upper)

Batch normalisations keep their running statistics: a dozen clips are too few to replace them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import cos, pi
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from edgeser_device.data.stored import StoredSet
from edgeser_device.data.views import PLAIN, WEIGHT_UNIT, Mixing, Recipes, mixed_recipes, render
from edgeser_device.personal.own_clips import OwnClips
from edgeser_device.train.trainer import ForwardPass, TrainingSession
from edgeser_export.graph.op_graph import Graph, Weights
from edgeser_export.graph.reference import softmax
from edgeser_export.graph.transform import cut_for, split, weights_of
from edgeser_export.trainstep.step_state import ITEMS, LABELS, scalars, weight_names, zero_state
from edgeser_export.trainstep.step_writer import Request, write_in_child
from edgeser_export.utilities.errors import GraphError, find_row

Floats = NDArray[np.float32]
GENTLE = Mixing(beta=0.1, cut_share=0.0, stretch=0.1, mel_shift=1)
"""Views close to the clips: the label bank's wider ones teach less of the speaker."""


@dataclass(frozen=True)
class AdaptSettings:
    """Settings of training a student further.

    Attributes:
        part: The part that is trained, a row of :data:`edgeser_export.graph.transform.CUTS`: "full", "tail" or "head".
        steps: Training steps.
        rate: Largest learning rate.
        own_share: Share of own views in a batch; the rest is rehearsal.
        share: Place of the weights between the old ones, 0, and the trained ones, 1 (Wortsman et al. 2022, arXiv
            2109.01903).
        own_views: Views of own clips.
        rehearsal_views: Views of the distilled set; 0 trains without rehearsal.
        old_labels: Share of the old student's own answer in the labels of rehearsal (Li and Hoiem 2016, arXiv
            1606.09282); the rest is the label bank's.
        mixing: The ranges in which own views are drawn.
        seed: Decides views and batches.
    """

    part: str = "tail"
    steps: int = 160
    rate: float = 2e-3
    own_share: float = 0.375
    share: float = 0.75
    own_views: int = 512
    rehearsal_views: int = 512
    old_labels: float = 1.0
    mixing: Mixing = GENTLE
    seed: int = 0


PARTS: Mapping[str, AdaptSettings] = MappingProxyType(
    {
        "full": AdaptSettings(part="full", steps=100, rate=1e-3),
        "tail": AdaptSettings(share=0.6),
        "head": AdaptSettings(part="head", steps=320, rate=1e-2, own_share=0.5, share=0.5),
    }
)
"""Settings for each part that can be trained."""
NEAR = Mixing(beta=0.2, cut_share=0.0, stretch=0.0, mel_shift=0, contrast=0.1, gain=0.0, shift=0, noise=0.5)
"""Views of an encoder's vectors, which are mixed and blurred and never moved."""
OF_VECTORS: Mapping[str, AdaptSettings] = MappingProxyType(
    {
        "full": AdaptSettings(part="full", steps=150, rate=1e-3, share=0.5, mixing=NEAR),
        "head": AdaptSettings(part="head", steps=150, rate=1e-2, share=0.5, mixing=NEAR),
    }
)
"""The same for students on vectors, which have no convolution."""


def settings_for(part: str | None, vectors: bool = False) -> AdaptSettings:
    """Settings for a part of a student on log-mels or on ``vectors``, or for the usual part; GraphError for no part."""
    return find_row(OF_VECTORS if vectors else PARTS, part or ("full" if vectors else "tail"), "part", GraphError)


BATCH = 32
"""Views a step, half of them own."""
OPTIMISER = "adamw"


@dataclass(frozen=True)
class TrainingData:
    """Training data of an upper part; the rows of the first three belong together, and those of the last two.

    Attributes:
        own: Features of views of own clips, float32 (views, ...).
        own_labels: Probabilities, float32 (views, classes).
        own_shares: Probability with which each own view is drawn, float64 (views,).
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
        self._shape = (upper if lower is None else lower).input_shape
        self._lower = None if lower is None else ForwardPass(lower, files["lower"], threads)
        self._lower_weights = {} if lower is None else weights_of(lower, weights)
        self._upper = ForwardPass(upper, files["upper"], threads)
        self._step = TrainingSession(files["step"], threads)

    @classmethod
    def open(cls, graph: Graph, weights: Weights, part: str, threads: int) -> CutStudent:
        """Cut a student, write its files in a child process, and load them.

        Args:
            graph: The student.
            weights: Trained, with running statistics.
            part: The part to train further, a row of :data:`edgeser_export.graph.transform.CUTS`.
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
        """The upper part's inputs for some views, float32 (views, ...) in any shape of as many numbers."""
        views = views.reshape(len(views), *self._shape)
        return views if self._lower is None else self._lower(views, self._lower_weights)

    def probabilities(self, features: Floats, upper: Weights | None = None) -> Floats:
        """The student's probabilities, float32 (views, classes), with the weights it had or with other ones."""
        return softmax(self._upper(features, self.weights if upper is None else upper)).astype(np.float32)

    def train(self, data: TrainingData, settings: AdaptSettings) -> dict[str, Floats]:
        """Train the upper part further.

        Returns:
            Its weights, by the whole student's names: ``settings.share`` of the way from the old to the new ones.

        Raises:
            TrainingError: The loss is not finite, or a step could not be computed.
        """
        random = np.random.default_rng([settings.seed, 0x0E])
        own_rows = BATCH if not len(data.rehearsal) else round(BATCH * settings.own_share)
        parameters = {name: self.weights[name] for name in self.upper.parameters}
        statistics = {name: self.weights[name] for name in self.upper.statistics}
        state = {**parameters, **zero_state(self.upper, OPTIMISER)}
        for step in range(settings.steps):
            own = random.choice(len(data.own), own_rows, p=data.own_shares)
            rehearsed = random.integers(0, max(1, len(data.rehearsal)), BATCH - own_rows)
            feeds = {
                **state,
                **statistics,
                ITEMS: np.concatenate([data.own[own], data.rehearsal[rehearsed]]),
                LABELS: np.concatenate([data.own_labels[own], data.rehearsal_labels[rehearsed]]),
                **scalars(OPTIMISER, step + 1, rate_of(step, settings)),
            }
            hint = "the model itself may be broken: train it again without --clips"
            state, _ = self._step.advance(feeds, f"step {step + 1} of training on own clips", hint)
        share = np.float32(settings.share)
        moved = {name: old + share * (state[name] - old) for name, old in parameters.items()}
        return {name: (moved | statistics)[name] for name in weight_names(self.upper, "frozen")}


def rate_of(step: int, settings: AdaptSettings) -> float:
    """Learning rate of a step, counted from 0: up in a straight line over a tenth, then down half a cosine."""
    warm = max(1, settings.steps // 10)
    if step < warm:
        return settings.rate * (step + 1) / warm
    return settings.rate * (0.5 + 0.5 * cos(pi * (step - warm) / (settings.steps - warm)))


FOREIGN_SHARE = 0.5
"""Share of the own views whose partner is an item of the distilled set."""
NOBODY = -1


@dataclass(frozen=True)
class Material:
    """All views of a training on own clips, as features.

    Attributes:
        own: Float32 (views, ...).
        own_labels: Float32 (views, classes).
        own_classes: Class of the first clip in each view, int64 (views,).
        clips: The one or two own clips in each view, int64 (views, 2), ``NOBODY`` where there is no second one.
        rehearsal: Float32 (views, ...).
        rehearsal_labels: Float32 (views, classes).
    """

    own: Floats
    own_labels: Floats
    own_classes: NDArray[np.int64]
    clips: NDArray[np.int64]
    rehearsal: Floats
    rehearsal_labels: Floats

    def training_data(self, left_out: Sequence[int] = ()) -> TrainingData:
        """Training data without some clips.

        Every class is drawn as often as the others. Otherwise a clip that is left out would take a share of its own
        class away, and the student that judges it would expect it less than any other.
        """
        kept = ~np.isin(self.clips, np.asarray(left_out, dtype=np.int64)).any(axis=1)
        classes = self.own_classes[kept]
        shares = 1.0 / np.bincount(classes)[classes]
        return TrainingData(
            self.own[kept], self.own_labels[kept], shares / shares.sum(), self.rehearsal, self.rehearsal_labels
        )


def prepare(student: CutStudent, own: OwnClips, distilled: StoredSet, settings: AdaptSettings) -> Material:
    """Draw, render and label the views, and compute their features.

    Args:
        student: The student as it is.
        own: The owner's clips.
        distilled: The set that the student was trained on.
        settings: The number of views, and the ranges in which they are drawn.
    """
    items = np.concatenate([own.windows, distilled.items()])
    foreign = len(items) - len(own.windows)
    recipes = own_recipes(len(own.windows), foreign, items.shape[2], settings)
    features, before = _features(student, items, recipes, np.arange(len(recipes)))
    mine = _own_share(recipes, len(own.windows))
    one_hot = np.eye(len(distilled.names), dtype=np.float32)
    classes = np.concatenate([own.window_classes, np.zeros(foreign, np.int64)])
    labels = mine[:, :1] * one_hot[classes[recipes.item]] + mine[:, 1:] * one_hot[classes[recipes.partner]]
    labels += (1 - mine.sum(axis=1, keepdims=True)) * before
    owners = np.concatenate([own.owners, np.full(foreign, NOBODY)])
    clips = np.stack([owners[recipes.item], np.where(recipes.mode == PLAIN, NOBODY, owners[recipes.partner])], axis=1)
    rehearsal, rehearsal_labels = _rehearsal(student, distilled, settings)
    own_classes = classes[recipes.item]
    return Material(features, labels.astype(np.float32), own_classes, clips, rehearsal, rehearsal_labels)


def own_recipes(windows: int, foreign: int, frames: int, settings: AdaptSettings) -> Recipes:
    """Views of own windows, the first ``windows`` items; partners are own windows or one of ``foreign`` later items."""
    drawn = mixed_recipes(windows, settings.own_views, frames, settings.seed, settings.mixing)
    random = np.random.default_rng([settings.seed, 0xF0])
    use = random.random(len(drawn)) < FOREIGN_SHARE
    other = windows + random.integers(0, foreign, len(drawn))
    return replace(drawn, partner=np.where(use, other, drawn.partner).astype(np.uint16))


def choose_rehearsal(distilled: StoredSet, settings: AdaptSettings) -> NDArray[np.int64]:
    """The views of the set that are rehearsed; the others are free to measure forgetting on."""
    order = np.random.default_rng([settings.seed, 0xA5]).permutation(len(distilled.recipes))
    return order[: settings.rehearsal_views]


def _rehearsal(student: CutStudent, distilled: StoredSet, settings: AdaptSettings) -> tuple[Floats, Floats]:
    chosen = choose_rehearsal(distilled, settings)
    if not len(chosen):
        nothing = student.features(np.zeros((1, *distilled.input_shape), np.float32))[:0]
        return nothing, np.zeros((0, len(distilled.names)), np.float32)
    features, before = _features(student, distilled.items(), distilled.recipes, chosen)
    old = np.float32(settings.old_labels)
    return features, old * before + (1 - old) * distilled.labels_of(chosen)


def _features(
    student: CutStudent, items: Floats, recipes: Recipes, indices: NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """Features and the student's answers, a batch of views at a time."""
    batches = [indices[start : start + BATCH] for start in range(0, len(indices), BATCH)]
    features = np.concatenate([student.features(render(items, recipes, batch)) for batch in batches])
    return features, student.probabilities(features)


def _own_share(recipes: Recipes, windows: int) -> Floats:
    """Shares of the item and of the partner in each view, 0 where they are not own, float32 (views, 2)."""
    first = np.where(recipes.mode == PLAIN, 1.0, recipes.weight / WEIGHT_UNIT)
    second = np.where(recipes.partner < windows, 1 - first, 0.0)
    return np.stack([first, second], axis=1).astype(np.float32)
