"""Views of own clips and of the distilled set, with labels, as features that the trained part reads.

    material = prepare(student, own, distilled, settings)
    upper = student.train(material.lesson(left_out=(3,)), settings)      # nothing of clip 3 is in it

An own view is drawn as the label bank's are: a window of a clip, and a window of another clip or an item of the set
added or joined to it. Of its label, the part that comes from own clips is theirs; the rest is what the student said of
the view before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgeser_device.distilled import DistilledSet
from edgeser_device.personal.clips import OwnClips
from edgeser_device.personal.settings import AdaptSettings
from edgeser_device.personal.student import BATCH, CutStudent, Floats, Lesson
from edgeser_device.views import PLAIN, WEIGHT_UNIT, Recipes, mixed_recipes, render

FOREIGN_SHARE = 0.5
"""Of the own views: those whose partner is an item of the distilled set."""
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

    def lesson(self, left_out: Sequence[int] = ()) -> Lesson:
        """What to train on without some clips.

        Every class is drawn as often as the others. Otherwise a clip that is left out would take a share of its own
        class away, and the student that judges it would expect it less than any other.
        """
        kept = ~np.isin(self.clips, np.asarray(left_out, dtype=np.int64)).any(axis=1)
        classes = self.own_classes[kept]
        shares = 1.0 / np.bincount(classes)[classes]
        return Lesson(
            self.own[kept], self.own_labels[kept], shares / shares.sum(), self.rehearsal, self.rehearsal_labels
        )


def prepare(student: CutStudent, own: OwnClips, distilled: DistilledSet, settings: AdaptSettings) -> Material:
    """Draw, render and label the views, and compute their features.

    Args:
        student: The student as it is.
        own: The owner's clips.
        distilled: What the student was trained on.
        settings: How many views, and how they are drawn.
    """
    items = np.concatenate([own.windows, distilled.items()])
    foreign = len(items) - len(own.windows)
    recipes = own_recipes(len(own.windows), foreign, distilled.frontend.frames, settings)
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


def choose_rehearsal(distilled: DistilledSet, settings: AdaptSettings) -> NDArray[np.int64]:
    """Which views of the set are rehearsed; the others are free to measure forgetting on."""
    order = np.random.default_rng([settings.seed, 0xA5]).permutation(len(distilled.recipes))
    return order[: settings.rehearsal_views]


def _rehearsal(student: CutStudent, distilled: DistilledSet, settings: AdaptSettings) -> tuple[Floats, Floats]:
    chosen = choose_rehearsal(distilled, settings)
    if not len(chosen):
        nothing = student.features(np.zeros((1, 1, *distilled.levels.shape[1:]), np.float32))[:0]
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
    """How much of each view its item and its partner are, as far as they are own, float32 (views, 2)."""
    first = np.where(recipes.mode == PLAIN, 1.0, recipes.weight / WEIGHT_UNIT)
    second = np.where(recipes.partner < windows, 1 - first, 0.0)
    return np.stack([first, second], axis=1).astype(np.float32)
