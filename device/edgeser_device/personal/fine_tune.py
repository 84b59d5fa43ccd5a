"""A model that knows its owner: trained further on own clips, installed only if it is better for them.

    report = fine_tune(kit, Path("model"), own, PersonalSettings())
    report.installed, report.trial.before, report.trial.after

The model in the folder is the start; where it was trained on own clips before, what it was before that is, so that
nothing adds up. It stays as it is unless the new one is better on clips that were left out and forgot no more than
allowed of the distilled set; then it is kept for rollback.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeser_device.data.generated import with_set
from edgeser_device.data.stored import StoredSet
from edgeser_device.data.views import render
from edgeser_device.errors import GateFailed, ModelError
from edgeser_device.kit.kit import Kit, read_weights
from edgeser_device.model.model import BASE, OWN, Model, load_model, only_writer, previous_path, require_replaceable
from edgeser_device.personal.kept_clips import kept_bytes
from edgeser_device.personal.own_clips import OwnClips
from edgeser_device.personal.student_parts import (
    AdaptSettings,
    CutStudent,
    Floats,
    Material,
    choose_rehearsal,
    prepare,
)
from edgeser_device.train.train import weights_bytes, write_model
from edgeser_export.graph.op_graph import Weights
from edgeser_export.utilities.children import tree_peak_mb
from edgeser_export.utilities.progress import Advance, ignore_progress

FORGETTING_VIEWS = 512
"""Views of the distilled set on which forgetting is measured, at most; rehearsed ones where there are no others."""


@dataclass(frozen=True)
class Right:
    """Counts of an emotion's clips that were named right.

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
    """The result of training with some clips left out, judged on those.

    Attributes:
        clips: Own clips, each judged once by a student that was not trained on it.
        folds: Trainings; as many as clips is leaving one out.
        before: UAR of the student as it was, on all clips.
        after: UAR of the students that were trained on the others.
        before_loss: Mean of -log of the true emotion's probability, as it was.
        after_loss: The same of the students that were trained on the others.
        emotions: The counts of each emotion that has clips, by its label.
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
    """The cost of training on own clips, measured on views of the distilled set.

    Attributes:
        views: The number of views.
        before: Mean over the emotions of the share of views whose likeliest emotion is the label bank's, as it was.
        after: The same of the new student.
    """

    views: int
    before: float
    after: float

    @property
    def lost(self) -> float:
        """The fall of that share; negative where it rises."""
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
        settings: Settings of the training.
        folds: Trainings, at least 2; at most as many as there are clips.
        advance: Told the trainings done.
    """
    features = student.features(own.windows)
    before = _by_clip(student.probabilities(features), own)
    after = np.empty_like(before)
    parts = deal(own.classes, folds)
    for done, left_out in enumerate(parts, start=1):
        upper = student.train(material.training_data(left_out.tolist()), settings)
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


def forgetting(student: CutStudent, upper: Weights, distilled: StoredSet, settings: AdaptSettings) -> Forgetting:
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


FOLDS: Mapping[str, int] = {"full": 4, "tail": 16, "head": 16}
"""Trainings without some of the clips, at most: sixteen clips or fewer are left out one by one where that is quick."""
MAX_FORGET = 0.04
"""Allowed loss on the distilled set."""


@dataclass(frozen=True)
class PersonalSettings:
    """Settings of training on own clips, and the demands on its result.

    Attributes:
        adapt: Settings of the training.
        max_forget: Largest loss on views of the distilled set, 0 to 1.
        keep_emotions: Whether an own emotion that collapses keeps the old model in its place.
        threads: At least 1.
    """

    adapt: AdaptSettings = field(default_factory=AdaptSettings)
    max_forget: float = MAX_FORGET
    keep_emotions: bool = False
    threads: int = 1


@dataclass(frozen=True)
class PersonalReport:
    """The result of training on own clips.

    Attributes:
        installed: Whether the new model was written.
        reason: Why it was not; empty where it was.
        part: The part of the student that was trained.
        trial: On clips that were left out.
        forgetting: On the distilled set.
        seconds: All of it, without the export.
        peak_rss_mb: The most memory that the process held at one time, together with a child that wrote files; None
            where the system does not tell.
    """

    installed: bool
    reason: str
    part: str
    trial: Trial
    forgetting: Forgetting
    seconds: float
    peak_rss_mb: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            **vars(self),
            "trial": self.trial.to_json(),
            "forgetting": self.forgetting.to_json(),
        }

    def require_installed(self) -> None:
        """Raise GateFailed where the old model was kept."""
        if not self.installed:
            hint = "record more clips, and clearer ones"
            if self.trial.better:  # it forgot too much
                hint += "; or allow more with --max-forget, or leave that out"
            raise GateFailed(f"the old model was kept: {self.reason}", hint)


