"""The recordings of a split as features, checked: every class is there, and no copy has two emotions or two voices.

read = read_split(corpus, split, LogMelReader(spec), Workers(jobs=2))
read.features(read.train)           # float32 arrays in the order of the clips
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeser.cache import Reader, read_recordings
from edgeser.corpora.corpus import Corpus, Utterance, conflicts_of
from edgeser.corpora.errors import ConflictingCopies, CorpusError
from edgeser.corpora.splits import PARTS, Split
from edgeser.workers import Workers

Clips = tuple[Utterance, ...]


@dataclass(frozen=True)
class ReadSplit:
    """The clips of a split that could be read.

    Attributes:
        corpus: The corpus, which gives the order of the classes.
        train: The clips to learn from.
        dev: Those of the dev speakers.
        test: Those of the test speakers.
        found: Features of each recording, float32.
        unreadable: Recordings that were left out, each with the reason.
    """

    corpus: Corpus
    train: Clips
    dev: Clips
    test: Clips
    found: Mapping[Path, NDArray[np.float32]]
    unreadable: tuple[tuple[Path, str], ...]

    @property
    def parts(self) -> tuple[Clips, Clips, Clips]:
        """The three parts."""
        return self.train, self.dev, self.test

    @property
    def size(self) -> int:
        """Bytes that the training clips take on the disk."""
        return sum(each.path.stat().st_size for each in self.train)

    def features(self, part: Clips) -> tuple[NDArray[np.float32], ...]:
        """Features of each clip of a part."""
        return tuple(self.found[each.path] for each in part)

    def labels(self, part: Clips) -> NDArray[np.int64]:
        """Class of each clip of a part, int64 (clips,)."""
        return np.array([self.corpus.labels.index(each.emotion) for each in part], dtype=np.int64)


def read_split(corpus: Corpus, split: Split, reader: Reader, workers: Workers) -> ReadSplit:
    """Read all recordings of a split; unreadable ones are listed and left out.

    Args:
        corpus: The corpus.
        split: The parts of the corpus.
        reader: The function that computes features.
        workers: The processes that read recordings.

    Raises:
        CorpusError: A class has no readable recording in a part.
        ConflictingCopies: A recording occurs with two emotions or two speakers.
    """
    paths = [utterance.path for part in PARTS for utterance in split.part(part)]
    everything = read_recordings(paths, reader, workers)
    unreadable = tuple((path, reason) for path, reason in everything.items() if isinstance(reason, str))
    found = {path: features for path, features in everything.items() if not isinstance(features, str)}
    train, dev, test = (tuple(each for each in split.part(part) if each.path in found) for part in PARTS)
    _require_readable(corpus, (train, dev, test), unreadable)
    _require_no_conflicts(corpus, (*train, *dev, *test), found)
    return ReadSplit(corpus, train, dev, test, found, unreadable)


def _require_readable(
    corpus: Corpus, parts: Sequence[Sequence[Utterance]], unreadable: Sequence[tuple[Path, str]]
) -> None:
    why = f"; {len(unreadable)} recordings cannot be read, the first is {unreadable[0][0].name}" if unreadable else ""
    for name, part in zip(PARTS, parts, strict=True):
        missing = sorted(set(corpus.labels) - {each.emotion for each in part})
        if missing:
            what = f"no recording of {missing[0]!r}" if part else "no recording"
            raise CorpusError(
                f"the {name} part has {what}{why}",
                f"record them again; all are named by edgeser data check {corpus.folder} --corpus {corpus.name}",
            )


def _require_no_conflicts(
    corpus: Corpus, readable: Sequence[Utterance], found: Mapping[Path, NDArray[np.float32]]
) -> None:
    """Refuse copies with two emotions or two speakers: one label is wrong, or one voice is in two parts."""
    copies: dict[bytes, list[Utterance]] = {}
    for each in readable:
        features = found[each.path]
        if np.ptp(features) > 0:  # silence is like silence
            copies.setdefault(hashlib.sha256(features.tobytes()).digest(), []).append(each)
    groups = [group for group in copies.values() if conflicts_of(group)]
    if groups:
        paths = sorted(corpus.below(each.path) for each in groups[0])
        raise ConflictingCopies(paths, conflicts_of(groups[0]), len(groups) - 1)
