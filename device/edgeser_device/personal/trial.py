"""Is a student that was trained on own clips better? Judged on clips that were left out, and on the distilled set.

trial = leave_out(student, own, material, settings, folds=16)
trial.better         # on clips that the student had not been trained on
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeser_device.distilled import DistilledSet
from edgeser_device.personal.clips import OwnClips
from edgeser_device.personal.lessons import Material, choose_rehearsal
from edgeser_device.personal.settings import AdaptSettings
from edgeser_device.personal.student import CutStudent, Floats
from edgeser_device.views import render
from edgeser_export.graph import Weights

FORGETTING_VIEWS = 512
"""Views of the distilled set on which forgetting is measured, at most; rehearsed ones where there are no others."""


@dataclass(frozen=True)
class Right:
    """How many clips of an emotion were named right.

    Attributes:
        clips: All of that emotion.
        before: By the student as it was.
        after: By the students that were trained on the others.
    """

    clips: int
    before: int
    after: int

    @property
    def collapsed(self) -> bool:
        """Whether more than half of what was right is lost."""
        return 2 * self.after < self.before


@dataclass(frozen=True)
class Trial:
    """What leaving clips out showed.

    Attributes:
        clips: Own clips, each judged once by a student that was not trained on it.
        folds: Trainings; as many as clips is leaving one out.
        before: UAR of the student as it was, on all clips.
        after: UAR of the students that were trained on the others.
        before_loss: Mean of -log of the true emotion's probability, as it was.
        after_loss: The same of the students that were trained on the others.
        emotions: What was right of each emotion that has clips, by its label.
    """

    clips: int
    folds: int
    before: float
    after: float
    before_loss: float
    after_loss: float
    emotions: Mapping[str, Right]

    @property
    def collapsed(self) -> tuple[str, ...]:
        """The emotions of which more than half of what was right is lost."""
        return tuple(label for label, right in self.emotions.items() if right.collapsed)

    @property
    def better(self) -> bool:
        """Whether it gives the true emotions more probability.

        Not by UAR: of a dozen clips it goes in large steps, and a student that lost one of two clips of an emotion
        names that emotion less often than the one that learns from both.
        """
        return self.after_loss < self.before_loss

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "better": self.better, "collapsed": list(self.collapsed)}


@dataclass(frozen=True)
class Forgetting:
    """What training on own clips cost on views of the distilled set.

    Attributes:
        views: How many.
        before: Mean over the emotions of the share of views whose likeliest emotion is the label bank's, as it was.
        after: The same of the new student.
    """

    views: int
    before: float
    after: float

    @property
    def lost(self) -> float:
        """How much less it is; negative where it is more."""
        return self.before - self.after

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "lost": self.lost}


def leave_out(
    student: CutStudent,
    own: OwnClips,
    labels: Sequence[str],
    material: Material,
    settings: AdaptSettings,
    folds: int,
    advance: Callable[[int], None] = lambda _: None,
) -> Trial:
    """Train without some clips and judge those, until each was judged.

    Args:
        student: The student as it is.
        own: The owner's clips.
        labels: The emotions in the order of the classes.
        material: Views of them.
        settings: How to train.
        folds: Trainings, at least 2; at most as many as there are clips.
        advance: Told the trainings done.
    """
    features = student.features(own.windows[:, None])
    before = _by_clip(student.probabilities(features), own)
    after = np.empty_like(before)
    parts = deal(own.classes, folds)
    for done, left_out in enumerate(parts, start=1):
        upper = student.train(material.lesson(left_out.tolist()), settings)
        after[left_out] = _by_clip(student.probabilities(features, upper), own)[left_out]
        advance(done)
    scores = [score(each, own.classes) for each in (before, after) for score in (uar, _loss)]
    right = [each.argmax(axis=1) == own.classes for each in (before, after)]
    emotions = {
        labels[number]: Right(*(int(each[own.classes == number].sum()) for each in (own.classes >= 0, *right)))
        for number in np.unique(own.classes)
    }
    return Trial(len(own), len(parts), scores[0], scores[2], scores[1], scores[3], emotions)


def deal(classes: NDArray[np.int64], folds: int) -> list[NDArray[np.int64]]:
    """Clips in at most ``folds`` groups, the clips of a class spread over as many as possible."""
    order = np.argsort(classes, kind="stable")
    groups = [np.sort(order[start::folds]) for start in range(min(folds, len(classes)))]
    return [group for group in groups if len(group)]


def forgetting(student: CutStudent, upper: Weights, distilled: DistilledSet, settings: AdaptSettings) -> Forgetting:
    """Compare the student as it was with the weights ``upper`` on views of the set that were not rehearsed."""
    rehearsed = set(choose_rehearsal(distilled, settings).tolist())
    free = [number for number in range(len(distilled.recipes)) if number not in rehearsed]
    chosen = np.array((free or range(len(distilled.recipes)))[:FORGETTING_VIEWS])
    items, truth = distilled.items(), distilled.soft_labels[chosen].argmax(axis=1)
    found: list[list[Floats]] = [[], []]
    for start in range(0, len(chosen), 64):
        features = student.features(render(items, distilled.recipes, chosen[start : start + 64]))
        for rows, weights in zip(found, (None, upper), strict=True):
            rows.append(student.probabilities(features, weights))
    before, after = (uar(np.concatenate(rows), truth) for rows in found)
    return Forgetting(len(chosen), before, after)


def uar(probabilities: NDArray[np.floating], classes: NDArray[np.integer]) -> float:
    """Unweighted average recall of the likeliest classes, over the classes that occur."""
    right = probabilities.argmax(axis=1) == classes
    return float(np.mean([right[classes == number].mean() for number in np.unique(classes)]))


def _by_clip(by_window: Floats, own: OwnClips) -> NDArray[np.float64]:
    """Mean of the windows' probabilities for each clip, float64 (clips, classes)."""
    total = np.zeros((len(own), by_window.shape[1]))
    np.add.at(total, own.owners, by_window)
    return np.asarray(total / np.bincount(own.owners, minlength=len(own))[:, None])


def _loss(by_clip: NDArray[np.float64], classes: NDArray[np.int64]) -> float:
    return float(-np.log(np.maximum(by_clip[np.arange(len(classes)), classes], 1e-12)).mean())
