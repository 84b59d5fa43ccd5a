"""Look at a corpus before hours are spent on it.

    report = check_corpus(corpus, make_split(corpus), refusal(corpus, None, Workers(2)))
    report.passed, report.findings

Every recording is read by the reader that distill and predict use, and no bad one stops the check. Whether it passes
is what :func:`edgeser.distill.pipeline.refusal` says: distill itself, asked for one item a class. A recording that
cannot be read is left out by distill, and so is no error by itself.
"""

from __future__ import annotations

import dataclasses
import hashlib
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgeser.corpora.corpus import Corpus, conflicts_of
from edgeser.corpora.splits import PARTS, Split
from edgeser.report.tables import Sheet
from edgeser_export.utilities.errors import EdgeserError
from edgeser_export.utilities.words import counted

if TYPE_CHECKING:
    from rich.console import Group


SILENT_DBFS = -60.0
"""A recording whose largest sample lies under this level is silent."""
CLIPPED_RUN = 3
"""That many samples in a row at full scale are one clipping."""
CLIPPED_RUNS = 5
"""That many clippings make a recording clipped."""
FULL_SCALE = 0.999
SHORTEST_S = 0.3
"""Seconds; a shorter recording holds hardly a syllable."""

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts that were found in one recording."""

    path: Path
    problem: str | None = None
    """Why the reader refuses it; then the other facts are empty."""
    sha256: str = ""
    decoded_sha256: str = ""
    """Hash of rate, channels and decoded samples: equal for a WAV file and its FLAC copy."""
    duration_s: float = 0.0
    rate: int = 0
    channels: int = 0
    subtype: str = ""
    silent: bool = False
    """Whether the sound that the reader makes of it is silent."""
    clipped: bool = False
    used: tuple[int, ...] = ()
    """The channels that the reader averages, counted from 1; empty for all of them."""
    offset: float = 0.0
    """The constant that the reader subtracts, full scale 1.0."""
    cut: str | None = None
    """A remark about samples that the header states and the file lacks."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A defect: what kind, how grave, and which recordings (relative to the corpus's folder)."""

    kind: str
    severity: Severity
    paths: tuple[str, ...]
    detail: str


@dataclass(frozen=True)
class CheckReport:
    """The contents of a corpus, and the defects that were found."""

    corpus: str
    folder: str
    utterances: int
    ignored: dict[str, int]
    """Recordings that the loader left out, by reason."""
    classes: dict[str, int]
    speakers: dict[str, dict[str, int]]
    """Speaker -> emotion -> utterances."""
    split: dict[str, Any] | None
    durations_s: dict[str, float]
    """Minimum, median, maximum and total of the recordings that can be decoded; empty when none can."""
    rates: dict[str, int]
    channels: dict[str, int]
    subtypes: dict[str, int]
    findings: tuple[Finding, ...]
    refusal: str | None
    """Why distill refuses the corpus."""

    @property
    def passed(self) -> bool:
        """Whether distill accepts the corpus; warnings do not count."""
        return self.refusal is None

    @property
    def headline(self) -> str:
        """The outcome in a sentence."""
        return f"distill refuses this corpus: {self.refusal}" if self.refusal else "distill accepts this corpus"

    def to_json(self) -> dict[str, Any]:
        """Return everything as a JSON-able mapping."""
        return {**dataclasses.asdict(self), "passed": self.passed}


