"""One writer, many readers, none of whom the writer waits for: the messages of the page."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

WAITING = 200
"""Messages that may wait for one reader; the oldest are thrown away for a slow one."""


class Reader:
    """What one page has not read yet."""

    def __init__(self) -> None:
        self._messages: deque[bytes] = deque(maxlen=WAITING)
        self._news = threading.Condition()
        self._closed = False

    def put(self, message: bytes) -> None:
        """Add a message."""
        with self._news:
            self._messages.append(message)
            self._news.notify()

    def close(self) -> None:
        """Nothing more comes."""
        with self._news:
            self._closed = True
            self._news.notify()

    def take(self, timeout: float) -> bytes | None:
        """All messages as one; empty if none came within ``timeout`` seconds; None when nothing more comes."""
        with self._news:
            if not self._messages and not self._closed:
                self._news.wait(timeout)
            if not self._messages and self._closed:
                return None
            joined = b"".join(self._messages)
            self._messages.clear()
            return joined


class Feed:
    """Server-sent events for every open page."""

    def __init__(self) -> None:
        self._readers: frozenset[Reader] = frozenset()
        self._kept: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._closed = False

    @property
    def readers(self) -> int:
        """Open pages."""
        return len(self._readers)

    def send(self, kind: str, value: Any, keep: bool = False) -> None:
        """Send ``value`` as JSON to all; with ``keep`` the latest of its kind to those that come later too."""
        if not self._readers and not keep:
            return
        message = f"event: {kind}\ndata: {json.dumps(value, allow_nan=False, ensure_ascii=False)}\n\n".encode()
        if keep:
            self._kept[kind] = message
        for reader in self._readers:
            reader.put(message)

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        """A reader of all that comes while the block runs, and of what was kept."""
        reader = Reader()
        with self._lock:
            for message in tuple(self._kept.values()):
                reader.put(message)
            self._readers |= {reader}
            if self._closed:
                reader.close()
        try:
            yield reader
        finally:
            with self._lock:
                self._readers -= {reader}

    def close(self) -> None:
        """End every reader."""
        with self._lock:
            self._closed = True
            for reader in self._readers:
                reader.close()
