"""What is done with events: lines of JSON for programs, plain lines or moving bars for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from edgeser_device.listen.events import Event

Sink: TypeAlias = Callable[[Event], None]
BAR_WIDTH = 30


@contextmanager
def json_lines() -> Iterator[Sink]:
    """One JSON object a line on stdout, written at once so that a pipe sees it."""

    def write(event: Event) -> None:
        sys.stdout.write(json.dumps(event.to_json(), allow_nan=False, ensure_ascii=False) + "\n")
        sys.stdout.flush()

    yield write


@contextmanager
def plain_lines() -> Iterator[Sink]:
    """One readable line an event on stdout."""

    def write(event: Event) -> None:
        best = event.probabilities[event.emotion]
        heard = f"{event.emotion:<12} {best:4.0%}" if event.speech else f"{'(quiet)':<17}"
        sys.stdout.write(f"{event.t:8.2f} s  {heard}  {event.level_db:6.1f} dB\n")
        sys.stdout.flush()

    yield write


@contextmanager
def moving_bars() -> Iterator[Sink]:
    """A bar an emotion that moves in place on a terminal."""
    from rich.live import Live

    with Live(refresh_per_second=8) as live:
        yield lambda event: live.update(_bars(event))


def terminal() -> Any:
    """Moving bars on a terminal, lines anywhere else."""
    return moving_bars() if sys.stdout.isatty() else plain_lines()


def _bars(event: Event) -> Any:
    from rich.table import Table

    heard = "speech" if event.speech else "quiet"
    table = Table.grid(padding=(0, 1))
    for name, probability in event.probabilities.items():
        strong = event.speech and name == event.emotion
        style = "bold green" if strong else "white" if event.speech else "dim"
        table.add_row(
            f"[{style}]{name}", f"[{style}]{'█' * round(BAR_WIDTH * probability):<{BAR_WIDTH}}", f"{probability:4.0%}"
        )
    table.add_row("", f"{event.t:.1f} s  {heard}  {event.level_db:.0f} dB  {event.latency_ms:.0f} ms", "")
    return table
