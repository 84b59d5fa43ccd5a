"""Standard output that fails in words, and standard error that never fails.

A full disk or a closed descriptor under standard output is an error like any other. A reader that has gone, as ``head``
does, only ends the program. Nothing that happens to standard error may end hours of work, so its failures are ignored.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from edgeser_export.errors import StorageError


class ReaderGone(Exception):
    """The program that reads standard output has gone; no error, so not in the tree of errors.

    It is no OSError either: typer turns a broken pipe into exit code 1, which says that a gate failed.
    """


class _Stream(io.FileIO):
    """A standard stream whose first failure is told, or is not; what is written after it goes nowhere."""

    def __init__(self, number: int, tells: bool) -> None:
        super().__init__(number, "wb", closefd=False)
        self._tells, self._broken = tells, False

    def write(self, data: Any, /) -> int:
        if not self._broken:
            try:
                return super().write(data)
            except OSError as error:
                self._broken = True
                if self._tells:
                    raise _told(error) from error
        return memoryview(data).nbytes


def _told(error: OSError) -> Exception:
    if isinstance(error, BrokenPipeError):
        return ReaderGone()
    return StorageError(
        f"cannot write to standard output: {error.strerror}", "make room there, or send the output somewhere else"
    )


@contextmanager
def standard_streams() -> Iterator[None]:
    """Put such streams in the place of those that the program was started with, for the length of the block.

    Streams that a test has put there stay. A descriptor that is closed is opened, so that no other file gets its
    number; what is written there fails as on a full disk. File names that are not UTF-8 are written with escapes.
    """
    before = sys.stdout, sys.stderr
    for number in (0, 1, 2):
        if (sys.__stdin__, sys.__stdout__, sys.__stderr__)[number] is None:
            _occupy(number)
    if sys.stdout is sys.__stdout__:
        sys.stdout = _text(1, sys.stdout, tells=True)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(2, sys.stderr, tells=False)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(ReaderGone, StorageError):  # said before, or there was no room for an error either
                stream.flush()
        sys.stdout, sys.stderr = before


def _text(number: int, like: TextIO | None, tells: bool) -> TextIO:
    stream = _Stream(number, tells)
    lines = not tells or stream.isatty()
    encoding = like.encoding if like is not None else "utf-8"
    return io.TextIOWrapper(io.BufferedWriter(stream), encoding, errors="backslashreplace", line_buffering=lines)


def _occupy(number: int) -> None:
    opened = os.open(os.devnull, os.O_RDONLY)
    if opened != number:
        os.dup2(opened, number)
        os.close(opened)
