"""Events on stdout: JSON lines for programs, words for a log, moving bars for a person at a terminal."""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from edgeser_device.listen.events import Event, Status
from edgeser_device.listen.sinks.sink import Sink

BAR_WIDTH = 30
LOWEST_DB = -70.0
"""Left end of the level bar."""
TIMELINE = 5
"""Utterances that stay in sight."""


class Bars(Sink):
    """Draws into a rich.live.Live."""

    def __init__(self, live: Any) -> None:
        self._live = live
        self._event: Event | None = None
        self._status: Status | None = None
        self._finals: deque[Event] = deque(maxlen=TIMELINE)

    def event(self, event: Event) -> None:
        """Draw it."""
        self._event = event
        if event.final:
            self._finals.append(event)
        self._draw()

    def status(self, status: Status) -> None:
        """Draw it."""
        self._status = status
        self._draw()

    def _draw(self) -> None:
        self._live.update(picture(self._event, self._status, tuple(self._finals)))


@contextmanager
def moving_bars() -> Iterator[Sink]:
    """A sink that draws on the terminal while the block runs."""
    from rich.live import Live

    with Live(refresh_per_second=8) as live:
        yield Bars(live)


def picture(event: Event | None, status: Status | None, finals: tuple[Event, ...]) -> Any:
    """All that is shown; labels and names of files are data, so nothing is read as markup."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Any] = []
    if event is not None:
        parts.append(_bars(event))
    for final in finals:
        span = f"{final.began or 0:8.1f} s to {final.ended or final.t:.1f} s  "
        parts.append(Text.assemble((span, "dim"), (heard(final), "green" if final.state == "sure" else "yellow")))
    if status is not None:
        parts.append(Text(status.words, "dim" if status.condition == "listening" else "bold red"))
        if status.storing:
            parts.append(Text(f"● what is said is stored in {status.storing}", "bold red"))
        if status.adapted:
            parts.append(Text(status.adapted, "dim"))
    return Group(*parts)


def _bars(event: Event) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 1))
    for name, probability in event.probabilities.items():
        strong = event.state == "sure" and name == event.emotion
        style = "bold green" if strong else "white" if event.speech else "dim"
        table.add_row(Text(name, style), Text(_bar(probability), style), Text(f"{probability:4.0%}", style))
    level = min(1.0, max(0.0, 1 - event.level_db / LOWEST_DB))
    table.add_row(Text("level", "cyan"), Text(_bar(level), "cyan"), Text(f"{event.level_db:.0f} dB"))
    table.add_row("", Text(f"{event.t:.1f} s  {event.state}  {event.latency_ms:.0f} ms"), "")
    return table


def _bar(share: float) -> str:
    return f"{'█' * round(BAR_WIDTH * share):<{BAR_WIDTH}}"


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
        words = f"{status.words}; {status.adapted}" if status.adapted else status.words
        if words != self._said:
            self._said = words
            sys.stderr.write(f"{words}\n")
            sys.stderr.flush()


def json_line(event: Event) -> str:
    """The event as one JSON object."""
    return json.dumps(event.to_json(), allow_nan=False)


def plain_line(event: Event) -> str:
    """The event in words."""
    mark = "=" if event.final else " "
    stored = f"  stored: {event.clip}" if event.clip else ""
    adapted = "  adapted" if event.adapted else ""
    return f"{event.t:8.2f} s {mark} {heard(event):<20}  {event.level_db:6.1f} dB{adapted}{stored}"


def heard(event: Event) -> str:
    """An event in one to three words."""
    if event.emotion is None:
        return f"({event.state.replace('_', ' ')})"
    name = event.emotion if event.state == "sure" else f"{event.emotion}?"
    return f"{name} {event.confidence:.0%}"
