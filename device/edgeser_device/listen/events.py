"""Messages of the listener: its one type of event, its state, and numbers since the start.

The numbers stand on /metrics, on the page, and at the end of the program.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from edgeser_device.model.voice import State

SCHEMA = 1
"""The version of the JSON of events; it rises when the meaning of a key changes, or when one goes."""
Condition: TypeAlias = Literal["listening", "silent", "lost"]
"""Sound arrives; the device delivers digital silence; the device is gone and is tried again."""


@dataclass(frozen=True)
class Event:
    """The sound heard until ``t``, judged: about twice a second, and once more when somebody stops speaking.

    Attributes:
        t: Seconds of sound from the start of the source to the end of what is judged.
        emotion: The most probable one; None where nobody speaks, or too little was said.
        probabilities: Probability of each emotion, averaged over the windows since the speech began.
        speech: Whether somebody speaks, by the gate.
        level_db: Root mean square of the sound since the last event in dB, full scale 0.
        latency_ms: Milliseconds from the arrival of the last sample to this event.
        state: The verdict; see ``State``.
        confidence: Probability of ``emotion``; 0 where none is named.
        final: Whether the speech has ended and this is the answer for all of it, the one of ``edgeser predict``.
        began: Second at which what is judged begins; None where nobody speaks.
        ended: Second at which the gate heard the last of it; None unless ``final``.
        clip: The file in which this speech was stored; None where nothing is stored.
        time: The clock's time at which this event was made: ISO 8601, UTC, to a millisecond.
        session: Twelve hexadecimal digits, drawn when the listening began.
        hop_s: Seconds from one answer to the next while somebody speaks; longer on a machine that is too slow.
        adapted: Whether the answer was adapted to the user's own voice.
    """

    t: float
    emotion: str | None
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
    time: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds"))
    session: str = ""
    hop_s: float = 0.5
    adapted: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, with the number of their ``schema``."""
        return {"schema": SCHEMA, **vars(self), "probabilities": dict(self.probabilities)}


@dataclass(frozen=True)
class Status:
    """The state of the listener itself.

    Attributes:
        condition: Whether sound arrives.
        words: One line for people that says the same.
        source: The microphone or file, and its sampling rate.
        storing: The folder in which speech is stored; None where nothing is.
        adapted: How the model is adapted to the user's own voice, in words; None where that was not asked for.
        counters: See :class:`edgeser_device.listen.events.Counters`.
    """

    condition: Condition
    words: str
    source: str
    storing: str | None = None
    counters: Mapping[str, float] = field(default_factory=dict)
    adapted: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, with the number of their ``schema``."""
        return {"schema": SCHEMA, **vars(self), "counters": dict(self.counters)}


def _number(kind: Literal["counter", "gauge"], meaning: str, start: float = 0) -> Any:
    """A field with its kind in Prometheus and its meaning."""
    return field(default=start, metadata={"kind": kind, "meaning": meaning})


@dataclass
class Counters:
    """Numbers that many threads add to, each its own."""

    blocks: int = _number("counter", "Blocks of sound that the microphone delivered.")
    dropped_blocks: int = _number("counter", "Blocks thrown away because the queue was full.")
    coalesced_blocks: int = _number("counter", "Blocks that waited and were taken together with others.")
    overflows: int = _number("counter", "Times that the system reported lost samples.")
    callback_share_max: float = _number("gauge", "The longest capture callback as a share of its block's length.", 0.0)
    late_callbacks: int = _number("counter", "Capture callbacks that lasted longer than their block.")
    reopened: int = _number("counter", "Times that the microphone came back.")
    lost: int = _number("counter", "Times that the microphone went away.")
    seconds_heard: float = _number("counter", "Seconds of sound that were judged.", 0.0)
    events: int = _number("counter", "Events.")
    utterances: int = _number("counter", "Utterances that ended.")
    uncertain: int = _number("counter", "Utterances whose emotion was uncertain.")
    clips_stored: int = _number("counter", "Utterances stored as files.")
    broker_connects: int = _number("counter", "Times that the MQTT broker let us in.")
    broker_losses: int = _number("counter", "Times that the MQTT broker went away.")
    web_clients: int = _number("gauge", "Open pages.")
    latency_ms: float = _number("gauge", "From the last sample to the latest event, in ms.", 0.0)
    hop_s: float = _number("gauge", "Seconds from one answer to the next while somebody speaks.", 0.0)
    level_db: float = _number("gauge", "Level of the latest event in dB, full scale 0.", -120.0)
    adapted_utterances: int = _number("gauge", "Utterances that the model is adapted to.")
    correction_db: float = _number("gauge", "What is added to the level for this microphone, in dB.", 0.0)

    def to_json(self) -> dict[str, float]:
        """Return all numbers by name."""
        return {name: round(value, 3) for name, value in asdict(self).items()}


def prometheus_text(values: Mapping[str, float]) -> str:
    """The counters in Prometheus's text format 0.0.4."""
    lines = []
    for number in fields(Counters):
        kind, meaning = number.metadata["kind"], number.metadata["meaning"]
        full = f"edgeser_{number.name}_total" if kind == "counter" else f"edgeser_{number.name}"
        lines += [f"# HELP {full} {meaning}", f"# TYPE {full} {kind}", f"{full} {values[number.name]!r}"]
    return "\n".join(lines) + "\n"
