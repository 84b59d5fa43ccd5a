"""Several runs on one page: UAR with intervals, size, recall by class, confusion, membership where it was audited.

write_comparison([Path("runs/a"), Path("runs/b")], Path("runs.html"))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeser.errors import SettingsError
from edgeser.report import charts
from edgeser.report.evidence import Audit, read_audit
from edgeser.report.page import confusion_shares, evaluated, render, require_page
from edgeser.report.page_rows import Row, rows_of
from edgeser.report.repeat import distill_command
from edgeser.run import Run
from edgeser_export.utilities.files import write_bytes

ENDINGS = (".html", ".htm")


@dataclass(frozen=True)
class Compared:
    """One run of the page.

    Attributes:
        name: Its folder's name.
        description: What run.json holds.
        metrics: What evaluate measured.
        own: The row of the distilled set.
        full: The row of all real clips, or None.
        bank: The row of the label bank over random clips, or None.
        audit: Its audit, or None.
        shares: Its confusion, or None where an earlier version evaluated.
        command: What makes it.
    """

    name: str
    description: Mapping[str, Any]
    metrics: Mapping[str, Any]
    own: Row
    full: Row | None
    bank: Row | None
    audit: Audit | None
    shares: list[list[tuple[float, int]]] | None
    command: str


def check_page(path: Path) -> None:
    """Check that a page can be written there, before anything is read for it.

    Raises:
        SettingsError: The name does not end in .html.
        OutputTaken: Something else than a page of ours is there.
    """
    if path.suffix.lower() not in ENDINGS:
        raise SettingsError(f"{path.name} names no page", f"end it with {' or '.join(ENDINGS)}")
    require_page(path)


def write_comparison(folders: Sequence[Path], path: Path) -> None:
    """Write a page about several runs.

    Raises:
        RunError: A run was not evaluated.
        SettingsError: ``path`` does not end in .html.
        StorageError: It cannot be written, or is something else than a page of ours.
    """
    check_page(path)
    runs = [_compared(Run(folder)) for folder in folders]
    titles = [f"{run.name}\n{run.description['method']}, {run.metrics['distilled']['ipc']} a class" for run in runs]
    rows = [(title, run.own, run.full) for title, run in zip(titles, runs, strict=True)]
    same_test = len({repr((run.metrics["split"], run.description["corpus"]["fingerprint"])) for run in runs}) == 1
    context = {
        "title": f"{len(runs)} runs compared" if len(runs) > 1 else "1 run",
        "runs": runs,
        "chart": charts.run_chart(rows),
        "names": list(dict.fromkeys(name for run in runs for name in run.description["labels"])),
        "same_test": same_test,
    }
    write_bytes(path, render("compare.html", context).encode())


def _compared(run: Run) -> Compared:
    metrics, description = evaluated(run), run.description()
    rows = {row.name: row for row in rows_of(metrics)}
    own = rows["distilled"]
    return Compared(
        name=run.folder.resolve().name,
        description=description,
        metrics=metrics,
        own=own,
        full=rows.get("full"),
        bank=rows.get("random_bank"),
        audit=read_audit(run),
        shares=confusion_shares(own.details["confusion"]) if own.details else None,
        command=distill_command(run.given()),
    )
