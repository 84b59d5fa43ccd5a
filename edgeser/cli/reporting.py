"""The verb ``report``: a run as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeser.cli import options as flags
from edgeser.cli.host import RunFolder, require_host, workers_of
from edgeser.cli.options import Json, option, print_json, refuse_ignored, say, whole_path

NO_RECORDINGS = "Leave out pictures and sounds of recordings, and the names of speakers of your own corpora."


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("report", epilog="Example: edgeser report runs/ravdess")(report)


def report(
    context: typer.Context,
    run: RunFolder,
    out: Annotated[Path | None, option("--out", "File to write.", "FILE", "report.html in the run")] = None,
    items: Annotated[int, typer.Option(min=1, max=1000, help="Items to show at most, spread over the classes.")] = 16,
    no_recordings: Annotated[bool, option("--no-recordings", NO_RECORDINGS)] = False,
    folder: flags.Moved = None,
    jobs: flags.Jobs = None,
    backend: flags.Backend = "local",
    as_json: Json = False,
) -> None:
    """Write one HTML file about a run: results, items with the nearest recordings, sounds, audit, kit, provenance.

    The file stands alone and loads nothing; it can be read on a phone and printed.
    """
    refuse_ignored(context, excludes={"folder": "no_recordings"})
    require_host("matplotlib", "jinja2", "librosa", "scipy")
    from edgeser.report.page import ReportPlan, write_report
    from edgeser.run import Run

    place = whole_path(folder)
    plan = ReportPlan(out, place, items, not no_recordings)
    written = write_report(Run(run), plan, workers_of(jobs, backend))
    if as_json:
        print_json(written)
        return
    typer.echo(f"{written['report']}: {written['bytes'] / 1000:,.0f} kB, open it in a browser")
    for name, command in written["missing"].items():
        say(f"not in it: {name.replace('_', ' ')}; {command} measures it")
