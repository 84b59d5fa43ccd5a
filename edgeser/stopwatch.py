"""Seconds of the phases of a run, and the most memory that was held.

watch = Stopwatch()
with watch.phase("experts"):
    ...
watch.summary()     # {"seconds": {"experts": 61.2}, "total_seconds": 61.2, "peak_rss_mb": 812.4}
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from edgeser_device.machine import family_peak_rss_mb


class Stopwatch:
    """Seconds by phase and memory; a phase may be entered again, and inside another one, which then stands still."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.peak_rss_mb: float | None = None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the block as a part of the phase ``name``."""
        begun, inner = time.monotonic(), sum(self.seconds.values())
        try:
            yield
        finally:
            inner = sum(self.seconds.values()) - inner
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - begun - inner
            self.peak_rss_mb = max(family_peak_rss_mb() or 0.0, self.peak_rss_mb or 0.0) or None

    def summary(self) -> dict[str, Any]:
        """Plain JSON values.

        Returns:
            ``seconds`` by phase, ``total_seconds``, and ``peak_rss_mb``: the most memory that this process and those
            that it had started held at the end of a phase, each at its most. It is None where the system does not tell.
        """
        return {
            "seconds": {name: round(value, 2) for name, value in self.seconds.items()},
            "total_seconds": round(sum(self.seconds.values()), 2),
            "peak_rss_mb": self.peak_rss_mb,
        }
