"""The report of a run: everything is read and computed, then written as one HTML file.

written = write_report(run, ReportPlan(), Workers(2))       # RUN/report.html
"""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from edgeser import __version__
from edgeser.config.settings import VECTORS
from edgeser.config.values import values_of
from edgeser.corpora.fingerprint import is_own
from edgeser.errors import RunError
from edgeser.packaging.card import SYNTHETIC, origin
from edgeser.packaging.pack import pack_kit, without_paths
from edgeser.report import charts
from edgeser.report.evidence import read_audit
from edgeser.report.gallery import make_gallery, read_recordings, stand_in_names
from edgeser.report.page_rows import compared, rows_of, sentences, single_rows
from edgeser.report.repeat import RUN, TARGET, commands
from edgeser.report.tables import convergence_words, robust_rows, robust_words, split_words
from edgeser.run import Run
from edgeser.workers import Workers
from edgeser_device.machine import machine_words
from edgeser_export.outputs import holds, require_output
from edgeser_export.utilities.errors import EdgeserError
from edgeser_export.utilities.files import write_bytes
from edgeser_export.utilities.progress import note

MARK = b'<meta name="generator" content="edgeser'
"""The mark in base.html by which a page of ours is known."""


def render(name: str, context: Mapping[str, Any]) -> str:
    """A page of ``templates``.

    Args:
        name: File of the template.
        context: The values that it shows.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("edgeser.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= FILTERS
    style = files("edgeser.report").joinpath("templates", "style.css").read_text(encoding="utf-8")
    return environment.get_template(name).render(**context, style=style, version=__version__)


def require_page(path: Path) -> None:
    """Check that a page may be written; OutputTaken where something else than one of ours is there."""
    require_output(path, "page", lambda place: holds(place, MARK))


FILTERS: Mapping[str, Callable[[Any], str]] = {
    "figure": lambda value: "" if value is None else f"{value:.3f}",
    "spread": lambda deviation: "" if deviation is None else f"± {deviation:.3f}",
    "interval": lambda found: "-" if found is None else f"{found['low']:.3f} to {found['high']:.3f}",
    "percent": lambda share: f"{share:.0%}",
    "kb": lambda count: f"{count / 1000:,.0f} kB",
}
"""Functions of templates that write a number, or nothing where there is none."""
MOST_ITEMS = 16
"""Items that are shown where nothing else is asked for."""


@dataclass(frozen=True)
class ReportPlan:
    """The contents that a page is asked to hold.

    Attributes:
        out: The file to write; None is report.html in the run.
        folder: The present folder of the corpus, if it was moved.
        items: Items that are shown at most.
        recordings: Whether pictures and sounds of recordings are in it, and the names of speakers of own corpora.
    """

    out: Path | None = None
    folder: str = ""
    items: int = MOST_ITEMS
    recordings: bool = True


def write_report(run: Run, plan: ReportPlan, workers: Workers) -> dict[str, Any]:
    """Write the report of a run.

    Args:
        run: A run that was evaluated.
        plan: The contents of the page.
        workers: The processes that compute log-mels, if they are not cached.

    Returns:
        ``report``: the file. ``bytes``. ``missing``: for each thing that was not measured the command that does it.

    Raises:
        RunError: The run is not finished, was not evaluated, or its recordings are gone.
        StorageError: The file cannot be written, or is something else than a page of ours.
    """
    path = plan.out or run.folder / "report.html"
    if plan.out:
        require_page(path)
    distilled, description, metrics = run.stored_set(), run.description(), evaluated(run)
    log_mels = distilled.log_mels
    recordings = read_recordings(run, workers, plan.folder) if plan.recordings and log_mels is not None else None
    workers.release()
    note("pictures, sounds")
    gallery = None if log_mels is None else make_gallery(log_mels, recordings, plan.items)
    audit, settings = read_audit(run), run.settings()
    draws = settings.gan.ship == "generator"
    absent = partial(missing, metrics, audit is not None or draws, settings.corpus != VECTORS)
    note("kit")
    context = {
        **_results(metrics if plan.recordings else without_speakers(metrics, description), description),
        "title": f"{description['corpus']['title']}: {description['method']}, {description['budget']['ipc']} a class",
        "description": description,
        "metrics": metrics,
        "synthetic": description["corpus"].get("kind") == SYNTHETIC,
        "gallery": gallery,
        "origin": origin(settings.method, description.get("start") or settings.start),
        "draws": draws,
        "with_recordings": recordings is not None,
        "audit": audit,
        "kit": _kit(run),
        "provenance": _provenance(run, description, metrics),
        "settings": without_paths(values_of(settings)),
        "commands": commands(run.given(), metrics, audit.found if audit else None),
        "missing": absent(RUN),
    }
    data = render("report.html", context).encode()
    write_bytes(path, data)
    return {"report": str(path), "bytes": len(data), "missing": absent(str(run.folder))}


def evaluated(run: Run) -> dict[str, Any]:
    """The figures that evaluate measured of a run.

    Raises:
        RunError: It was not evaluated, or by another version.
    """
    run.description()  # a folder that is no run says so first
    metrics, hint = run.metrics(), f"run: edgeser evaluate {run.folder} --full --baselines"
    if metrics is None:
        raise RunError(f"the run {run.folder} was not evaluated", hint)
    try:
        rows_of(metrics)
    except (KeyError, TypeError) as error:
        raise RunError(f"the run {run.folder} was evaluated by another version", hint) from error
    return metrics


def missing(metrics: Mapping[str, Any], audited: bool, hears: bool, folder: str) -> dict[str, str]:
    """The parts of the page that were not measured, each with the command that measures it of the run in ``folder``.

    A run of a file of vectors hears no recordings of other corpora.
    """
    run = shlex.quote(folder)
    absent = {
        "full": (metrics.get("full"), f"edgeser evaluate {run} --full"),
        "baselines": (metrics.get("baselines"), f"edgeser evaluate {run} --baselines"),
        "details": (metrics.get("details"), f"edgeser evaluate {run} --full --baselines"),
        "convergence": (metrics.get("convergence"), f"edgeser evaluate {run} --full --convergence"),
        "cross_corpus": (
            metrics.get("on") or not hears,
            f"edgeser evaluate {run} --on DIR --corpus NAME",
        ),
        "robust": (metrics.get("robust") or not hears, f"edgeser evaluate {run} --robust"),
        "audit": (audited, f"edgeser audit {run}"),  # of a generator there is none to make
    }
    return {name: command for name, (there, command) in absent.items() if not there}


def without_speakers(metrics: Mapping[str, Any], description: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics with numbers for the names of speakers, where a corpus is one's own."""
    details = metrics.get("details")
    if not details or not is_own(description["corpus"]["name"]):
        return dict(metrics)
    names = stand_in_names(next(iter(details.values()))["speakers"])
    renamed = {
        row: {**each, "speakers": {names[name]: found for name, found in each["speakers"].items()}}
        for row, each in details.items()
    }
    return {**metrics, "details": renamed}


