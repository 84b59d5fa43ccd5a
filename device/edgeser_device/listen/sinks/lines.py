"""Events as lines on stdout: JSON for programs, words for a log."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

from edgeser_device.listen.events import Event, Status
from edgeser_device.listen.sinks.sink import Sink


class Lines(Sink):
    """One line an event, written at once so that a pipe sees it."""

    def __init__(self, words: Callable[[Event], str]) -> None:
        self._words = words

    def event(self, event: Event) -> None:
        """Write the line."""
        sys.stdout.write(f"{self._words(event)}\n")
        sys.stdout.flush()


class Complaints(Sink):
    """Says on stderr when the microphone comes or goes: a service's log needs it as much as a person."""

    def __init__(self) -> None:
        self._said = ""

    def status(self, status: Status) -> None:
        """Say what is new."""
        if status.words != self._said:
            self._said = status.words
            sys.stderr.write(f"{status.words}\n")
            sys.stderr.flush()


def json_line(event: Event) -> str:
    """The event as one JSON object."""
    return json.dumps(event.to_json(), allow_nan=False)


def plain_line(event: Event) -> str:
    """The event in words."""
    mark = "=" if event.final else " "
    stored = f"  stored: {event.clip}" if event.clip else ""
    return f"{event.t:8.2f} s {mark} {heard(event):<20}  {event.level_db:6.1f} dB{stored}"


def heard(event: Event) -> str:
    """What was heard, in one to three words."""
    if event.state == "quiet":
        return "(quiet)"
    name = event.emotion if event.state == "sure" else f"{event.emotion}?"
    return f"{name} {event.confidence:.0%}"
