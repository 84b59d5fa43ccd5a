"""From pieces of sound to events: streaming front-end, ring of frames, the model every half second.

    listener = Listener(recogniser)
    for block in read_blocks(Path("clip.wav"), recogniser.frontend.rate):
        for event in listener.push(block):
            ...
    for event in listener.finish():
        ...

The frames are those that ``predict`` computes, so that over full windows the events' mean is its answer for the same
samples (``predict`` trims silent edges first, listening cannot know where they are).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from math import log10

import numpy as np
from numpy.typing import NDArray

from edgeser_device.frontend import FrontendStream, wrap
from edgeser_device.listen.events import Event
from edgeser_device.runtime import Recogniser

SPEECH_LEVEL_DB = -45.0
"""Quieter sound is not taken for speech. Speech at arm's length from a usual microphone lies between -35 and -15 dB,
the noise of a quiet room below -55 dB."""
SILENCE_DB = -120.0
"""The level of digital silence, whose logarithm does not exist."""


class Listener:
    """Keeps the last window of frames and calls the model every ``window_hop`` frames."""

    def __init__(self, recogniser: Recogniser, clock: Callable[[], float] = time.perf_counter) -> None:
        """Start with nothing heard.

        Args:
            recogniser: The model.
            clock: Seconds; only differences are used.
        """
        self._recogniser = recogniser
        self._spec = recogniser.frontend
        self._stream = FrontendStream(self._spec)
        self._ring = np.empty((self._spec.mels, self._spec.frames), np.float32)
        self._heard = 0
        self._clock = clock
        self._energy, self._samples, self._told = 0.0, 0, 0

    @property
    def frames(self) -> int:
        """Frames heard so far."""
        return self._heard

    def push(self, samples: NDArray[np.float32]) -> list[Event]:
        """Take the next samples, float32 (n,), and return the events that they complete."""
        events = []
        arrived = self._clock()
        hop = self._spec.hop
        # At most one frame a turn, so that a level belongs to the samples since the last event.
        for start in range(0, len(samples), hop):
            piece = samples[start : start + hop]
            self._energy += float(np.dot(piece, piece))
            self._samples += len(piece)
            for frame in self._stream.push(piece).T:
                self._keep(frame)
                if self._due():
                    events.append(self._event(arrived))
        return events

    def finish(self) -> list[Event]:
        """The only event of a source that ended before its first one was due; nothing otherwise."""
        if self._told or not self._samples:
            return []
        arrived = self._clock()
        if self._heard == 0:
            for frame in self._stream.push(np.zeros(self._spec.n_fft, np.float32)).T[:1]:
                self._keep(frame)
        return [self._event(arrived)]

    def _keep(self, frame: NDArray[np.float32]) -> None:
        self._ring[:, self._heard % self._spec.frames] = frame
        self._heard += 1

    def _due(self) -> bool:
        """Every ``window_hop`` frames, counted so that full windows are those of a whole clip."""
        return (self._heard - self._spec.frames) % self._spec.window_hop == 0

    def _window(self) -> NDArray[np.float32]:
        if self._heard < self._spec.frames:
            return wrap(self._ring[:, : self._heard], self._spec.frames)
        return np.roll(self._ring, -(self._heard % self._spec.frames), axis=1)

    def _event(self, arrived: float) -> Event:
        probabilities = self._recogniser(self._window()[None])[0]
        power = self._energy / max(self._samples, 1)
        level = max(SILENCE_DB, 10 * log10(power)) if power > 0 else SILENCE_DB
        self._energy, self._samples = 0.0, 0
        self._told += 1
        labels = self._recogniser.labels
        return Event(
            t=round(((self._heard - 1) * self._spec.hop + self._spec.n_fft) / self._spec.rate, 3),
            emotion=labels[int(probabilities.argmax())],
            probabilities=dict(zip(labels, (round(float(value), 6) for value in probabilities), strict=True)),
            speech=level >= SPEECH_LEVEL_DB,
            level_db=round(level, 1),
            latency_ms=round(1000 * (self._clock() - arrived), 2),
        )
