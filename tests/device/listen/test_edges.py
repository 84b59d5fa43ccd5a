"""Soft beginnings and ends belong to speech; a room's noise does not."""

from __future__ import annotations

import pytest

from edgeser_device.listen.speech import ABOVE_ROOM_DB, Begin, Boundaries, Edges, End, SpeechSettings

LOUD, SOFT, ROOM = -20.0, -50.0, -85.0


def heard(levels, edges=None):
    edges = edges or Edges(40.0)
    return [edges.push(level) for level in levels]


def test_what_is_soft_sounds_in_a_quiet_room_only():
    assert heard([ROOM] * 10 + [LOUD] * 5 + [SOFT] * 3)[-3:] == [True] * 3
    noisy = SOFT - ABOVE_ROOM_DB + 1
    assert heard([noisy] * 10 + [LOUD] * 5 + [SOFT] * 3)[-3:] == [True, True, True]  # what came before is not known
    edges = Edges(40.0)
    heard([noisy] * 200, edges)
    assert heard([LOUD] * 5 + [SOFT] * 3, edges) == [True] * 5 + [False] * 3


def test_what_a_recording_would_lose_does_not_sound():
    assert heard([ROOM] * 10 + [LOUD] * 5 + [LOUD - 41])[-1] is False


@pytest.mark.parametrize(
    ("before", "reached"),
    [
        ([ROOM] * 20, 0),
        ([ROOM] * 20 + [SOFT] * 5, 5),
        ([ROOM] * 20 + [SOFT] * 5 + [ROOM] * 6, 11),
        ([SOFT] * 5 + [ROOM] * 20, 0),
        ([ROOM] * 2 + [SOFT] * 60, 31),
    ],
)
def test_speech_begins_where_it_began_to_sound(before, reached):
    edges = Edges(40.0)
    heard([ROOM] * 200 + before + [LOUD] * 3, edges)
    assert edges.reach_back(since=3, gap=14) == reached


def test_silence_makes_the_room_quiet():
    edges = Edges(40.0)
    heard([-55.0] * 300, edges)
    assert heard([LOUD, SOFT], edges) == [True, False]
    edges.restart()
    assert heard([LOUD, SOFT], edges) == [True, True]


def turns(probabilities, sounding):
    boundaries = Boundaries(SpeechSettings(tail=0.64))
    for _ in range(200):
        boundaries.push(0.0, ROOM)
    boundaries.number = 0
    levels = [LOUD if p > 0.5 else SOFT if sounds else ROOM for p, sounds in zip(probabilities, sounding, strict=True)]
    found = [boundaries.push(p, level) for p, level in zip(probabilities, levels, strict=True)]
    return [(place, turn) for place, turn in enumerate(found) if turn is not None]


def test_a_sigh_belongs_to_what_was_said():
    probabilities, fades = [0.0] * 20 + [0.9] * 20 + [0.1] * 60, [False] * 40 + [True] * 10 + [False] * 50
    (_, begin), (place, end) = turns(probabilities, fades)
    assert begin == Begin(20 - 14)
    assert end == End(first=6, last=49, chunk=50 + 14)
    assert place == 39 + 14  # no later than without the sigh


def test_a_long_sigh_is_waited_for():
    probabilities, fades = [0.0] * 20 + [0.9] * 20 + [0.1] * 60, [False] * 40 + [True] * 18 + [False] * 42
    _, (place, end) = turns(probabilities, fades)
    assert end.last == 57
    assert place == 57 + 3


def test_music_after_speech_does_not():
    probabilities = [0.0] * 20 + [0.9] * 20 + [0.1] * 200
    _, (place, end) = turns(probabilities, [True] * 240)
    assert end.last == 39 + 20
    assert place == end.last + 3


def test_sound_without_speech_begins_nothing():
    assert turns([0.1] * 100, [True] * 100) == []


def test_the_one_before_is_not_heard_again():
    boundaries = Boundaries(SpeechSettings())
    for probability, level in [(0.9, LOUD)] * 20 + [(0.0, ROOM)] * 14:
        boundaries.push(probability, level)
    assert not boundaries.open
    assert [boundaries.push(0.9, LOUD) for _ in range(3)] == [None, None, Begin(34)]
