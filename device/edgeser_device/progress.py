"""Progress on stderr: a bar with the time left on a terminal, nothing anywhere else.

with progress_bar("training", total=600) as advance:
    for step in range(600):
        ...
        advance(step + 1, f"loss {loss:.3f}")
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

Advance: TypeAlias = Callable[[int, str], None]
"""Called with how much is done, and a few words."""

A_DAY = 86_400.0
"""Seconds whose steps say how long the others take: a step may take minutes, which rich does not expect."""


def ignore_progress(done: int, words: str) -> None:
    """An ``Advance`` that shows nothing."""


def note(words: str) -> None:
    """Say what happens now, on stderr; like a bar, only when that is a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"{words}\n")


@contextmanager
def progress_bar(title: str, total: int, done: int = 0) -> Iterator[Advance]:
    """Yield a function that moves a bar; it does nothing when stderr is not a terminal.

    Args:
        title: Stands before the bar.
        total: Where it ends.
        done: Where it begins: what was done before, which says nothing of how fast it goes on.
    """
    if not sys.stderr.isatty():
        yield ignore_progress
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    # Titles and words are names of files and losses: no markup.
    name, words = (TextColumn(f"{{task.{field}}}", markup=False) for field in ("description:<24", "fields[words]"))
    columns = (name, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), words)
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=A_DAY) as progress:
        task = progress.add_task(title, total=total, completed=done, words="")
        yield lambda now, words: progress.update(task, completed=now, words=words)
