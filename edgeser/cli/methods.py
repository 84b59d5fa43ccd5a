"""The verb ``methods``: how items can be made, and what ``--set`` can change for each."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from edgeser.cli.options import Json, show
from edgeser.config.settings import METHODS, SETTINGS
from edgeser.config.values import owner


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("methods", epilog="Example: edgeser methods mtt")(methods)


def methods(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Method whose settings are shown.", show_default="all methods"),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the methods, or with NAME what --set can change for one: default, allowed values, meaning.

    The settings that have an option of their own are in edgeser distill --help.
    """
    from edgeser.report.tables import sheet_of

    if name is None:
        known = [{"name": method, "summary": summary} for method, summary in METHODS.items()]
        columns = {"name": "method", "summary": "what it makes"}
        show({"schema": 1, "methods": dict(METHODS)}, lambda: sheet_of(known, columns), as_json)
        return
    SETTINGS["method"].check(name)
    rows = [
        each for each in SETTINGS.values() if owner(each.key) in (name, "") and not each.flag and each.key != "folder"
    ]
    rows.sort(key=lambda each: owner(each.key) != name)
    shown = [{**asdict(row), "usual": row.usual, "allowed": row.allowed} for row in rows]
    columns = {"key": "setting", "usual": "default", "allowed": "allowed", "help": "meaning"}
    values = {"schema": 1, "method": name, "summary": METHODS[name], "settings": [asdict(row) for row in rows]}
    show(values, lambda: sheet_of(shown, columns, METHODS[name]), as_json)
