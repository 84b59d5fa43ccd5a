"""What went on since the start, as numbers: for /metrics, the page and the end of the program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType

NAMES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "blocks": ("counter", "Blocks of sound that the microphone delivered."),
        "dropped_blocks": ("counter", "Blocks thrown away because the queue was full."),
        "coalesced_blocks": ("counter", "Blocks that waited and were taken together with others."),
        "overflows": ("counter", "Times that the system reported lost samples."),
        "callback_share_max": ("gauge", "The longest capture callback as a share of its block's length."),
        "late_callbacks": ("counter", "Capture callbacks that lasted longer than their block."),
        "reopened": ("counter", "Times that the microphone came back."),
        "lost": ("counter", "Times that the microphone went away."),
        "seconds_heard": ("counter", "Seconds of sound that were judged."),
        "events": ("counter", "Events."),
        "utterances": ("counter", "Utterances that ended."),
        "uncertain": ("counter", "Utterances whose emotion was uncertain."),
        "clips_stored": ("counter", "Utterances stored as files."),
        "broker_connects": ("counter", "Times that the MQTT broker let us in."),
        "broker_losses": ("counter", "Times that the MQTT broker went away."),
        "web_clients": ("gauge", "Open pages."),
        "latency_ms": ("gauge", "From the last sample to the latest event, in ms."),
        "level_db": ("gauge", "Level of the latest event in dB, full scale 0."),
        "correction_db": ("gauge", "What is added to the level for this microphone, in dB."),
    }
)
"""Each counter's kind in Prometheus, and its meaning."""


@dataclass
class Counters:
    """Numbers that many threads add to, each its own."""

    blocks: int = 0
    dropped_blocks: int = 0
    coalesced_blocks: int = 0
    overflows: int = 0
    callback_share_max: float = 0.0
    late_callbacks: int = 0
    reopened: int = 0
    lost: int = 0
    seconds_heard: float = 0.0
    events: int = 0
    utterances: int = 0
    uncertain: int = 0
    clips_stored: int = 0
    broker_connects: int = 0
    broker_losses: int = 0
    web_clients: int = 0
    latency_ms: float = 0.0
    level_db: float = -120.0
    correction_db: float = 0.0

    def to_json(self) -> dict[str, float]:
        """All of them."""
        return {name: round(value, 3) for name, value in asdict(self).items()}


def prometheus_text(values: Mapping[str, float]) -> str:
    """The counters in Prometheus's text format 0.0.4."""
    lines = []
    for name, (kind, meaning) in NAMES.items():
        full = f"edgeser_{name}_total" if kind == "counter" else f"edgeser_{name}"
        lines += [f"# HELP {full} {meaning}", f"# TYPE {full} {kind}", f"{full} {values[name]!r}"]
    return "\n".join(lines) + "\n"
