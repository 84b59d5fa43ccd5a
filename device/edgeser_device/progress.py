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
def progress_bar(title: str, total: int) -> Iterator[Advance]:
    """Yield a function that moves a bar; it does nothing when stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield ignore_progress
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:<24}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    # Words are names of files and losses: no markup.
    with Progress(*columns, TextColumn("{task.fields[words]}", markup=False), console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total, words="")

        def advance(done: int, words: str) -> None:
            progress.update(task, completed=done, words=words)

        yield advance
