"""Look at a corpus before hours are spent on it.

    report = check_corpus(corpus, make_split(corpus))
    report.passed, report.findings

Every recording is read by the reader that distill and predict use, and no bad one stops the check.
"""

from __future__ import annotations

import dataclasses
import hashlib
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgeser.corpora.corpus import Corpus, Utterance
from edgeser.corpora.splits import PARTS, Split
from edgeser_export.errors import MissingExtra

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
    """What was found in one recording."""

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
    """What the file lacks of what its header states."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A defect: what kind, how grave, and which recordings (relative to the corpus's folder)."""

    kind: str
    severity: Severity
    paths: tuple[str, ...]
    detail: str


@dataclass(frozen=True)
class CheckReport:
    """What a corpus holds and what is wrong with it."""

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

    @property
    def passed(self) -> bool:
        """Whether there is no error; warnings do not count."""
        return all(finding.severity != "error" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Return everything as a JSON-able mapping."""
        return {**dataclasses.asdict(self), "passed": self.passed}


def check_corpus(
    corpus: Corpus,
    split: Split | None = None,
    *,
    n_jobs: int = -1,
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Decode every recording of a corpus and report what is there and what is wrong.

    Args:
        corpus: Any corpus.
        split: The split to report; None where the corpus cannot be split.
        n_jobs: Threads; -1 for one a core.
        progress: Called with recordings done and recordings in all.

    Raises:
        MissingExtra: joblib is not installed.
    """
    try:
        from joblib import Parallel, delayed
    except ImportError as error:
        raise MissingExtra("joblib", "host") from error
    paths = [utterance.path for utterance in corpus.utterances]
    facts: list[Facts] = []
    # Decoding and hashing release the interpreter lock, so threads do, and need no copies.
    for number, found in enumerate(
        Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator")(delayed(inspect)(path) for path in paths), 1
    ):
        facts.append(found)
        if progress is not None:
            progress(number, len(paths))
    return _report(corpus, split, facts)


def inspect(path: Path) -> Facts:
    """Read one recording; one that the reader refuses becomes facts with a problem, never an error."""
    import numpy as np

    from edgeser_device.audio import decode, recording_bytes
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


def _report(corpus: Corpus, split: Split | None, facts: list[Facts]) -> CheckReport:
    decoded = [found for found in facts if found.problem is None]
    speakers: dict[str, Counter[str]] = defaultdict(Counter)
    for utterance in corpus.utterances:
        speakers[utterance.speaker][utterance.emotion] += 1
    findings = (
        *_defects(corpus, facts),
        *_duplicates(corpus, split, decoded),
        *_shared_speakers(split),
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
    )


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _durations(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {}
    figures = {"min": min(seconds), "median": statistics.median(seconds), "max": max(seconds), "total": sum(seconds)}
    return {name: round(value, 3) for name, value in figures.items()}


def _relative(corpus: Corpus, path: Path) -> str:
    return path.relative_to(corpus.folder).as_posix() if path.is_relative_to(corpus.folder) else str(path)


def _defects(corpus: Corpus, facts: list[Facts]) -> list[Finding]:
    def finding(kind: str, severity: Severity, found: Facts, detail: str) -> Finding:
        return Finding(kind, severity, (_relative(corpus, found.path),), detail)

    findings: list[Finding] = []
    for found in facts:
        if found.problem is not None:
            findings.append(finding("unreadable", "error", found, found.problem))
            continue
        if found.cut:
            findings.append(finding("cut", "warning", found, found.cut))
        if found.used:
            which = ", ".join(map(str, found.used))
            detail = f"only channel {which} of {found.channels} is used: others are silent or cancel it"
            findings.append(finding("channels", "warning", found, detail))
        if found.silent:
            findings.append(finding("silent", "warning", found, f"no sample above {SILENT_DBFS:.0f} dBFS"))
        if found.clipped:
            findings.append(finding("clipped", "warning", found, "runs of samples at full scale"))
        if found.duration_s < SHORTEST_S:
            findings.append(finding("too short", "warning", found, f"{found.duration_s:.3f} s"))
    return findings


def _duplicates(corpus: Corpus, split: Split | None, decoded: list[Facts]) -> list[Finding]:
    """Report groups of equal recordings: an error when they carry two labels, two speakers or two parts."""
    by_path = {utterance.path: utterance for utterance in corpus.utterances}
    part_of = {utterance.path: part for part in PARTS for utterance in split.part(part)} if split else {}
    groups: dict[str, list[Facts]] = defaultdict(list)
    for found in decoded:
        if not found.silent:  # digital silence equals itself, and is reported as silence
            groups[found.decoded_sha256].append(found)
    findings = []
    for group in groups.values():
        if len(group) < 2:
            continue
        utterances = [by_path[found.path] for found in group]
        same_bytes = len({found.sha256 for found in group}) == 1
        conflicts = _conflicts(utterances, {part_of.get(found.path, "") for found in group})
        detail = "byte for byte the same" if same_bytes else "the same samples in different files"
        if conflicts:
            detail += f", but with different {' and '.join(conflicts)}"
        paths = tuple(_relative(corpus, found.path) for found in group)
        findings.append(Finding("duplicate", "error" if conflicts else "warning", paths, detail))
    return findings


def _conflicts(utterances: list[Utterance], parts: set[str]) -> list[str]:
    conflicts = []
    if len({utterance.emotion for utterance in utterances}) > 1:
        conflicts.append("emotions")
    if len({utterance.speaker for utterance in utterances}) > 1:
        conflicts.append("speakers")
    if len(parts) > 1:
        conflicts.append("parts of the split")
    return conflicts


def _shared_speakers(split: Split | None) -> list[Finding]:
    """Report names that differ in case or spacing only: probably one person in two parts."""
    if split is None:
        return []
    parts: dict[str, dict[str, str]] = defaultdict(dict)
    for part in PARTS:
        for utterance in split.part(part):
            parts["".join(utterance.speaker.casefold().split())][utterance.speaker] = part
    return [
        Finding(
            "shared speaker",
            "error",
            (),
            f"probably one person: {', '.join(f'{n!r} in {p}' for n, p in names.items())}",
        )
        for names in parts.values()
        if len(set(names.values())) > 1
    ]


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
    paths = tuple(_relative(corpus, found.path) for found in shifted)
    return [Finding("offset", "warning", paths, f"a constant of up to {most:.2%} of full scale is subtracted")]
