"""Phases of a run: seconds that are counted once, and memory of all that take part."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edgeser import workers as stopwatch
from edgeser.workers import Stopwatch
from edgeser_device.machine import family_peak_rss_mb, peak_rss_mb


class Clock:
    """Stands in for the module time: it moves when it is told to."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(stopwatch, "time", clock)
    return clock


def test_a_phase_inside_another_counts_for_itself(clock: Clock) -> None:
    watch = Stopwatch()
    with watch.phase("method"):
        clock.now += 5
        for _ in range(2):
            with watch.phase("checks"):
                clock.now += 2
            clock.now += 1
    clock.now += 100  # no phase
    with watch.phase("labels"):
        clock.now += 3
    with watch.phase("method"):
        clock.now += 10
    assert watch.seconds == {"checks": 4, "method": 17, "labels": 3}
    assert watch.summary()["total_seconds"] == 24


def test_a_phase_that_fails_is_counted(clock: Clock) -> None:
    watch = Stopwatch()
    with pytest.raises(KeyError), watch.phase("method"):
        clock.now += 5
        raise KeyError
    assert watch.seconds == {"method": 5}


EATER = """
import sys
eaten = bytearray(200_000_000)
eaten[::4096] = bytes(len(range(0, len(eaten), 4096)))
sys.stdout.write("full\\n")
sys.stdout.flush()
sys.stdin.read()
"""


def test_memory_of_processes_that_this_one_started_is_added() -> None:
    if peak_rss_mb() is None:
        pytest.skip("this system does not tell what a process holds")
    watch = Stopwatch()
    with watch.phase("alone"):
        pass
    alone = watch.peak_rss_mb
    with subprocess.Popen([sys.executable, "-c", EATER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"full\n"
        with watch.phase("together"):
            pass
        child.stdin.close()
        child.wait()
    with watch.phase("alone again"):
        pass
    assert watch.summary()["peak_rss_mb"] - alone == pytest.approx(200, abs=30)
    assert family_peak_rss_mb() >= peak_rss_mb() - 1
