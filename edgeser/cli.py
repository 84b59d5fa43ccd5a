"""The command ``edgeser``: the same on host and board. Verbs only: parse, call, print.

Exit codes: 0 done, 1 the work was done and a gate failed, 2 wrong use or input, 130 interrupted.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from edgeser.commands import auditing, board, data, encoders, host, kits, listening, reporting
from edgeser_export.errors import EdgeserError

# typer brings its own copy of click since 0.26 and used the package before; a public subclass leads to the base class.
UsageProblem = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")

INTERRUPTED = 130

app = typer.Typer(
    name="edgeser",
    help="Distil emotional speech to a kit from which a small board trains its own emotion recogniser.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)


@app.callback()
def options(
    debug: Annotated[  # noqa: ARG001  read by main, because it may stand anywhere
        bool, typer.Option("--debug", help="Show the traceback of an error (anywhere on the line).")
    ] = False,
    version: Annotated[bool, typer.Option("--version", is_eager=True, help="Print the version and exit.")] = False,
) -> None:
    """Distil emotional speech to a kit from which a small board trains its own emotion recogniser."""
    if version:
        from edgeser import __version__

        typer.echo(__version__)
        raise typer.Exit


host.add_to(app)
auditing.add_to(app)
reporting.add_to(app)
app.add_typer(data.app, name="data")
app.add_typer(encoders.app, name="encoder")
kits.add_to(app)
board.add_to(app)
listening.add_to(app)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        code = app([word for word in given if word != "--debug"], prog_name=app.info.name, standalone_mode=False)
        if code == INTERRUPTED:  # what typer makes of Ctrl-C
            typer.echo("interrupted", err=True)
    except EdgeserError as error:
        if "--debug" in given:
            raise
        _complain(error.message, error.hint)
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("interrupted", err=True)
        code = INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        code = 0
    except Exception as error:
        if not isinstance(error, UsageProblem):
            raise
        code = _explain_usage(error)
    sys.exit(code if isinstance(code, int) else 0)


def _explain_usage(error: Any) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(error.format_message())
        return 2
    context = getattr(error, "ctx", None)
    _complain(error.format_message(), f"see {context.command_path if context else 'edgeser'} --help")
    return 2


def _complain(message: str, hint: str) -> None:
    typer.echo(f"error: {' '.join(message.split())}", err=True)
    typer.echo(f"hint: {' '.join(hint.split())}", err=True)
