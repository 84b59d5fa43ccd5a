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
        total: The count at which the bar is full.
        done: The count at which the bar begins; the time left follows from what comes after it.
    """
    if not sys.stderr.isatty():
        yield ignore_progress
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    # Words are names of files and losses: no markup.
    title_column, words_column = (
        TextColumn(f"{{task.{part}}}", markup=False) for part in ("description", "fields[words]")
    )
    columns = title_column, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), words_column
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total, completed=done, words="")
        yield lambda now, said: progress.update(task, completed=now, words=said)
