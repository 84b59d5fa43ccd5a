"""The user's own level: when it begins, how far it may go, when it refuses, what it forgets, and where it is stored."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from edgeser_device.errors import ModelError
from edgeser_device.model.adaptation import BOUND, FEWEST, MEMORY, ONE_SIDED, Adaptation, read_adaptation
from edgeser_device.model.model import ADAPTED

EVEN = np.full(4, 0.25)


def heard(count: int, level: float, answer: np.ndarray = EVEN, numbers: int = 6) -> Adaptation:
    own = Adaptation(numbers, len(answer))
    for _ in range(count):
        own.learn(np.full((2, numbers), level, dtype=np.float32), answer)
    return own


def test_it_begins_after_a_few_utterances() -> None:
    for count in range(FEWEST):
        own = heard(count, 0.3)
        assert not own.shift.any()
        assert own.words == f"not adapted yet: {count} of {FEWEST} utterances heard"
    assert heard(FEWEST, 0.3).shift.any()


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(0, 3 * MEMORY),
    level=st.floats(-1e3, 1e3, width=32),
    most=st.floats(0.25, 1),
    seed=st.integers(0, 9),
)
def test_the_shift_is_bounded_and_is_none_where_speech_is_one_sided(
    count: int, level: float, most: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    own = Adaptation(5, 4)
    answer = np.array([most, *np.full(3, (1 - most) / 3)])
    for _ in range(count):
        own.learn((level + random.standard_normal((1, 5))).astype(np.float32), answer)
    assert np.isfinite(own.shift).all()
    assert np.sqrt((own.shift.astype(float) ** 2).mean()) <= BOUND + 1e-6
    if count < FEWEST or own.answers.max() > 1 / 4 + ONE_SIDED:
        assert not own.shift.any()
    assert own.active == bool(count >= FEWEST and own.answers.max() <= 1 / 4 + ONE_SIDED)


def test_it_is_shrunk_towards_the_corpus() -> None:
    levels = [float(heard(count, 0.2).shift[0]) for count in (FEWEST, 2 * FEWEST, MEMORY)]
    assert 0 < levels[0] < levels[1] < levels[2] < 0.2


def test_it_forgets_slowly() -> None:
    own = heard(MEMORY, 0.2)
    before = own.mean[0]
    own.learn(np.full((1, 6), -0.2, dtype=np.float32), EVEN)
    assert before - own.mean[0] == pytest.approx(0.4 / MEMORY)
    for _ in range(6 * MEMORY):
        own.learn(np.full((1, 6), -0.2, dtype=np.float32), EVEN)
    assert own.mean[0] == pytest.approx(-0.2, abs=0.01)
    assert own.count == MEMORY


def test_one_sided_speech_is_told_and_more_of_other_kinds_lets_it_go_on() -> None:
    angry = np.array([0.9, 0.1, 0.0, 0.0])
    own = heard(FEWEST, 0.2, angry)
    assert not own.shift.any()
    assert own.words == "not adapted: one emotion is 90% of what was heard"
    for shown in (1, 2, 3):
        for _ in range(FEWEST):
            own.learn(np.full((1, 6), 0.2, dtype=np.float32), np.roll(angry, shown))
    assert own.shift.any()
    assert own.words == f"adapted to the last {4 * FEWEST} utterances"


@dataclass
class Card:
    size: int = 6


@dataclass
class Folder:
    """What of a model is asked for."""

    folder: Path
    labels: tuple[str, ...] = ("anger", "fear", "joy", "neutral")
    encoder: Card | None = None


def test_what_is_stored_is_read_again_and_damage_is_told(tmp_path: Path) -> None:
    model = Folder(tmp_path, encoder=Card())
    assert read_adaptation(model).count == 0
    own = heard(7, 0.25)
    (tmp_path / ADAPTED).write_text(json.dumps(own.to_json()))
    found = read_adaptation(model)
    assert (found.count, found.shift.tolist()) == (7, own.shift.tolist())
    for damage in ("{", "{}", json.dumps({**own.to_json(), "count": 0}), json.dumps({**own.to_json(), "mean": [1]})):
        (tmp_path / ADAPTED).write_text(damage)
        with pytest.raises(ModelError, match="is damaged") as caught:
            read_adaptation(model)
        assert "--adapt reset" in str(caught.value.hint)
    with pytest.raises(ModelError, match="reads log-mels"):
        read_adaptation(Folder(tmp_path))
