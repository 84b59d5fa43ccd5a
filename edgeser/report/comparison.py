"""Several runs on one page: UAR with intervals, size, recall by class, confusion, membership where it was audited.

write_comparison([Path("runs/a"), Path("runs/b")], Path("runs.html"))
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeser.errors import SettingsError
from edgeser.report import charts
from edgeser.report.evidence import read_audit
from edgeser.report.page import confusion_shares, evaluated, render, require_page
from edgeser.report.page_rows import rows_of
from edgeser.report.repeat import distill_command
from edgeser.run import Run
from edgeser_export.utilities.files import write_bytes

ENDINGS = (".html", ".htm")


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
    rows = [
        (
            f"{run['name']}\n{run['description']['method']}, {run['metrics']['distilled']['ipc']} a class",
            run["own"],
            run["full"],
        )
        for run in runs
    ]
    tests = {repr((run["metrics"]["split"], run["description"]["corpus"]["fingerprint"])) for run in runs}
    context = {
        "title": f"{len(runs)} runs compared" if len(runs) > 1 else "1 run",
        "runs": runs,
        "chart": charts.run_chart(rows),
        "names": list(dict.fromkeys(name for run in runs for name in run["description"]["labels"])),
        "same_test": len(tests) == 1,
    }
    write_bytes(path, render("compare.html", context).encode())


def _compared(run: Run) -> dict[str, Any]:
    """The values that the page shows of a run; ``shares`` of confusion are None where an earlier version evaluated."""
    metrics, description = evaluated(run), run.description()
    rows = {row.name: row for row in rows_of(metrics)}
    own = rows["distilled"]
    return {
        "name": run.folder.resolve().name,
        "description": description,
        "metrics": metrics,
        "own": own,
        "full": rows.get("full"),
        "bank": rows.get("random_bank"),
        "audit": read_audit(run),
        "shares": confusion_shares(own.details["confusion"]) if own.details else None,
        "command": distill_command(run.given()),
    }
