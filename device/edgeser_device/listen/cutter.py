"""Sound cut into utterances by a gate: the part of listening that needs no model."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from edgeser_device.listen.edges import REACH_SECONDS, Edges
from edgeser_device.listen.gate import CHUNK_SECONDS, Gate, level_db
from edgeser_device.listen.speech import Begin, Boundaries, End, SpeechSettings


class Cutter:
    """Pieces of sound in, whole utterances out."""

    def __init__(self, gate: Gate, settings: SpeechSettings, rate: int, below_peak_db: float = 40.0) -> None:
        """Start with nothing heard; ``rate`` in Hz, ``below_peak_db`` as the front-end's ``trim_db``."""
        self._gate, self._boundaries, self._edges = gate, Boundaries(settings), Edges(below_peak_db)
        self._length = round(CHUNK_SECONDS * rate)
        reach = round(REACH_SECONDS / CHUNK_SECONDS)
        self._before: deque[NDArray[np.float32]] = deque(maxlen=self._boundaries.kept_before + reach)
        self._speech: list[NDArray[np.float32]] = []
        self._rest = np.empty(0, np.float32)

    def push(self, samples: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Take the next samples, float32 (n,); the utterances that end in them, each float32 (n,)."""
        held = np.concatenate([self._rest, samples])
        whole = len(held) // self._length * self._length
        self._rest = held[whole:]
        chunks = held[:whole].reshape(-1, self._length)
        return [found for chunk in chunks if (found := self._hear(chunk)) is not None]

    def finish(self) -> list[NDArray[np.float32]]:
        """The utterance that the end of the sound cut off, if there is one."""
        self._speech.append(self._rest)
        if self._boundaries.finish() is not None:
            self._speech = [*self._known(since=1), self._rest]
        return [self._close(self._boundaries.close())] if self._boundaries.open else []

    def _hear(self, chunk: NDArray[np.float32]) -> NDArray[np.float32] | None:
        turn = self._boundaries.push(self._gate(chunk), self._edges.push(level_db(chunk)))
        self._before.append(chunk.copy())
        if isinstance(turn, Begin):
            self._speech = self._known(self._boundaries.onset)
        elif self._boundaries.open or isinstance(turn, End):
            self._speech.append(self._before[-1])
        return self._close(turn) if isinstance(turn, End) else None

    def _known(self, since: int) -> list[NDArray[np.float32]]:
        begin = self._boundaries.reach_back(self._edges.reach_back(since, self._boundaries.pause))
        return list(self._before)[-(self._boundaries.number - begin.chunk) :]

    def _close(self, end: End) -> NDArray[np.float32]:
        found = np.concatenate(self._speech)[: (end.chunk - end.first) * self._length]
        self._speech = []
        return found
