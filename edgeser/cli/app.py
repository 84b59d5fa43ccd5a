"""All verbs as one application of typer."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any

import typer

from edgeser.cli import auditing, board, data, encoders, host, kits, listening, methods, reporting
from edgeser.cli.options import Verb, read_strictly

app = typer.Typer(
    name="edgeser",
    help="Distil emotional speech to a kit from which a small board trains its own emotion recogniser.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def print_version(asked: bool) -> None:
    """Print the version, and end the program; called before a missing command would be."""
    if asked:
        from edgeser import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[  # read by main, because it may stand anywhere
        bool, typer.Option("--debug", help="Show the traceback of an error (anywhere on the line).")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Distil emotional speech to a kit from which a small board trains its own emotion recogniser."""


PANELS = {"Host": (host, methods, auditing, reporting, data, encoders), "Kits": (kits,), "Board": (board, listening)}
"""The headings of the help, and the modules whose verbs stand below each."""
for panel, modules in PANELS.items():
    for module in modules:
        module.add_to(app)
    for group in app.registered_groups:
        group.rich_help_panel = group.rich_help_panel if isinstance(group.rich_help_panel, str) else panel
    for verb in app.registered_commands:
        verb.rich_help_panel = verb.rich_help_panel if isinstance(verb.rich_help_panel, str) else panel
for each in (app, *(group.typer_instance for group in app.registered_groups)):
    for verb in each.registered_commands if each else ():
        verb.cls = verb.cls if verb.cls and issubclass(verb.cls, Verb) else Verb


@cache
def command() -> Any:
    """The whole command line as a group of click, in whichever copy typer uses."""
    return read_strictly(typer.main.get_command(app))
