"""What every verb shares: options with one spelling, and results printed for people or for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on stdout; numbers that are not finite are refused rather than printed."""
    typer.echo(json.dumps(value, allow_nan=False, ensure_ascii=False))


def say(text: str) -> None:
    """Tell the user something that is not a result: on stderr, so that stdout stays clean."""
    typer.echo(text, err=True)


def print_rich(renderable: object) -> None:
    """Print a table or panel on stdout; plain text when stdout is no terminal."""
    from rich.console import Console

    Console().print(renderable)
