"""The bounded queue between the thread that records and the one that thinks: the first never waits for the second."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue

import numpy as np
from numpy.typing import NDArray

from edgeser_device.listen.events import Counters

BLOCK_SECONDS = 0.032
"""Length of one block."""
CAPACITY = 312
"""Blocks that may wait: ten seconds."""
NICENESS = -11
"""Niceness of the recording thread, where the system grants it: what sound servers ask for. The thread works for a
millisecond a second, and must not wait for those that work all the time."""


@dataclass(frozen=True)
class Block:
    """Sound that a device delivered at once.

    Attributes:
        samples: Float32 (n, channels), full scale 1.0.
        captured: When it came, by ``time.monotonic``.
    """

    samples: NDArray[np.float32]
    captured: float


class BlockQueue:
    """Filled by one thread, emptied by another. When it is full the oldest block is thrown away, and counted."""

    def __init__(self, counters: Counters, capacity: int = CAPACITY) -> None:
        self._blocks: deque[Block] = deque()
        self._capacity = capacity
        self._counters = counters
        # A call without a lock of Python's: an Event's may be held by the other thread while that is not running.
        self._filled: SimpleQueue[None] = SimpleQueue()
        self._recorder = 0

    def put(self, samples: NDArray[np.float32], rate: int) -> None:
        """Copy a block into the queue; all that a capture callback does."""
        began = time.monotonic()
        if self._recorder != (thread := threading.get_ident()):
            self._recorder = thread
            if thread != threading.main_thread().ident:
                prefer_this_thread()
        if len(self._blocks) >= self._capacity:
            self._blocks.popleft()
            self._counters.dropped_blocks += 1
        self._blocks.append(Block(samples.copy(), began))
        self._counters.blocks += 1
        if self._filled.empty():
            self._filled.put(None)
        share = (time.monotonic() - began) * rate / max(1, len(samples))
        self._counters.late_callbacks += share > 1
        self._counters.callback_share_max = max(share, self._counters.callback_share_max)

    def count_overflow(self) -> None:
        """The system lost samples before they came here."""
        self._counters.overflows += 1

    def take(self, timeout: float) -> list[Block]:
        """All blocks that wait, in their order; none if none comes within ``timeout`` seconds."""
        with suppress(Empty):
            self._filled.get(timeout=0 if self._blocks else timeout)
        taken = []
        while self._blocks:
            taken.append(self._blocks.popleft())
        self._counters.coalesced_blocks += max(0, len(taken) - 1)
        return taken

    def clear(self) -> None:
        """Throw away what waits."""
        self._blocks.clear()


def prefer_this_thread() -> bool:
    """Let the calling thread run before others; whether the system grants it (root, or ``LimitNICE`` of a service)."""
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
    except (OSError, AttributeError):  # no right to it, or no Linux
        return False
    return True
