"""Halves: complements, of whole and of split speakers, with half of each class."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeser.errors import AuditError
from edgeser.privacy.membership import SPLIT, WHOLE_IN, WHOLE_OUT
from edgeser.privacy.shadows import FEWEST_SPEAKERS, draw_half, speaker_numbers


@given(st.integers(FEWEST_SPEAKERS, 20), st.integers(2, 12), st.integers(0, 1000), st.integers(0, 30))
def test_pairs_complement_each_other(speakers: int, each: int, seed: int, pair: int) -> None:
    owner = np.repeat(np.arange(speakers), each)
    labels = np.tile(np.arange(each) % 3, speakers)
    first, second = (draw_half(labels, owner, seed, 2 * pair + number) for number in (0, 1))
    assert (first.chosen ^ second.chosen).all()
    for half in (first, second):
        share = np.array([half.chosen[owner == number].mean() for number in range(speakers)])
        assert (share[half.standing == WHOLE_IN] == 1).all()
        assert (share[half.standing == WHOLE_OUT] == 0).all()
        assert (half.standing == SPLIT).sum() == speakers - 2 * max(1, speakers // 4)
        for number in np.flatnonzero(half.standing == SPLIT):
            for label in range(3):
                own = half.chosen[(owner == number) & (labels == label)]
                assert abs(own.sum() - len(own) / 2) <= 0.5


def test_pairs_differ_from_each_other() -> None:
    owner, labels = np.repeat(np.arange(6), 10), np.zeros(60, dtype=np.int64)
    assert (draw_half(labels, owner, 0, 0).chosen != draw_half(labels, owner, 0, 2).chosen).any()
    assert (draw_half(labels, owner, 0, 0).chosen == draw_half(labels, owner, 0, 0).chosen).all()


def test_speakers_are_numbered_in_alphabetical_order() -> None:
    assert speaker_numbers(("b", "a", "d", "c", "a")).tolist() == [1, 0, 3, 2, 0]


def test_too_few_speakers_are_one_line_and_a_hint() -> None:
    with pytest.raises(AuditError, match="3 training speakers, too few for an interval") as caught:
        speaker_numbers(("a", "b", "c", "a"))
    assert "at least 4 speakers" in caught.value.hint
