"""The one type of event that listening produces, and the state of what produces it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

State: TypeAlias = Literal["quiet", "uncertain", "sure"]
"""Nobody speaks; somebody speaks and no emotion is probable enough; one is."""
Condition: TypeAlias = Literal["listening", "silent", "lost"]
"""Sound arrives; the device delivers digital silence; the device is gone and is tried again."""


@dataclass(frozen=True)
class Event:
    """What was heard until ``t``: about twice a second, and once more when somebody stops speaking.

    Attributes:
        t: Seconds of sound from the start of the source to the end of what is judged.
        emotion: The most probable one; of the last speech where ``speech`` is false.
        probabilities: Of each emotion, averaged over the windows since the speech began.
        speech: Whether somebody speaks, by the gate.
        level_db: Root mean square of the sound since the last event in dB, full scale 0.
        latency_ms: From the arrival of the last sample to this event.
        state: What to make of it.
        confidence: Probability of ``emotion``; 0 where nobody speaks.
        final: Whether the speech has ended and this is the answer for all of it, the one of ``edgeser predict``.
        began: Second at which what is judged begins; None where nobody speaks.
        ended: Second at which the gate heard the last of it; None unless ``final``.
        clip: The file in which this speech was stored; None where nothing is stored.
    """

    t: float
    emotion: str
    probabilities: Mapping[str, float]
    speech: bool
    level_db: float
    latency_ms: float
    state: State = "sure"
    confidence: float = 0.0
    final: bool = False
    began: float | None = None
    ended: float | None = None
    clip: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**vars(self), "probabilities": dict(self.probabilities)}


@dataclass(frozen=True)
class Status:
    """How the listening itself is.

    Attributes:
        condition: Whether sound arrives.
        words: The same for people, in one line.
        source: The microphone or file, and its sampling rate.
        storing: The folder in which speech is stored; None where nothing is.
        counters: See :class:`edgeser_device.listen.counters.Counters`.
    """

    condition: Condition
    words: str
    source: str
    storing: str | None = None
    counters: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**vars(self), "counters": dict(self.counters)}
