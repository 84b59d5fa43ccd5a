"""Show a check's report in a terminal."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from edgeser.corpora.check import CheckReport
from edgeser.corpora.splits import PARTS
from edgeser.sheet import Sheet
from edgeser_export.errors import MissingExtra
from edgeser_export.words import counted

if TYPE_CHECKING:
    from rich.console import Group

SHOWN_FINDINGS, SHOWN_PATHS = 30, 5
"""Findings that are listed, and recordings of each; the rest is counted."""


def render_check(report: CheckReport) -> Group:
    """Return tables that ``rich.console.Console().print`` shows.

    Raises:
        MissingExtra: rich is not installed.
    """
    try:
        from rich.console import Group
        from rich.text import Text
    except ImportError as error:
        raise MissingExtra("rich", "host") from error
    counts = (counted(report.utterances, "utterance"), counted(len(report.speakers), "speaker"))
    columns = [f">{part}" for part in PARTS] if report.split else []
    overview = Sheet("emotion", ">all", *columns, title=f"{report.corpus}: {', '.join(counts)}")
    for emotion, count in report.classes.items():
        parts = [str(report.split[part]["classes"].get(emotion, 0)) for part in PARTS] if report.split else []
        overview.add(emotion, str(count), *parts)
    recordings = Sheet("", "", title="recordings")
    seconds = report.durations_s
    if seconds:
        recordings.add("duration", "{min} to {max} s, median {median} s, {total} s in all".format(**seconds))
    for name, found in (("rate in Hz", report.rates), ("channels", report.channels), ("format", report.subtypes)):
        recordings.add(name, _listed(found))
    if report.ignored:
        recordings.add("left out", _listed(report.ignored))
    findings = Sheet("", "kind", "what", "where", title=f"findings: {len(report.findings)}")
    for finding in report.findings[:SHOWN_FINDINGS]:
        others = [f"and {len(finding.paths) - SHOWN_PATHS} more"] if len(finding.paths) > SHOWN_PATHS else []
        findings.add(finding.severity, finding.kind, finding.detail, "\n".join([*finding.paths[:SHOWN_PATHS], *others]))
    rest = len(report.findings) - SHOWN_FINDINGS
    kinds = Counter(f"{finding.kind} ({finding.severity})" for finding in report.findings)
    numbers = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    more = f"and {rest} more: " if rest > 0 else ""
    last = Text(f"{more}{numbers} in all" if kinds else "nothing wrong was found")
    return Group(Text(report.headline), overview, recordings, *([findings] if report.findings else []), last)


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.items())
