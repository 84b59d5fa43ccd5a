"""Does a device keep the rate that it accepted: some USB microphones take 16 kHz and record at 48."""

from __future__ import annotations

FIRST_SECONDS, LONG_SECONDS = 1.0, 5.0
"""The first second is not counted: buffers fill. After five more the rate is known."""
TOLERANCE = 0.3
"""Crystals are wrong by 0.01 %, a rate that was not taken by a factor of 2.7 or 3; load makes the last block late."""


class ClockCheck:
    """Counts samples against the clock, once."""

    def __init__(self, rate: int) -> None:
        """Of a device that says it records at ``rate`` Hz."""
        self._rate = rate
        self._first: float | None = None
        self._base: float | None = None
        self._samples = 0
        self.measured: float | None = None
        """Hz; None until it is known."""

    @property
    def wrong(self) -> bool:
        """Whether another rate was measured than the device stated."""
        return self.measured is not None and abs(self.measured / self._rate - 1) > TOLERANCE

    def push(self, samples: int, captured: float) -> None:
        """So many samples, the last of which came at ``captured`` seconds."""
        if self.measured is not None:
            return
        if self._first is None:
            self._first = captured
        if self._base is None:
            if captured - self._first >= FIRST_SECONDS:
                self._base = captured
            return
        self._samples += samples
        if captured - self._base >= LONG_SECONDS:
            self.measured = self._samples / (captured - self._base)
