"""Who speaks in an item? A classifier of speakers, learnt from recordings and asked about items, and the other way.

Features are the mean and the standard deviation of every band over time: they do not depend on time shifts and tell the
voice from its spectrum. On them a logistic regression finds 0.98 of EMO-DB's and 0.90 of RAVDESS's training speakers
(clips that it did not learn), a convolutional network on the log-mels 0.92 and 0.88.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeser.privacy.figures import Decisions, Floats, area, equal_error, mean_over

INVERSE_PENALTY = 1.0
"""Parameter C of the logistic regression: the best of 0.01, 0.1 and 1 on clips that it did not learn."""
FEWEST_FREE = 4
"""Clips of every speaker that no item is or began as: two to learn from, and two to ask about."""
FLOOR = 1e-9
"""Least probability of a speaker, also of one that a classifier never saw."""


@dataclass(frozen=True)
class Linked:
    """Items whose voices are known.

    Attributes:
        items: Log-mels, float32 (items, mels, frames).
        sources: Clips that each is or began as, int64 (items, sources).
        link: The link between item and voice, in words.
    """

    items: NDArray[np.float32]
    sources: NDArray[np.int64]
    link: str


@dataclass(frozen=True)
class Voices:
    """Real clips with their speakers.

    Attributes:
        clips: Log-mels, float32 (clips, mels, frames).
        speakers: Speaker of each clip, int64 (clips,), from 0.
        females: Whether the speaker of each is a woman, bool (clips,); None where the corpus does not tell.
    """

    clips: NDArray[np.float32]
    speakers: NDArray[np.int64]
    females: NDArray[np.bool_] | None = None

    @property
    def count(self) -> int:
        """Number of speakers."""
        return int(self.speakers.max()) + 1


def voice_features(log_mels: NDArray[np.float32]) -> Floats:
    """Mean and standard deviation of every band over time, float64 (n, 2 mels), of (n, mels, frames).

    Vectors, (n, numbers, 1), are features as they are.
    """
    levels = log_mels.astype(np.float64)
    if levels.shape[2] == 1:
        return levels[:, :, 0]
    return np.concatenate([levels.mean(2), levels.std(2)], axis=1)


def too_few_clips(speakers: NDArray[np.int64], sources: NDArray[np.int64]) -> str:
    """Why speakers cannot be asked about; empty where every one has clips enough.

    Args:
        speakers: Speaker of each clip, (clips,), from 0.
        sources: Clips that items are or began as, in any order.
    """
    free = np.bincount(np.delete(speakers, np.unique(sources)), minlength=int(speakers.max()) + 1)
    if free.min() >= FEWEST_FREE:
        return ""
    short = int((free < FEWEST_FREE).sum())
    return (
        f"speakers and sex were not asked about: of {short} of {len(free)} speakers fewer than {FEWEST_FREE} "
        "recordings are left that no item is or began as, and the attacker learns from those"
    )


def linkage_figures(voices: Voices, sets: dict[str, Linked]) -> dict[str, Any]:
    """Top-1 and equal error rate of the classifier; see :mod:`edgeser.privacy`.

    No clip that an item is or began as is learnt by the classifier or asked about: the attacker has other recordings.
    """
    sources = [linked.sources.ravel() for linked in sets.values()]
    learnt, asked = _halves(voices.speakers, np.unique(np.concatenate(sources)))
    features = voice_features(voices.clips)
    known = _Judge(features[learnt], _one_hot(voices.speakers[learnt], voices.count))
    own = voices.speakers[asked][:, None]
    return {
        "words": "logistic regression on the mean and spread of every band over time; the attacker has recordings of "
        "the speakers, none of which is in the set or began one of its items",
        "speakers": voices.count,
        "chance": {"top_1": 1 / voices.count, "equal_error": 0.5},
        "real": _figures(known(features[asked]), own),
        "sets": {name: _of_set(voices, linked, known, features[asked], own) for name, linked in sets.items()},
    }


def sex_figures(voices: Voices, sets: dict[str, Linked]) -> dict[str, Any] | None:
    """Accuracy and area of the same classifier for the sex of the speaker; of items, of most of their sources."""
    if voices.females is None or voices.females.all() or not voices.females.any():
        return None
    sources = [linked.sources.ravel() for linked in sets.values()]
    learnt, asked = _halves(voices.speakers, np.unique(np.concatenate(sources)))
    features = voice_features(voices.clips)
    known = _Judge(features[learnt], _one_hot(voices.females[learnt].astype(np.int64), 2))
    found = {}
    for name, linked in sets.items():
        females = voices.females[linked.sources].mean(1)
        clear = females != 0.5
        if clear.any():
            probability, truth = known(voice_features(linked.items[clear]))[:, 1], females[clear] > 0.5
            sources = linked.sources[clear]
            likely = (voices.females[sources] == truth[:, None]).argmax(1)  # the first source of the sex of most
            groups = voices.speakers[sources[np.arange(len(sources)), likely]]
            found[name] = {"items": len(truth), "applied": _two_sided(probability, truth, groups)}
    return {
        "words": "the same classifier for the sex that the corpus states; of an item, of most of its sources",
        "real": _two_sided(known(features[asked])[:, 1], voices.females[asked], voices.speakers[asked]),
        "sets": found,
    }


def _of_set(voices: Voices, linked: Linked, known: _Judge, asked: Floats, own: NDArray[np.int64]) -> dict[str, Any]:
    targets = voices.speakers[linked.sources]
    features = voice_features(linked.items)
    shares = np.mean([_one_hot(targets[:, place], voices.count) for place in range(targets.shape[1])], axis=0)
    return {
        "link": linked.link,
        "sources": targets.shape[1],
        "chance": float((shares > 0).sum(1).mean() / voices.count),
        "applied": _figures(known(features), targets),
        "retrained": _figures(_Judge(features, shares)(asked), own),
    }


class _Judge:
    """A classifier: features (n, features) to probabilities (n, classes).

    It learns rows that belong to several classes by ``shares`` (rows, classes).
    """

    def __init__(self, features: Floats, shares: Floats) -> None:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        rows, labels = np.nonzero(shares)
        self.classes = shares.shape[1]
        self.labels = np.unique(labels)
        if len(self.labels) > 1:
            self.model = make_pipeline(StandardScaler(), LogisticRegression(C=INVERSE_PENALTY, max_iter=5000))
            self.model.fit(features[rows], labels, logisticregression__sample_weight=shares[rows, labels])

    def __call__(self, features: Floats) -> Floats:
        found = np.full((len(features), self.classes), FLOOR)
        found[:, self.labels] = self.model.predict_proba(features) if len(self.labels) > 1 else 1.0
        return np.asarray(np.maximum(found, FLOOR), dtype=np.float64)


def _figures(probabilities: Floats, targets: NDArray[np.int64]) -> dict[str, Any]:
    """Top-1 against any of the ``targets`` (rows, sources), and the equal error rate over pairs of row and speaker.

    What has a voice of one speaker is alike: rows are drawn together by the speaker of their first source.
    """
    rows, count = probabilities.shape
    right = (probabilities.argmax(1)[:, None] == targets).any(1)
    linked = np.zeros((rows, count), dtype=bool)
    linked[np.arange(rows)[:, None], targets] = True
    groups = targets[:, 0]
    pairs = np.repeat(groups, count)
    scores = np.log(probabilities) - np.log1p(-np.minimum(probabilities, 1 - 1e-12))
    decisions = Decisions(scores.ravel(), linked.ravel(), pairs, np.zeros(rows * count, dtype=np.int64))
    return {"top_1": mean_over(right.astype(np.float64), groups), "equal_error": equal_error(decisions)}


def _two_sided(probability: Floats, truth: NDArray[np.bool_], speakers: NDArray[np.int64]) -> dict[str, Any]:
    right = ((probability > 0.5) == truth).astype(np.float64)
    decisions = Decisions(probability, truth, speakers, np.zeros(len(truth), dtype=np.int64))
    return {"accuracy": mean_over(right, speakers), "auc": area(decisions)}


def _halves(speakers: NDArray[np.int64], without: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Two halves of every speaker's clips, less the clips ``without``."""
    random = np.random.default_rng(0)
    free = np.setdiff1d(np.arange(len(speakers)), without)
    own = [random.permutation(free[speakers[free] == number]) for number in range(int(speakers.max()) + 1)]
    return np.concatenate([each[::2] for each in own]), np.concatenate([each[1::2] for each in own])


def _one_hot(numbers: NDArray[np.int64], classes: int) -> Floats:
    return np.eye(classes)[numbers]
