"""The verbs under ``edgeser encoder``: which encoders there are, and how to get one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeser.cli.options import Json, print_json, print_rich

app = typer.Typer(help="List, fetch, add and inspect pretrained speech encoders.", no_args_is_help=True)


def add_to(whole: typer.Typer) -> None:
    """Add the verbs of this module to the command line."""
    whole.add_typer(app, name="encoder")


Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the encoder; see edgeser encoder list.")]


@app.command("list", epilog="Example: edgeser encoder list")
def list_encoders(as_json: Json = False) -> None:
    """Show the encoders that edgeser knows by name, and those that were added here."""
    from edgeser.encoders.store import ENCODERS, added, encoder_folder, read_card

    here = added()
    rows = [
        {
            "name": name,
            "here": name in here,
            "title": ENCODERS[name].title if name in ENCODERS else read_card(encoder_folder(name)).title,
            "licence": ENCODERS[name].family.licence if name in ENCODERS else read_card(encoder_folder(name)).licence,
        }
        for name in sorted({*ENCODERS, *here})
    ]
    if as_json:
        print_json({"encoders": rows})
        return
    from rich.table import Table

    table = Table("name", "on this machine", "what", "licence")
    for row in rows:
        table.add_row(str(row["name"]), "yes" if row["here"] else "no", str(row["title"]), str(row["licence"]))
    print_rich(table)


@app.command("fetch", epilog="Example: edgeser encoder fetch smart-turn-2")
def fetch(name: Name, as_json: Json = False) -> None:
    """Download a named encoder from the package registry, check its hash, and keep it with its licences."""
    from edgeser.encoders.store import encoder_folder
    from edgeser.encoders.store import fetch as fetch_encoder

    card = fetch_encoder(name)
    show(card.to_json() | {"folder": str(encoder_folder(name))}, as_json)


@app.command("add", epilog="Example: edgeser encoder add wavlm.onnx --card wavlm.toml")
def add(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="An ONNX file, Whisper's safetensors, or a downloaded wheel.")
    ],
    card: Annotated[
        Path | None, typer.Option("--card", metavar="FILE", help="Its card, TOML. Default: FILE's name with .toml.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Add an encoder from a file, after checking its size, its operators and that it runs."""
    if file.suffix == ".whl":
        from edgeser.encoders.store import add_package

        for found in add_package(file):
            show(found.to_json(), as_json)
        return
    from edgeser.encoders.added import add as add_encoder

    show(add_encoder(file, card).to_json(), as_json)


@app.command("inspect", epilog="Example: edgeser encoder inspect smart-turn-2")
def inspect(name: Name, as_json: Json = False) -> None:
    """Show an encoder's card after checking its file's hash."""
    from edgeser.encoders.store import open_encoder

    card, data = open_encoder(name)
    show(card.to_json() | {"bytes": len(data)}, as_json)


def show(values: dict[str, object], as_json: bool) -> None:
    """Print a card, as JSON or a line a field."""
    if as_json:
        print_json(values)
        return
    for key, value in values.items():
        typer.echo(f"{key:22}{value}")
