"""The command ``edgeser``: the same on host and board. Here it starts and ends; :mod:`edgeser.commands` has the verbs.

Exit codes: 0 done, 1 the work was done and a gate failed, 2 wrong use or input, 130 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from edgeser.commands.streams import ReaderGone, standard_streams
from edgeser_export.errors import EdgeserError
from edgeser_export.home import use_temporary_cache

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

    from edgeser.commands.app import command

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
    _complain(error.format_message(), f"see {context.command_path if context else 'edgeser'} --help")
    return 2


def _complain(message: str, hint: str) -> None:
    _say(f"error: {' '.join(message.split())}")
    _say(f"hint: {' '.join(hint.split())}")


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
