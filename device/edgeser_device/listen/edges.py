"""Soft beginnings and ends: what belongs to speech although the gate does not take it for speech.

    edges = Edges(spec.trim_db)
    sounding = edges.push(level_db(chunk))          # for Boundaries.push
    chunks = edges.reach_back(since=3)              # at the beginning of speech: how far before the gate it began

A recording is trimmed by level alone, so a breath or the end of a sigh counts there. A gate for speech often gives them
no more than it gives to noise. Here a chunk sounds when it is no further under the loudest one than a recording's
edges may be, and well above the quietest of the last seconds, which is what the room sounds like. Nothing counts that
is far from what the gate takes for speech.
"""

from __future__ import annotations

from collections import deque

from edgeser_device.listen.gate import CHUNK_SECONDS, SILENCE_DB

ABOVE_ROOM_DB = 10.0
"""A room's own noise swings by less in 32 ms."""
ROOM_SECONDS = 5.0
"""Whose quietest chunk is the room."""
REACH_SECONDS = 1.0
"""How far before the gate speech may have begun."""


class Edges:
    """Levels of the last chunks."""

    def __init__(self, below_peak_db: float) -> None:
        """Start with nothing heard; ``below_peak_db`` is the front-end's ``trim_db``."""
        self._below = below_peak_db
        self._length = round(ROOM_SECONDS / CHUNK_SECONDS)
        self.restart()

    def restart(self) -> None:
        """Silence came before the next chunk, or nothing."""
        self._levels = deque([SILENCE_DB], maxlen=self._length)
        self._peak = SILENCE_DB

    def push(self, level: float) -> bool:
        """Take the level of the next chunk, dB; whether it sounds."""
        sounding = self._sounds(level)
        self._levels.append(level)
        self._peak = max(self._peak, level)
        return sounding

    def reach_back(self, since: int, gap: int) -> int:
        """Speech begins: how many chunks before the last ``since`` sound, with gaps of less than ``gap`` chunks."""
        levels = list(self._levels)
        self._peak = max(levels[-since:])
        before = levels[: len(levels) - since][::-1][: round(REACH_SECONDS / CHUNK_SECONDS)]
        reached = 0
        for distance, level in enumerate(before, start=1):
            if distance - reached > gap:
                break
            if self._sounds(level):
                reached = distance
        return reached

    def _sounds(self, level: float) -> bool:
        return level >= max(self._peak - self._below, min(self._levels) + ABOVE_ROOM_DB)