def check_corpus(
    corpus: Corpus,
    split: Split | None = None,
    refusal: EdgeserError | None = None,
    *,
    n_jobs: int = -1,
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Decode every recording of a corpus and report what is there and what is wrong.

    Args:
        corpus: Any corpus.
        split: The split to report; None where the corpus cannot be split.
        refusal: Why distill refuses the corpus; None where it accepts it.
        n_jobs: Threads; -1 for one a core.
        progress: Called with recordings done and recordings in all.

    Raises:
        ImportError: joblib is not installed, which comes with the extra "host".
    """
    from joblib import Parallel, delayed

    paths = [utterance.path for utterance in corpus.utterances]
    facts: list[Facts] = []
    # Decoding and hashing release the interpreter lock, so threads do, and need no copies.
    for number, found in enumerate(
        Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator")(delayed(inspect)(path) for path in paths), 1
    ):
        facts.append(found)
        if progress is not None:
            progress(number, len(paths))
    return _report(corpus, split, refusal, facts)


def inspect(path: Path) -> Facts:
    """Read one recording; one that the reader refuses becomes facts with a problem, never an error."""
    import numpy as np

    from edgeser_device.data.audio import decode, recording_bytes
    from edgeser_device.errors import AudioError

    try:
        data, decoded = recording_bytes(path), decode(path)
    except AudioError as error:
        return Facts(path, problem=f"{error.message.removeprefix(f'{path} ')}; {error.hint}")
    samples = np.concatenate(decoded.pieces)
    channels = samples.shape[1]
    return Facts(
        path,
        sha256=hashlib.sha256(data).hexdigest(),
        decoded_sha256=hashlib.sha256(f"{decoded.rate}/{channels}/".encode() + samples.tobytes()).hexdigest(),
        duration_s=len(samples) / decoded.rate,
        rate=decoded.rate,
        channels=channels,
        subtype=decoded.form,
        silent=bool(np.abs(decoded.mono).max() < 10 ** (SILENT_DBFS / 20)),
        clipped=_runs(np.abs(samples).max(axis=1) >= FULL_SCALE) >= CLIPPED_RUNS,
        used=() if decoded.mixdown.channels is None else tuple((decoded.mixdown.channels + 1).tolist()),
        offset=float(decoded.mixdown.offset),
        cut=decoded.cut,
    )


def _runs(at_full_scale: Any) -> int:
    """Count runs of at least ``CLIPPED_RUN`` true values in a vector."""
    import numpy as np

    edges = np.flatnonzero(np.diff(at_full_scale.astype(np.int8), prepend=0, append=0))
    return int(np.sum(edges[1::2] - edges[::2] >= CLIPPED_RUN))


def _report(corpus: Corpus, split: Split | None, refusal: EdgeserError | None, facts: list[Facts]) -> CheckReport:
    decoded = [found for found in facts if found.problem is None]
    speakers: dict[str, Counter[str]] = defaultdict(Counter)
    for utterance in corpus.utterances:
        speakers[utterance.speaker][utterance.emotion] += 1
    findings = (
        *([Finding("refused", "error", (), f"{refusal.message}; to do: {refusal.hint}")] if refusal else []),
        *(Finding("reading", "warning", (), remark) for remark in corpus.remarks),
        *_defects(corpus, facts),
        *_duplicates(corpus, refusal, decoded),
        *_uneven(decoded),
        *_offsets(corpus, decoded),
    )
    return CheckReport(
        corpus=corpus.name,
        folder=str(corpus.folder),
        utterances=len(corpus.utterances),
        ignored=_counted(skipped.reason for skipped in corpus.skipped),
        classes=_counted(utterance.emotion for utterance in corpus.utterances),
        speakers={speaker: dict(sorted(speakers[speaker].items())) for speaker in sorted(speakers)},
        split=split.describe() if split else None,
        durations_s=_durations([found.duration_s for found in decoded]),
        rates=_counted(str(found.rate) for found in decoded),
        channels=_counted(str(found.channels) for found in decoded),
        subtypes=_counted(found.subtype for found in decoded),
        findings=findings,
        refusal=refusal.message if refusal else None,
    )


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _durations(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {}
    figures = {"min": min(seconds), "median": statistics.median(seconds), "max": max(seconds), "total": sum(seconds)}
    return {name: round(value, 3) for name, value in figures.items()}


def _defects(corpus: Corpus, facts: list[Facts]) -> list[Finding]:
    def finding(kind: str, found: Facts, detail: str) -> Finding:
        return Finding(kind, "warning", (corpus.below(found.path),), detail)

    findings: list[Finding] = []
    for found in facts:
        if found.problem is not None:
            findings.append(finding("unreadable", found, f"{found.problem}; distill leaves it out"))
            continue
        if found.cut:
            findings.append(finding("cut", found, found.cut))
        if found.used:
            which = ", ".join(map(str, found.used))
            detail = f"only channel {which} of {found.channels} is used: others are silent or cancel it"
            findings.append(finding("channels", found, detail))
        if found.silent:
            findings.append(finding("silent", found, f"no sample above {SILENT_DBFS:.0f} dBFS"))
        if found.clipped:
            findings.append(finding("clipped", found, "runs of samples at full scale"))
        if found.duration_s < SHORTEST_S:
            findings.append(finding("too short", found, f"{found.duration_s:.3f} s"))
    return findings


def _duplicates(corpus: Corpus, refusal: EdgeserError | None, decoded: list[Facts]) -> list[Finding]:
    """Report groups of equal recordings; distill refuses those that carry two emotions or two speakers."""
    by_path = {utterance.path: utterance for utterance in corpus.utterances}
    groups: dict[str, list[Facts]] = defaultdict(list)
    for found in decoded:
        if not found.silent:  # digital silence equals itself, and is reported as silence
            groups[found.decoded_sha256].append(found)
    findings = []
    for group in groups.values():
        if len(group) < 2:
            continue
        same_bytes = len({found.sha256 for found in group}) == 1
        conflicts = conflicts_of([by_path[found.path] for found in group])
        detail = "byte for byte the same" if same_bytes else "the same samples in different files"
        if conflicts:
            detail += f", but with different {' and '.join(conflicts)}"
        paths = tuple(corpus.below(found.path) for found in group)
        findings.append(Finding("duplicate", "error" if conflicts and refusal else "warning", paths, detail))
    return findings


def _uneven(decoded: list[Facts]) -> list[Finding]:
    """Report a mix of rates: an upsampled class can be told by its bandwidth alone."""
    rates = Counter(found.rate for found in decoded)
    if len(rates) < 2:
        return []
    listed = ", ".join(f"{count} at {rate} Hz" for rate, count in sorted(rates.items()))
    return [Finding("mixed rates", "warning", (), listed)]


def _offsets(corpus: Corpus, decoded: list[Facts]) -> list[Finding]:
    """Report constants in the sound in one finding: a microphone adds one to all that it records."""
    shifted = [found for found in decoded if found.offset]
    if not shifted:
        return []
    most = max(abs(found.offset) for found in shifted)
    paths = tuple(corpus.below(found.path) for found in shifted)
    return [Finding("offset", "warning", paths, f"a constant of up to {most:.2%} of full scale is subtracted")]


SHOWN_FINDINGS, SHOWN_PATHS = 30, 5
"""Findings that are listed, and recordings of each; the rest is counted."""


def render_check(report: CheckReport) -> Group:
    """Return tables that ``rich.console.Console().print`` shows."""
    from rich.console import Group
    from rich.text import Text

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
