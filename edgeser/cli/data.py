"""The verbs under ``edgeser data``: which corpora there are, whether one is sound, and how to get one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeser.cli.host import require_host, workers_of
from edgeser.cli.options import Json, option, print_json, print_rich, say
from edgeser.config.settings import SETTINGS

app = typer.Typer(help="List, check and download corpora.", no_args_is_help=True)


def add_to(whole: typer.Typer) -> None:
    """Add the verbs to the command line."""
    whole.add_typer(app, name="data")


@app.command("list", epilog="Example: edgeser data list")
def list_corpora(as_json: Json = False) -> None:
    """Show the corpora that edgeser reads, with layout and licence."""
    from edgeser.corpora import CORPORA

    rows = [
        {
            "name": form.name,
            "title": form.card.title,
            "kind": form.card.kind,
            "language": form.card.language,
            "licence": form.card.licence,
            "emotions": list(form.emotions),
            "layout": form.layout,
            "access": form.card.access,
        }
        for form in CORPORA.values()
    ]
    if as_json:
        print_json({"corpora": rows})
        return
    from edgeser.report.tables import Sheet

    table = Sheet("name", "what", "kind", "licence", "layout")
    for row in rows:
        table.add(*(str(row[key]) for key in ("name", "title", "kind", "licence", "layout")))
    print_rich(table)


@app.command("check", epilog="Example: edgeser data check data/ravdess --corpus ravdess")
def check(
    corpus: Annotated[str, typer.Option("--corpus", metavar="NAME", help="Name of the corpus format.")],
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="Where the recordings are; not needed for demo.")
    ] = None,
    split: Annotated[str | None, option("--split", SETTINGS["split"].help, "NAME", "by the corpus")] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=-1, max=256, help="Processes; -1 is all cores.")] = -1,
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
    print_json(report.to_json()) if as_json else print_rich(render_check(report))
    if not report.passed:
        raise typer.Exit(1)


@app.command("download", epilog="Example: edgeser data download ravdess --out data")
def download(
    name: Annotated[str, typer.Argument(metavar="NAME", help="ravdess or emodb.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to unpack into.")] = Path("data"),
    as_json: Json = False,
) -> None:
    """Get an openly licensed corpus; an interrupted download goes on where it stopped."""
    from edgeser.corpora.downloads import download as fetch
    from edgeser_export.utilities.progress import progress_bar

    with progress_bar(f"download {name}", 0) as advance:
        place = fetch(name, out / name, progress=lambda done, _: advance(done, ""))
    print_json({"name": name, "folder": str(place)}) if as_json else say(f"{name} is in {place}")
