"""What every verb shares: options with one spelling, and results printed for people or for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperOption

from edgeser_export.home import expand

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]

NONE: Mapping[str, str] = MappingProxyType({})

Trust = Annotated[
    Path | None,
    typer.Option("--trust", metavar="KEY", help="Refuse kits that are not signed with this public key."),
]


def option(flag: str, text: str, value: str | None = None, usual: str | bool = True, **more: Any) -> Any:
    """An option: flag, help, what stands for its value there, and its default in words; ``more`` is typer's."""
    return typer.Option(flag, help=text, metavar=value, show_default=usual, **more)


class Verb(TyperCommand):
    """A verb whose help shows the default of every option that takes a value; where there is none it says so."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        for option in self.params:
            if not isinstance(option, TyperOption) or option.is_flag or option.required:
                continue
            # The parser's own mark for "nothing given" differs between versions; it is none of these types.
            if not isinstance(option.default, (str, int, float, Path)) and not isinstance(option.show_default, str):
                option.show_default = "none"


def refuse_ignored(context: typer.Context, needs: Mapping[str, str] = NONE, excludes: Mapping[str, str] = NONE) -> None:
    """Refuse flags that would have no effect beside the others.

    Args:
        context: The context of the verb, which knows what was given.
        needs: Parameters without effect, each with the one that it needs.
        excludes: Parameters without effect, each with the one that excludes it.

    Raises:
        SettingsError: Such a flag was given.
    """
    from edgeser.errors import SettingsError

    flags = {parameter.name: parameter.opts[0] for parameter in context.command.params}
    given = {name for name in flags if getattr(context.get_parameter_source(str(name)), "name", "") == "COMMANDLINE"}
    for name, other in needs.items():
        if name in given and other not in given:
            raise SettingsError(
                f"{flags[name]} has no effect without {flags[other]}", f"leave it out, or give {flags[other]} too"
            )
    for name, other in excludes.items():
        if {name, other} <= given:
            raise SettingsError(f"{flags[name]} has no effect with {flags[other]}", "leave out one of them")


def whole_path(folder: Path | None) -> str:
    """An absolute path, or an empty text where no folder is given."""
    return str(expand(folder).resolve()) if folder else ""


PIPE_WIDTH = 240
"""Columns of a table that goes into a pipe or file: no row is folded, so that grep and cut find whole lines."""


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on stdout; numbers that are not finite are refused rather than printed.

    It is ASCII: names of files may be in any encoding, and so may be the terminal.
    """
    typer.echo(json.dumps(value, allow_nan=False))


def say(text: str) -> None:
    """Tell the user something that is not a result: on stderr, so that stdout stays clean."""
    typer.echo(text, err=True)


def print_rich(renderable: object) -> None:
    """Print a table or panel on stdout; plain text when stdout is no terminal.

    Nothing in it is read as markup: names of files and labels are data. Style is given with rich's ``Text``.
    """
    from rich.console import Console

    wide = None if sys.stdout.isatty() else PIPE_WIDTH
    Console(width=wide, markup=False, emoji=False, highlight=False).print(renderable)
