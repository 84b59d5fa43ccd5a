"""What the phases of a run took: seconds, and the most memory that was held.

watch = Stopwatch()
with watch.phase("experts"):
    ...
watch.summary()     # {"seconds": {"experts": 61.2}, "total_seconds": 61.2, "rss_mb": ..., "peak_rss_mb": ...}
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from edgeser_device.machine import family_peak_rss_mb, peak_rss_mb, seconds_since_start

START = "start"
"""The phase before the first line of ours: the interpreter and its imports."""


class Stopwatch:
    """Seconds and memory by phase; a phase may be entered again, and inside another one, which then stands still."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.rss_mb: dict[str, float] = {}

    @classmethod
    def of_program(cls) -> Stopwatch:
        """A stopwatch that was started with this process."""
        watch = cls()
        watch.seconds[START] = seconds_since_start()
        watch._look(START)
        return watch

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the block as a part of the phase ``name``."""
        begun, inner = time.monotonic(), sum(self.seconds.values())
        try:
            yield
        finally:
            inner = sum(self.seconds.values()) - inner
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - begun - inner
            self._look(name)

    def summary(self) -> dict[str, Any]:
        """Plain JSON values; memory is None where the system does not tell.

        Returns:
            ``seconds`` by phase and ``total_seconds``; ``rss_mb`` by phase, the most that was held until its end by
            this process, and by those it had started then, each at its most; ``peak_rss_mb``, the largest of these;
            ``process_peak_rss_mb``, the most of this process alone.
        """
        return summary_of(self.seconds, self.rss_mb, peak_rss_mb())

    def _look(self, name: str) -> None:
        memory = family_peak_rss_mb()
        if memory is not None:
            self.rss_mb[name] = max(memory, self.rss_mb.get(name, 0.0))


def summary_of(seconds: dict[str, float], rss_mb: dict[str, float], process_peak: float | None) -> dict[str, Any]:
    """The object of :meth:`Stopwatch.summary` from its parts."""
    return {
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "total_seconds": round(sum(seconds.values()), 2),
        "rss_mb": {name: round(value, 1) for name, value in rss_mb.items()} or None,
        "peak_rss_mb": max(rss_mb.values(), default=None),
        "process_peak_rss_mb": process_peak,
    }