def is_of(kit: Kit, folder: Path) -> bool:
    """Whether a model stands at ``folder`` that was trained from this kit."""
    try:
        model = load_model(folder)
    except ModelError:
        return False
    return bool(model.description["training"].get("kit_sha256") == kit.sha256)


def fine_tune(
    kit: Kit, folder: Path, own: OwnClips, settings: PersonalSettings, advance: Advance = ignore_progress
) -> PersonalReport:
    """Train the model at ``folder`` further and replace it if the new one is better.

    Args:
        kit: The kit that it was trained from.
        folder: A model folder.
        own: The owner's clips, read with the kit's labels and front-end.
        settings: Settings of the training, and the demands on its result.
        advance: Told the trainings done, of :func:`number_of_trainings`.

    Raises:
        ModelError: No model of this kit stands there, or another process is writing it.
        TrainingError: A loss is not finite, or memory did not suffice.
        GraphError: There is no such part of a student.
        ExportError: The training step or a file could not be written.
        ParityError: A written file does not compute what was trained.
        StorageError: The folder cannot be written.
    """
    folder = Path(os.path.realpath(folder))
    with only_writer(folder):
        for place in (folder, previous_path(folder)):
            require_replaceable(place)
        model = load_model(folder)
        if model.description["training"].get("kit_sha256") != kit.sha256:
            raise ModelError(f"{folder} was trained from another kit", "give that kit, or another --out")
        kit = with_set(kit, model.distilled)  # of a kit that carries a generator, the points that were drawn
        base = base_weights(model)
        report, weights = adapt(kit, base, own, settings, advance)

        def described() -> dict[str, Any]:
            found = replace(report, peak_rss_mb=tree_peak_mb()).to_json()
            personal = {key: value for key, value in found.items() if key not in ("installed", "reason")}
            personal["clips"] = _counts(own, kit.labels)
            return {"training": model.description["training"], "personal": personal}

        if report.installed:
            files = {BASE: weights_bytes(base), **({OWN: kept_bytes(own)} if kit.encoder else {})}
            done = number_of_trainings(own, settings.adapt)
            write_model(folder, kit, weights, described, settings.threads, files, partial(advance, done))
    return replace(report, peak_rss_mb=tree_peak_mb())


def adapt(
    kit: Kit,
    base: Mapping[str, NDArray[np.float32]],
    own: OwnClips,
    settings: PersonalSettings,
    advance: Advance = ignore_progress,
) -> tuple[PersonalReport, dict[str, NDArray[np.float32]]]:
    """Train on own clips and judge the result; nothing is written. Errors as :func:`fine_tune`.

    Returns:
        The report, whose "installed" says what should be done, and the new weights.
    """
    began, how = time.monotonic(), settings.adapt
    student = CutStudent.open(kit.graph, base, how.part, settings.threads)
    distilled = kit.distilled
    material = prepare(student, own, distilled, how)
    trial = leave_out(
        student, own, kit.labels, material, how, FOLDS[how.part], lambda done: advance(done, "clips left out in turn")
    )
    upper = student.train(material.training_data(), how)
    advance(number_of_trainings(own, how), "all clips")
    forgot = forgetting(student, upper, distilled, how)
    reason = why_not(trial, forgot, settings)
    seconds = round(time.monotonic() - began, 3)
    report = PersonalReport(not reason, reason, how.part, trial, forgot, seconds, tree_peak_mb())
    return report, {**base, **upper}


def number_of_trainings(own: OwnClips, how: AdaptSettings) -> int:
    """One for each group of clips that is left out, and one on all."""
    return min(FOLDS[how.part], len(own)) + 1


def base_weights(model: Model) -> dict[str, NDArray[np.float32]]:
    """The model's weights without any training on own clips."""
    if BASE in model.description["files"]:
        return read_weights(model.read(BASE), model.graph, BASE)
    return model.weights


def why_not(trial: Trial, forgot: Forgetting, settings: PersonalSettings) -> str:
    """Why the new model should not be installed, as the rest of a sentence; empty where it should."""
    if not trial.better:
        return (
            f"on clips that were left out the loss of the new one is {trial.after_loss:.2f},"
            f" of the old one {trial.before_loss:.2f}"
        )
    if forgot.lost > settings.max_forget:
        return f"the new one lost {forgot.lost:.3f} on the distilled set, {settings.max_forget:g} is allowed"
    if settings.keep_emotions and trial.collapsed:
        return f"the new one lost more than half of what was right of your {', '.join(trial.collapsed)}"
    return ""


def _counts(own: OwnClips, labels: tuple[str, ...]) -> dict[str, int]:
    counts = np.bincount(own.classes, minlength=len(labels))
    return {label: int(count) for label, count in zip(labels, counts, strict=True) if count}
