"""Progress on stderr: a bar with the time left on a terminal, nothing anywhere else.

with progress_bar("training", total=600) as advance:
    for step in range(600):
        ...
        advance(step + 1, f"loss {loss:.3f}")
"""

from __future__ import annotations

import sys
import time
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
        done: The count at which the bar begins: it says nothing of how fast the work goes on. The first call may say
            so, too: it is taken to be about one part at most.
    """
    if not sys.stderr.isatty():
        yield ignore_progress
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description:<24}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[left]}", markup=False),
    )
    begun = time.monotonic()
    before: int | None = None
    # Words are names of files and losses: no markup.
    with Progress(*columns, TextColumn("{task.fields[words]}", markup=False), console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total, completed=done, words="", left="")

        def advance(now: int, words: str) -> None:
            nonlocal before
            before = max(done, now - 1) if before is None else before
            left = time_left(time.monotonic() - begun, now - before, total - now)
            progress.update(task, completed=now, words=words, left=left)

        yield advance


def time_left(seconds: float, done: int, left: int) -> str:
    """The time that ``left`` parts will take, in words, where ``done`` took ``seconds``.

    Empty before the first and after the last is done: what comes before and after the parts is not counted.
    """
    if done <= 0 or left <= 0:
        return ""
    whole = round(seconds / done * max(0, left))
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02} left"
