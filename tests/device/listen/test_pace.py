"""The distance of answers on a machine that is too slow for one every hop."""

from __future__ import annotations

import time
from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeser_device.listen.events import Counters, Status
from edgeser_device.listen.gate import Gate
from edgeser_device.listen.live import Listener, ListenSettings
from edgeser_device.listen.pace import FULL, HEARD, LEAST, MOST_HOPS, Pace
from edgeser_device.listen.program import run
from edgeser_device.listen.sinks.sink import Sink
from edgeser_device.model.model import Model
from edgeser_device.model.predict import Recogniser

HOP = 0.5


def paced(*seconds: float) -> Pace:
    pace = Pace(HOP)
    for each in seconds:
        pace.took(each)
    return pace


@given(st.floats(0.0, 20.0))
def test_answers_leave_room_for_the_rest(seconds: float) -> None:
    pace = paced(*[seconds] * LEAST)
    assert pace.seconds == HOP * min(MOST_HOPS, max(1, ceil(seconds / (FULL * HOP))))
    assert bool(pace.words) == (pace.seconds > HOP)
    hops = round(pace.seconds / HOP)
    assert [pace.due() for _ in range(3 * hops)] == [number % hops == hops - 1 for number in range(3 * hops)]


def test_one_slow_window_changes_nothing() -> None:
    assert paced(0.1, 0.1, 9.0).seconds == HOP
    assert paced(9.0, 9.0).seconds == HOP


@given(st.floats(0.41, 5.0))
def test_it_goes_back_only_when_there_is_room_to_spare(slow: float) -> None:
    pace = paced(*[slow] * HEARD)
    before = pace.seconds
    for _ in range(HEARD):
        pace.took(slow * 0.98)
    assert pace.seconds == before
    for _ in range(HEARD):
        pace.took(0.01)
    assert pace.seconds == HOP
    assert not pace.words


class Slow(Recogniser):
    """A recogniser on a slower machine."""

    def __call__(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        time.sleep(0.42)
        return super().__call__(windows)


class Told(Sink):
    def __init__(self) -> None:
        self.words: list[str] = []

    def status(self, status: Status) -> None:
        self.words.append(status.words)


class Noise:
    """A source of eight seconds of noise."""

    condition, words, source = "listening", "listening", "noise"

    def sounds(self):
        from edgeser_device.listen.capture.sources import Sound

        random = np.random.default_rng(0)
        for _ in range(16):
            yield Sound(random.standard_normal(8000).astype(np.float32) / 10, time.monotonic(), False)

    def close(self) -> None:
        pass


def test_a_slow_machine_answers_less_often_and_says_so(model: Model) -> None:
    fast = Recogniser.open(model)
    slow = Slow(fast.labels, fast.reads, fast._loaded)
    listener, told, counters = Listener(slow, Gate(), ListenSettings(), live=True), Told(), Counters()
    run(Noise(), listener, told, counters)
    hop = fast.frontend.window_hop * fast.frontend.hop / fast.frontend.rate
    assert listener.pace.seconds == counters.hop_s >= 2 * hop
    assert any(words.startswith("listening; an answer every 1.02 s only: a window takes 0.") for words in told.words)


def test_a_recording_waits_for_every_answer(model: Model) -> None:
    listener = Listener(Recogniser.open(model), Gate())
    listener.pace.took = lambda _: pytest.fail("a recording is not late")  # type: ignore[method-assign]
    run(Noise(), listener, Told(), Counters())
    assert listener.pace.words == ""
