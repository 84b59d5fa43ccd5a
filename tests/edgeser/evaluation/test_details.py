"""What lies behind a UAR: counts that add up, recalls as scikit-learn has them, intervals that cover."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, recall_score

from edgeser.evaluation.intervals import FEWEST, around
from edgeser.evaluation.scoring import Clips, Score, row_details, score_of, speaker_interval

NAMES = ("anger", "neutral", "sadness")
SPEAKERS = ("03", "08", "09", "11")


def clips_of(labels: NDArray[np.int64], speakers: NDArray[np.str_]) -> Clips:
    nothing = np.zeros((len(labels), 1, 64, 96), np.float32)
    return Clips(nothing, np.arange(len(labels)), labels, len(NAMES), tuple(speakers.tolist()))


@pytest.fixture
def clips() -> Clips:
    """Unequal numbers of clips; speaker 11 is never sad."""
    random = np.random.default_rng(0)
    labels, speakers = random.integers(0, 3, 80), random.choice(SPEAKERS, 80)
    kept = (speakers != "11") | (labels != 2)
    return clips_of(labels[kept], speakers[kept])


@pytest.fixture
def scores(clips: Clips) -> list[Score]:
    random = np.random.default_rng(1)
    answers = [np.where(random.random(len(clips.labels)) < 0.6, clips.labels, 0) for _ in range(3)]
    return [score_of(np.eye(3)[answer], clips) for answer in answers]


def test_confusion_is_added_up_over_the_seeds(clips: Clips, scores: list[Score]) -> None:
    expected = sum(confusion_matrix(clips.labels, score.predicted, labels=range(3)) for score in scores)
    assert row_details(scores, clips, NAMES)["confusion"] == expected.tolist()


def test_recalls_of_a_speaker_are_those_of_scikit_learn(clips: Clips, scores: list[Score]) -> None:
    found = row_details(scores, clips, NAMES)["speakers"]
    assert list(found) == list(SPEAKERS)
    for speaker, each in found.items():
        own = np.array(clips.speakers) == speaker
        there = sorted(set(clips.labels[own].tolist()))
        recalls = [
            recall_score(clips.labels[own], score.predicted[own], labels=there, average=None, zero_division=0)
            for score in scores
        ]
        assert each["clips"] == own.sum()
        assert each["uar"] == pytest.approx([recall.mean() for recall in recalls], abs=1e-6)
        expected = dict(zip((NAMES[number] for number in there), np.mean(recalls, axis=0), strict=True))
        assert each["recalls"] == pytest.approx(expected, abs=1e-6)
    assert "sadness" not in found["11"]["recalls"]


def test_the_interval_is_the_jackknife_over_speakers(clips: Clips, scores: list[Score]) -> None:
    without = []
    for speaker in SPEAKERS:
        kept = np.array(clips.speakers) != speaker
        labels = clips.labels[kept]
        without.append(
            np.mean([recall_score(labels, score.predicted[kept], average="macro", zero_division=0) for score in scores])
        )
    error = np.sqrt(3 / 4 * np.sum((without - np.mean(without)) ** 2))
    mean = np.mean([score.uar for score in scores])
    assert row_details(scores, clips, NAMES)["interval"] == pytest.approx(around(mean, error, 3))


def test_too_few_speakers_have_no_interval() -> None:
    hits, totals = np.ones((2, FEWEST - 1, 3)), np.full((FEWEST - 1, 3), 2.0)
    assert speaker_interval(hits, totals) is None


@pytest.mark.parametrize("speakers", [4, 6, 12])
def test_intervals_cover_what_new_speakers_reach(speakers: int) -> None:
    """Of 500 test parts drawn from one population, about 95 % have its mean in their interval."""
    random = np.random.default_rng(speakers)
    covered = 0
    for _ in range(500):
        skill = np.clip(random.normal(0.55, 0.1, (speakers, 1)), 0, 1)
        hits = random.binomial(10, np.broadcast_to(skill, (speakers, 4))).astype(float)
        found = speaker_interval(hits[None], np.full((speakers, 4), 10.0))
        assert found is not None
        covered += found["low"] <= 0.55 <= found["high"]
    assert 0.92 <= covered / 500 <= 0.98
