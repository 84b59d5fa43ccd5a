"""The leaves of the tree of errors that corpora raise; the tree is drawn in :mod:`edgeser.errors`.

Every class composes its own message (what was wrong, and where) and hint (what to do about it).
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from edgeser_export.utilities.errors import EdgeserError


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name.lower(), list(known), n=1)
    return f"did you mean {close[0]!r}? " if close else ""


class CorpusError(EdgeserError, ValueError):
    """A corpus cannot be used as it is."""


class UnknownCorpus(CorpusError):
    """No corpus format has this name."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        names = list(known)
        super().__init__(
            f"there is no corpus format named {name!r}", f"{_did_you_mean(name, names)}known: {', '.join(names)}"
        )


class CorpusNotFound(CorpusError, FileNotFoundError):
    """The folder or manifest of a corpus does not exist, or was not named."""

    def __init__(self, name: str, folder: Path | None, wanted: str = "folder") -> None:
        if folder is None:
            message = f"corpus {name!r} needs a {wanted}, and none was named"
        elif folder.exists():
            message = f"{folder} is not a {wanted}"
        else:
            message = f"the {wanted} {folder} does not exist"
        super().__init__(
            message, f"name the {wanted} that holds the recordings, or use --corpus demo, which needs none"
        )


class EmptyCorpus(CorpusError):
    """A folder holds no recording that is read."""

    def __init__(self, folder: Path, layout: str, left_out: Iterable[str] = ()) -> None:
        others = "".join(f"; {count} left out: {reason}" for reason, count in sorted(Counter(left_out).items()))
        super().__init__(f"{folder} holds no recording{others}", f"expected: {layout}")
        self.folder, self.layout = folder, layout


class WrongCorpus(CorpusError):
    """Recordings were found, but none has a name or a label of the asked corpus.

    Attributes:
        name: The corpus format that was asked for.
        folder: The folder of the recordings.
        layout: The layout that the format expects.
        example: A recording that does not fit.
    """

    def __init__(self, name: str, folder: Path, layout: str, example: str, looks_like: str | None = None) -> None:
        guess = f"the names look like --corpus {looks_like}" if looks_like else f"expected: {layout}"
        super().__init__(
            f"no recording in {folder} fits --corpus {name} (for example {example!r})", f"wrong --corpus? {guess}"
        )
        self.name = name
        self.folder = folder
        self.layout = layout
        self.example = example


class UnreadableLabels(CorpusError):
    """A file with labels (manifest, speakers, card, annotation) cannot be read as what it should be."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path}: {what}", "correct that file; docs show one line of each kind")


class BadCorpora(CorpusError):
    """A file that names several corpora cannot be read, or says something that does not fit."""

    def __init__(self, path: Path, what: str, hint: str) -> None:
        super().__init__(f"{path} {what}" if not what.startswith("in ") else f"{path}: {what}", hint)


class MissingColumns(UnreadableLabels):
    """A table lacks columns that are needed."""

    def __init__(self, path: Path, missing: Iterable[str], found: Iterable[str]) -> None:
        absent = ", ".join(missing)
        super().__init__(path, f"column {absent} is missing; found: {', '.join(found) or 'nothing'}")
        self.hint = f"add or rename the column {absent} in the first line of that file"


class UnknownLabel(CorpusError):
    """A label is empty, or is neither a known emotion nor declared."""

    def __init__(self, where: str, label: str, known: Iterable[str], declared_in: Path) -> None:
        names = list(known)
        problem = f"{label!r} is not a known label" if label else "the label is empty"
        super().__init__(
            f"{where}: {problem}",
            f"{_did_you_mean(label, names)}known: {', '.join(names)}; declare others in {declared_in}, one a line",
        )


class UnknownSpeaker(CorpusError):
    """It is not known who speaks, so no split could keep speakers apart."""

    def __init__(self, where: str, way_out: str) -> None:
        super().__init__(f"{where}: nothing says who speaks, so training and test could share a voice", way_out)


class UnclearLayout(CorpusError):
    """It is not clear which folders are the emotions, so a recogniser of people could be trained."""

    def __init__(self, folder: Path, what: str) -> None:
        super().__init__(
            f"{folder}: {what}",
            "make it EMOTION/SPEAKER/..., or list it in a manifest (--corpus manifest), or name classes of your own in "
            "labels.txt there, one a line",
        )


class ConflictingCopies(CorpusError):
    """One recording occurs with two emotions or two speakers, or in two parts of a split."""

    def __init__(self, paths: Iterable[str], conflicts: Iterable[str], others: int) -> None:
        more = f", and so are {others} other groups of recordings" if others else ""
        super().__init__(
            f"one recording with different {' and '.join(conflicts)}: {', '.join(paths)}{more}",
            "remove the wrong copies, or give all copies one emotion and one speaker",
        )


class SplitError(CorpusError):
    """A corpus cannot be split as asked: it has too few speakers or classes, or a part would lack a class."""


class UnknownSplit(SplitError):
    """The name of a split is not understood, or this corpus has no such split."""

    def __init__(self, name: str, corpus: str, known: Iterable[str]) -> None:
        names = list(known)
        super().__init__(
            f"corpus {corpus!r} has no split {name!r}", f"{_did_you_mean(name, names)}it has: {', '.join(names)}"
        )


class SpeakerLeak(SplitError):
    """A speaker stands in two parts of a split."""

    def __init__(self, split: str, first: str, second: str, speakers: Iterable[str]) -> None:
        super().__init__(
            f"split {split!r} has speakers in both {first} and {second}: {', '.join(speakers)}",
            "give each speaker to one part only: a score on voices seen in training says nothing",
        )


class DownloadError(CorpusError, OSError):
    """A corpus could not be downloaded: it is not open, or what came is not what was published."""


class DownloadInterrupted(DownloadError):
    """The server could not be reached, refused, or closed the connection early."""

    def __init__(self, address: str, what: str) -> None:
        super().__init__(f"{address}: {what}", "run the same command again: it goes on where it stopped")


class UnsafeArchive(DownloadError):
    """An archive is damaged, would write outside its folder, or would fill the disk."""

    def __init__(self, archive: str, what: str) -> None:
        super().__init__(f"{archive}: {what}", "nothing was unpacked; get the archive from its publisher")
