"""The one type of event that listening produces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Event:
    """What was heard in the window that ends at ``t``.

    Attributes:
        t: Seconds of sound from the start of the source to the end of the window.
        emotion: The most probable one; not meaningful where ``speech`` is false.
        probabilities: Of each emotion.
        speech: Whether the sound since the last event was loud enough to be speech.
        level_db: Its root mean square in dB, full scale 0.
        latency_ms: From the arrival of the last sample to this event.
    """

    t: float
    emotion: str
    probabilities: Mapping[str, float]
    speech: bool
    level_db: float
    latency_ms: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**vars(self), "probabilities": dict(self.probabilities)}
