"""The base of every sink: three calls, none of which may wait."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from edgeser_device.listen.events import Event, Status


class Sink:
    """Takes what listening produces; this one ignores all of it."""

    def event(self, event: Event) -> None:
        """Something was heard."""

    def sound(self, samples: NDArray[np.float32]) -> None:
        """Sound came, float32 (n,), at the model's rate: for pictures of it."""

    def status(self, status: Status) -> None:
        """The state of the listening, when it changes and every few seconds."""


class Sinks(Sink):
    """Several sinks as one."""

    def __init__(self, sinks: Iterable[Sink]) -> None:
        self._sinks = tuple(sinks)

    def event(self, event: Event) -> None:
        """Tell all."""
        for sink in self._sinks:
            sink.event(event)

    def sound(self, samples: NDArray[np.float32]) -> None:
        """Tell all."""
        for sink in self._sinks:
            sink.sound(samples)

    def status(self, status: Status) -> None:
        """Tell all."""
        for sink in self._sinks:
            sink.status(status)