def _results(metrics: Mapping[str, Any], description: Mapping[str, Any]) -> dict[str, Any]:
    """Tables and figures of what evaluate measured."""
    rows, names = rows_of(metrics), description["labels"]
    beside = compared(rows)
    detailed = [row for row in beside if row.details]
    curves = metrics.get("convergence")
    return {
        "rows": rows,
        "singles": single_rows(metrics),
        "beside": beside,
        "detailed": detailed,
        "names": names,
        "speakers": list(detailed[0].details["speakers"]) if detailed else [],
        "confusions": [(row, confusion_shares(row.details["confusion"])) for row in detailed],
        "summary": sentences(rows, description, metrics),
        "uar_chart": charts.uar_chart(rows, len(names)),
        "class_chart": charts.class_chart(beside, names),
        "speaker_chart": charts.speaker_chart(detailed) if detailed and detailed[0].name == "distilled" else "",
        "convergence_chart": charts.convergence_chart(curves) if curves else "",
        "convergence_words": convergence_words(curves) if curves else "",
        "curves": curves,
        "cross_corpus": metrics.get("on") or [],
        "robust": robust_rows(metrics["robust"]) if metrics.get("robust") else [],
        "robust_words": robust_words(metrics["robust"]) if metrics.get("robust") else "",
        "robust_chart": charts.robust_chart(metrics["robust"]) if metrics.get("robust") else "",
    }


def confusion_shares(counts: Sequence[Sequence[int]]) -> list[list[tuple[float, int]]]:
    """For each true class the share and the count of each answer; shares are 0 where the class does not occur."""
    table = np.asarray(counts)
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    return [
        [(float(share), int(count)) for share, count in zip(*row, strict=True)]
        for row in zip(shares, table, strict=True)
    ]


def _kit(run: Run) -> dict[str, Any]:
    """Size of the kit and of its members; or why there is none."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            report = pack_kit(run.folder, TARGET, Path(folder) / "measured.edgeser")
    except EdgeserError as error:
        return {"reason": error.message}
    members = dict(sorted(report.members.items(), key=lambda item: -item[1]))
    return {**report.to_json(), "target": TARGET, "members": members}


def _provenance(run: Run, description: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, str]:
    """The origin of a run: corpus, settings, versions and machines, without folders of this machine."""
    corpus, student, machine = description["corpus"], description["student"], metrics["machine"]
    took = run.took()
    parts = {
        part: f"{len(found['speakers'])} speakers, {found['utterances']:,} clips"
        for part, found in ((name, description["split"][name]) for name in ("train", "dev", "test"))
    }
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items() if name != "edgeser")
    rows = {
        "corpus": f"{corpus['title']} ({corpus['name']})",
        "licence": corpus.get("licence"),
        "cite": corpus.get("citation"),
        "kind of emotion": corpus.get("kind"),
        "consent": corpus.get("consent"),
        "notes": corpus.get("notes"),
        "fingerprint of the corpus": corpus.get("fingerprint"),
        f"split {split_words(description['split'])}": "; ".join(f"{part}: {words}" for part, words in parts.items()),
        "student": f"{student['architecture']} at width {student['width']:g}, {student['parameters']:,} parameters, "
        f"{student['multiply_accumulates']:,} multiply-accumulates a window",
        "method": f"{description['method']}, seed {description['seed']}",
        "SHA-256 of the set": sha256((run.folder / "distilled.safetensors").read_bytes()).hexdigest(),
        "made with": f"edgeser {description['edgeser']}",
        "making it took": f"{took['total_seconds']:.0f} s" if took["total_seconds"] else None,
        "memory for it": f"{took['peak_rss_mb']:.0f} MB" if took["peak_rss_mb"] else None,
        "evaluated with": f"edgeser {metrics['edgeser']}, seeds {', '.join(map(str, metrics['seeds']))}",
        "evaluated on": f"{machine_words(machine)}, {machine['system']}, Python {machine['python']}",
        "packages there": packages,
    }
    return {name: str(value) for name, value in rows.items() if value}
