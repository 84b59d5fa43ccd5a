"""The command ``edgeser``: the same on host and board. Here it starts and ends; :mod:`edgeser.cli` has the verbs.

Exit codes: 0 done, 1 the work was done and a gate failed, 2 wrong use or input, 130 interrupted.
"""

from __future__ import annotations

import io
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from edgeser_export.utilities.errors import EdgeserError, StorageError
from edgeser_export.utilities.outside import use_temporary_cache

INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    given = sys.argv[1:] if arguments is None else arguments
    with standard_streams():
        code = _run(given)
    if arguments is None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is said; what ends now would only complain
    sys.exit(code)


def _run(given: list[str]) -> int:
    """The exit code of a command line; what went wrong is said."""
    try:
        use_temporary_cache()
        code = _call([word for word in given if word != "--debug"])
        sys.stdout.flush()
    except ReaderGone:
        code = 0
    except EdgeserError as error:
        if "--debug" in given:
            raise
        _complain(error.message, error.hint)
        code = error.exit_code
    except KeyboardInterrupt:
        code = INTERRUPTED
    except OSError as error:
        if "--debug" in given:
            raise
        place = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        _complain(f"{place}{error.strerror or error}", "check that path, its permissions and the free space")
        code = 2
    if code == INTERRUPTED:
        _say("interrupted")
    return code


def _call(words: list[str]) -> int:
    """The exit code of a verb; wrong use of it is said."""
    # Imported here, so that Ctrl-C meanwhile is no traceback.
    import typer

    from edgeser.cli.app import command

    # typer has its own copy of click since 0.26 and used the package before; a public subclass leads to the base class.
    usage = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")
    try:
        code = command()(words, prog_name="edgeser", standalone_mode=False)
    except typer.Abort:  # what typer makes of the end of standard input
        return INTERRUPTED
    except Exception as error:
        if not isinstance(error, usage):
            raise
        return _explain_usage(error)
    return code if isinstance(code, int) else 0


def _explain_usage(error: Any) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":
        sys.stdout.write(f"{error.format_message()}\n")
        return 2
    context = getattr(error, "ctx", None)
    message, path = error.format_message(), context.command_path if context else "edgeser"
    unknown = re.fullmatch(r"No such command '(.+?)'\.", message)
    verbs = getattr(context.command, "commands", ()) if context and unknown else ()
    meant = [f"{path} {verb}" for verb in verbs if unknown and verb.startswith(unknown[1])]
    _complain(message, f"did you mean {' or '.join(meant)}?" if meant else f"see {path} --help")
    return 2


def _complain(message: str, hint: str) -> None:
    _say(f"error: {' '.join(message.split())}")
    _say(f"hint: {' '.join(hint.split())}")


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


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
