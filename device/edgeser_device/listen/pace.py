"""The distance of answers while somebody speaks: longer than a hop where a window takes longer than that.

pace = Pace(hop_s=0.5)
if pace.due():                  # once a hop
    ...
    pace.took(seconds)
pace.words                      # empty while every hop has its answer
"""

from __future__ import annotations

from collections import deque
from math import ceil
from statistics import median

FULL, EASY = 0.8, 0.6
"""Shares of the time between two answers that a window may take: above the first answers come more rarely, and they
come more often again when a window would take less than the second. The rest is for sound, gate and sinks."""
HEARD, LEAST = 5, 3
"""Windows whose median counts, and how many there must be: one that was held up by something else says little."""
MOST_HOPS = 20
"""Hops from one answer to the next at most."""


class Pace:
    """Counts hops and windows of one listener.

    Attributes:
        words: What is said where answers come more rarely than every hop; empty otherwise.
    """

    def __init__(self, hop_s: float) -> None:
        """Begin with an answer every ``hop_s`` seconds."""
        self._hop, self._hops, self._passed = hop_s, 1, 0
        self._took: deque[float] = deque(maxlen=HEARD)
        self.words = ""

    @property
    def seconds(self) -> float:
        """Seconds from one answer to the next."""
        return self._hop * self._hops

    def due(self) -> bool:
        """Whether this hop has an answer; asked once every hop."""
        self._passed += 1
        if self._passed < self._hops:
            return False
        self._passed = 0
        return True

    def took(self, seconds: float) -> None:
        """Learn the seconds that a window took."""
        self._took.append(seconds)
        if len(self._took) < LEAST:
            return
        typical = median(self._took)
        least, most = (min(MOST_HOPS, max(1, ceil(typical / (share * self._hop)))) for share in (FULL, EASY))
        hops = min(max(self._hops, least), most)
        if hops != self._hops:
            self._hops = hops
            slow = f"an answer every {self.seconds:.3g} s only: a window takes {typical:.2f} s on this machine"
            self.words = slow if hops > 1 else ""
