"""All verbs as one application of typer."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any

import typer

from edgeser.commands import auditing, board, data, host, kits, listening, reporting
from edgeser.commands.arguments import read_strictly

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
kits.add_to(app)
board.add_to(app)
listening.add_to(app)


@cache
def command() -> Any:
    """The whole command line as a group of click, in whichever copy typer uses."""
    return read_strictly(typer.main.get_command(app))
