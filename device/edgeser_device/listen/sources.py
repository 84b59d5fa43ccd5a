"""Where sound comes from: a recording or a microphone, behind the same few members."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from edgeser_device.audio import read_blocks
from edgeser_device.listen.capture.microphone import Sound
from edgeser_device.listen.events import Condition


class Source(Protocol):
    """Something that is listened to."""

    @property
    def condition(self) -> Condition:
        """Whether sound arrives."""

    @property
    def words(self) -> str:
        """The same in one line."""

    @property
    def source(self) -> str:
        """What it is."""

    def sounds(self) -> Iterator[Sound | None]:
        """Sound as it comes; None where there is none for the moment."""

    def close(self) -> None:
        """Stop."""


class Recording:
    """A file as a source."""

    condition: Condition = "listening"

    def __init__(self, path: Path, rate: int, realtime: bool, loop: bool = False) -> None:
        """A file.

        Args:
            path: Anything that libsndfile reads.
            rate: The model's, in Hz.
            realtime: As fast as it was spoken.
            loop: From its start again when it ends.
        """
        self._path, self._rate, self._realtime, self._loop = path, rate, realtime, loop
        self.source = str(path)
        self.words = f"listening to {path}"

    def sounds(self) -> Iterator[Sound | None]:
        """The whole file; errors as :func:`edgeser_device.audio.read_blocks`."""
        while True:
            for samples in read_blocks(self._path, self._rate, self._realtime):
                yield Sound(samples, time.monotonic(), behind=False)
            if not self._loop:
                return

    def close(self) -> None:
        """Nothing to stop."""
