"""The utterance that goes on: its samples, its windows so far, and the answer when it ends."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeser_device.frontend import FrontendStream
from edgeser_device.model.predict import Recogniser


class Utterance:
    """One stretch of speech. The space for the longest one is made once and used again.

    Attributes:
        windows: What the model read for the last :meth:`answer`, float32 (windows, *shape).
    """

    def __init__(self, recogniser: Recogniser, longest: int) -> None:
        """Make space.

        Args:
            recogniser: The model.
            longest: Samples of the longest utterance.
        """
        self._recogniser = recogniser
        self._spec = recogniser.frontend
        self._space = np.empty(longest, np.float32)
        self.windows = np.empty((0, *recogniser.reads.shape), np.float32)
        self._frames = np.empty((self._spec.mels, longest // self._spec.hop + 1), np.float32)
        self.clear()

    @property
    def samples(self) -> NDArray[np.float32]:
        """The samples so far, float32 (n,); the next utterance overwrites them."""
        return self._space[: self._length]

    def clear(self) -> None:
        """Begin anew."""
        self._stream = FrontendStream(self._spec)
        self._stream.push(np.zeros(self._recogniser.reads.lead, np.float32))
        self._length, self._count = 0, 0
        self._sum = np.zeros(len(self._recogniser.labels))
        self._whole = 0

    def push(self, samples: NDArray[np.float32]) -> bool:
        """Take the next samples; whether an answer is due, every ``window_hop`` frames as in a whole clip."""
        taken = samples[: len(self._space) - self._length]
        self._space[self._length : self._length + len(taken)] = taken
        self._length += len(taken)
        frames, before = self._stream.push(taken), self._steps
        self._frames[:, self._count : self._count + frames.shape[1]] = frames
        self._count += frames.shape[1]
        return self._steps != before

    @property
    def _steps(self) -> int:
        """The number of answers that were due so far: one where each window of a whole clip ends."""
        return (self._count - self._spec.frames) // self._spec.window_hop

    def answer_so_far(self, correction_db: float) -> NDArray[np.float64]:
        """Probabilities, float64 (classes,): the mean over the windows so far; before one is full, of it repeated."""
        if self._count < self._spec.frames:
            return self._window(0, self._count, correction_db)
        end = self._spec.frames + self._steps * self._spec.window_hop
        self._sum += self._window(end - self._spec.frames, end, correction_db)
        self._whole += 1
        return self._sum / self._whole

    def answer(self, samples: int, correction_db: float) -> tuple[NDArray[np.float64], NDArray[np.float32] | None]:
        """The answer for the first ``samples`` samples, as ``predict`` gives it for a recording of them.

        Returns:
            Probabilities, float64 (classes,), and the log-mels that they are of, dB, as they were heard; None where
            loudness does not matter.
        """
        self.windows, levels = self._recogniser.reads.clip(self._space[: min(samples, self._length)], correction_db)
        return self._recogniser(self.windows).astype(np.float64).mean(axis=0), levels

    def _window(self, start: int, end: int, correction_db: float) -> NDArray[np.float64]:
        """Probabilities of the window of these frames, float64 (classes,)."""
        samples = self._space[start * self._spec.hop : end * self._spec.hop]
        found = self._recogniser.reads.window(self._frames[:, start:end], samples, correction_db)
        return np.asarray(self._recogniser(found)[0], dtype=np.float64)
