"""Scores: unweighted average recall against scikit-learn, and windows averaged by clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeser.corpora.corpus import Utterance
from edgeser.evaluation.scoring import Clips, average_by_clip, probabilities, score, score_of
from edgeser.models.experts import Task
from edgeser.representation.logmel import LogMelPart
from edgeser_device.frontend import FrontendSpec, normalise, windows
from edgeser_export.graph.initial import initial_weights
from edgeser_export.graph.reference import run_reference, softmax


def clips_with(labels: np.ndarray, classes: int) -> Clips:
    return Clips(np.zeros((len(labels), 1, 64, 96), np.float32), np.arange(len(labels)), labels, classes)


@given(
    pairs=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60),
    classes=st.integers(5, 6),
)
def test_uar_is_the_mean_recall_of_the_classes_that_occur(pairs: list[tuple[int, int]], classes: int) -> None:
    truth, said = (np.array(column) for column in zip(*pairs, strict=True))
    found = score_of(np.eye(classes)[said], clips_with(truth, classes))
    said_of = {number: [b for a, b in pairs if a == number] for number in range(classes)}
    recalls = {number: rows.count(number) / len(rows) for number, rows in said_of.items() if rows}
    assert found.uar == pytest.approx(sum(recalls.values()) / len(recalls))
    assert found.confusion.tolist() == [[said_of[a].count(b) for b in range(classes)] for a in range(classes)]
    assert np.isnan(found.recalls).tolist() == [number not in recalls for number in range(classes)]


@pytest.mark.slow
def test_uar_is_the_macro_recall_of_scikit_learn() -> None:
    """Slow because of the import."""
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(0)
    for _ in range(20):
        truth, said = random.integers(0, 4, 50), random.integers(0, 4, 50)
        found = score_of(np.eye(4)[said], clips_with(truth, 4))
        assert found.uar == pytest.approx(metrics.recall_score(truth, said, average="macro"))
        assert np.array_equal(found.confusion, metrics.confusion_matrix(truth, said))


def test_uar_by_hand() -> None:
    truth = np.array([0, 0, 0, 0, 1, 2])
    said = np.array([0, 0, 0, 1, 1, 0])
    found = score_of(np.eye(3)[said], clips_with(truth, 3))
    assert found.recalls.tolist() == [0.75, 1.0, 0.0]
    assert found.uar == pytest.approx(1.75 / 3)
    assert found.confusion.tolist() == [[3, 1, 0], [0, 1, 0], [1, 0, 0]]


def test_a_clip_gets_the_mean_of_its_windows() -> None:
    rows = np.array([[1.0, 0.0], [0.4, 0.6], [0.1, 0.9], [0.2, 0.8]], dtype=np.float32)
    found = average_by_clip(rows, np.array([0, 1, 0, 0]), 2)
    np.testing.assert_allclose(found, [[1.3 / 3, 1.7 / 3], [0.4, 0.6]], rtol=1e-6)


def test_a_vote_of_windows_can_be_outweighed_by_one_sure_window() -> None:
    rows = np.array([[0.45, 0.55], [0.45, 0.55], [0.95, 0.05]], dtype=np.float32)
    clips = Clips(np.zeros((3, 1, 64, 96), np.float32), np.zeros(3, dtype=np.int64), np.array([0]), 2)
    assert score_of(average_by_clip(rows, clips.owners, 1), clips).uar == 1.0


def test_probabilities_do_not_depend_on_the_batch_and_are_those_of_numpy(task: Task) -> None:
    weights, x = initial_weights(task.graph, 0), task.clips[:5]
    whole = probabilities(task.graph, weights, x)
    pieces = np.concatenate([probabilities(task.graph, weights, x[:2]), probabilities(task.graph, weights, x[2:])])
    np.testing.assert_allclose(whole, pieces, atol=1e-6)
    np.testing.assert_allclose(whole, softmax(run_reference(task.graph, weights, x)), atol=1e-5)


def test_scoring_a_part_averages_all_its_windows(task: Task) -> None:
    spec = FrontendSpec(mean=-40.0, std=15.0)
    random = np.random.default_rng(0)
    levels = tuple(
        (-40 + 15 * random.standard_normal((64, length))).astype(np.float32) for length in (150, 60, 96, 240)
    )
    spoken = tuple(Utterance(Path(f"{number}.wav"), "anger", f"speaker {number}") for number in range(4))
    part = LogMelPart(spoken, np.array([0, 1, 2, 0]), levels, spec)
    weights = initial_weights(task.graph, 4)
    expected = np.zeros((3, 3), dtype=int)
    for clip, label in zip(levels, part.labels, strict=True):
        cut = normalise(windows(clip, spec), spec)[:, None]
        expected[label, softmax(run_reference(task.graph, weights, cut)).mean(0).argmax()] += 1
    clips = Clips.of(part, 3)
    found = score(task.graph, weights, clips)
    assert np.array_equal(found.confusion, expected)
    assert clips.speakers == ("speaker 0", "speaker 1", "speaker 2", "speaker 3")
    answers = np.zeros_like(expected)
    np.add.at(answers, (part.labels, found.predicted), 1)
    assert np.array_equal(answers, expected)
