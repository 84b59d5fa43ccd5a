"""What is done with events: lines of JSON for programs, plain lines or moving bars for people."""

from __future__ import annotations

import json
import os
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
    with _until_the_reader_leaves():
        yield lambda event: _write(json.dumps(event.to_json(), allow_nan=False, ensure_ascii=False))


@contextmanager
def plain_lines() -> Iterator[Sink]:
    """One readable line an event on stdout."""

    def show(event: Event) -> None:
        best = event.probabilities[event.emotion]
        heard = f"{event.emotion:<12} {best:4.0%}" if event.speech else f"{'(quiet)':<17}"
        _write(f"{event.t:8.2f} s  {heard}  {event.level_db:6.1f} dB")

    with _until_the_reader_leaves():
        yield show


@contextmanager
def moving_bars() -> Iterator[Sink]:
    """A bar an emotion that moves in place on a terminal."""
    from rich.live import Live

    with Live(refresh_per_second=8) as live:
        yield lambda event: live.update(_bars(event))


def terminal() -> Any:
    """Moving bars on a terminal, lines anywhere else."""
    return moving_bars() if sys.stdout.isatty() else plain_lines()


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@contextmanager
def _until_the_reader_leaves() -> Iterator[None]:
    """End the block without an error when the program that reads our stdout has gone."""
    try:
        yield
    except BrokenPipeError:
        # What is still buffered would fail once more when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _bars(event: Event) -> Any:
    from rich.table import Table
    from rich.text import Text

    heard = "speech" if event.speech else "quiet"
    table = Table.grid(padding=(0, 1))
    for name, probability in event.probabilities.items():
        strong = event.speech and name == event.emotion
        style = "bold green" if strong else "white" if event.speech else "dim"
        bar = f"{'█' * round(BAR_WIDTH * probability):<{BAR_WIDTH}}"
        table.add_row(Text(name, style), Text(bar, style), Text(f"{probability:4.0%}"))
    table.add_row("", f"{event.t:.1f} s  {heard}  {event.level_db:.0f} dB  {event.latency_ms:.0f} ms", "")
    return table
