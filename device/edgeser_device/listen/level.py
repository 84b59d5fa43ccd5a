"""How loud a microphone is: learnt from what it heard, so that a quiet one does not always say the same emotion.

The corpus's mean level in dB is part of every model. An utterance lies ``gain + manner`` dB beside it: the gain is the
microphone's and stays, the manner is how this one was spoken. With both normal, the gain after n utterances that lie
d1..dn beside the corpus is their mean times G / (G + M / n), with the variances G of gains and M of manners (the mean
of a normal posterior, Gelman et al., Bayesian Data Analysis, section 2.5). So the first utterance is taken as it is,
and after a few the microphone is as loud as the corpus.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeser_device.frontend import FrontendSpec

GAIN_STD_DB = 15.0
"""How differently loud microphones and distances are."""
MANNER_STD_DB = 8.0
"""How differently loud utterances are: 5 dB in the demo corpus, 11 dB in RAVDESS."""
MEMORY = 50
"""Utterances after which older ones begin to fade: somebody may move the microphone."""


class Loudness:
    """The correction in dB that utterances of one microphone get."""

    def __init__(self, spec: FrontendSpec, fixed_db: float | None = None) -> None:
        """Start without knowing the microphone.

        Args:
            spec: The model's front-end, whose ``mean`` is the corpus's level.
            fixed_db: This correction always, instead of learning one; 0 leaves the sound as it is.
        """
        self._reference = spec.mean
        self._fixed = fixed_db
        self._mean, self._count = 0.0, 0

    @property
    def correction_db(self) -> float:
        """What is added to every level."""
        if self._fixed is not None:
            return self._fixed
        if not self._count:
            return 0.0
        return -self._mean * GAIN_STD_DB**2 / (GAIN_STD_DB**2 + MANNER_STD_DB**2 / self._count)

    def learn(self, levels: NDArray[np.float32]) -> None:
        """Take an utterance's log-mels, shape (mels, frames), dB, silence trimmed, as it was heard."""
        self._count = min(self._count + 1, MEMORY)
        self._mean += (float(levels.mean(dtype=np.float64)) - self._reference - self._mean) / self._count
