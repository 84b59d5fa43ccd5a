"""The verbs under ``edgeser data``: which corpora there are, whether one is sound, and how to get one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeser.cli.host import require_host, workers_of
from edgeser.cli.options import Json, option, print_json, say, show
from edgeser.config.settings import SETTINGS

app = typer.Typer(help="List, check and download corpora.", no_args_is_help=True)


def add_to(whole: typer.Typer) -> None:
    """Add the verbs to the command line."""
    whole.add_typer(app, name="data")


@app.command("list", epilog="Example: edgeser data list")
def list_corpora(as_json: Json = False) -> None:
    """Show the corpora that edgeser reads, with layout and licence."""
    from edgeser.corpora import CORPORA
    from edgeser.report.tables import sheet_of

    rows = [
        {
            "name": form.name,
            **{key: getattr(form.card, key) for key in ("title", "kind", "language", "licence")},
            "emotions": list(form.emotions),
            "layout": form.layout,
            "access": form.card.access,
        }
        for form in CORPORA.values()
    ]
    columns = {"name": "name", "title": "what", "kind": "kind", "licence": "licence", "layout": "layout"}
    show({"corpora": rows}, lambda: sheet_of(rows, columns), as_json)


@app.command("check", epilog="Example: edgeser data check data/ravdess --corpus ravdess")
def check(
    corpus: Annotated[str, option("--corpus", "Name of the corpus format.", "NAME")],
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="Folder of the recordings; not needed for demo.")
    ] = None,
    split: Annotated[str | None, option("--split", SETTINGS["split"].help, "NAME", "by the corpus")] = None,
    jobs: Annotated[int, option("--jobs", "Processes; -1 is all cores.", min=-1, max=256)] = -1,
    as_json: Json = False,
) -> None:
    """Look at every recording: counts, durations, rates, duplicates, silent, clipped, unreadable and short files.

    Exits 1 when distill would refuse the corpus.
    """
    require_host()
    from edgeser.corpora import load_corpus, make_split
    from edgeser.corpora.check import check_corpus, render_check
    from edgeser.corpora.errors import CorpusError, UnknownSplit
    from edgeser.distill.pipeline import refusal
    from edgeser_export.utilities.progress import progress_bar

    if jobs == 0:
        raise typer.BadParameter("0 processes check nothing", param_hint="--jobs")
    found = load_corpus(corpus, folder)
    try:
        parts = make_split(found, split)
    except UnknownSplit:
        raise
    except CorpusError:
        parts = None
    workers = workers_of(max(jobs, 0), "local")
    refused = refusal(found, split, workers)
    workers.release()
    with progress_bar("checking", len(found.utterances)) as advance:
        report = check_corpus(found, parts, refused, n_jobs=workers.jobs, progress=lambda done, _: advance(done, ""))
    show(report.to_json(), lambda: render_check(report), as_json)
    if not report.passed:
        raise typer.Exit(1)


@app.command("download", epilog="Example: edgeser data download ravdess --out data")
def download(
    name: Annotated[str, typer.Argument(metavar="NAME", help="ravdess or emodb.")],
    out: Annotated[Path, option("--out", "Folder to unpack into.", "DIR")] = Path("data"),
    as_json: Json = False,
) -> None:
    """Get an openly licensed corpus; an interrupted download goes on where it stopped."""
    from edgeser.corpora.downloads import download as fetch
    from edgeser_export.utilities.progress import progress_bar

    with progress_bar(f"download {name}", 0) as advance:
        place = fetch(name, out / name, progress=lambda done, _: advance(done, ""))
    print_json({"name": name, "folder": str(place)}) if as_json else say(f"{name} is in {place}")
