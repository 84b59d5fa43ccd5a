"""The interface of a representation; :mod:`edgeser.representation` lists them.

An item is a map, float32 (rows, columns): a log-mel has its mel bands and frames, a vector its numbers and one column.
A student reads the same numbers in its own shape, see :func:`edgeser.models.network.as_input`. Items are in standard
deviations of the training part.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from edgeser.cache import Reader
from edgeser.config.settings import Settings
from edgeser.corpora.corpus import Corpus, Utterance
from edgeser.corpora.fingerprint import corpus_fingerprint
from edgeser.corpora.splits import Split
from edgeser.errors import SettingsError
from edgeser.representation.split_reading import ReadSplit
from edgeser.workers import Workers
from edgeser_device.data.schedule import Schedule
from edgeser_device.data.stored import StoredSet
from edgeser_device.data.views import Mixing, Recipes

Maps: TypeAlias = NDArray[np.float32]
"""Items, float32 (items, rows, columns)."""
Stored: TypeAlias = dict[str, NDArray[Any]]
"""Items as a distilled set keeps them: its arrays by name."""


@dataclass(frozen=True)
class Augmentation:
    """The variation of real clips, freshly in every step.

    Attributes:
        shift: Largest circular shift in frames.
        gain: Standard deviation of the added level, in standard deviations of the corpus.
        mixup: Both parameters of the Beta distribution of the mixing weight (Zhang et al. 2018, arXiv 1710.09412).
    """

    shift: int = 12
    gain: float = 0.1
    mixup: float = 0.2


@dataclass(frozen=True)
class Part(ABC):
    """One part of a split.

    Attributes:
        utterances: The clips that could be read, in the corpus's order.
        labels: Class of each, int64 (clips,).
    """

    utterances: tuple[Utterance, ...]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.utterances)

    @property
    def speakers(self) -> tuple[str, ...]:
        """Speaker of each clip."""
        return tuple(utterance.speaker for utterance in self.utterances)

    @property
    @abstractmethod
    def crops(self) -> NDArray[np.float32]:
        """One training window of each clip as a student reads it, float32 (clips, channels, rows, columns)."""

    def windows(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """All windows of all clips as a student reads them, and the clip of each, int64 (windows,)."""
        return self.crops, np.arange(len(self))


@dataclass(frozen=True)
class Features:
    """A split corpus in a representation.

    Attributes:
        corpus: The corpus.
        split: The parts of the corpus, speaker-disjoint.
        representation: Fitted to the training part.
        train: The part to learn from.
        dev: Speakers for selection.
        test: Speakers that are scored once.
        fingerprint: SHA-256 that tells this corpus from others, hexadecimal.
        size: Bytes that the training clips take on the disk.
        unreadable: Recordings that were left out, each with the reason.
    """

    corpus: Corpus
    split: Split
    representation: Representation
    train: Part
    dev: Part
    test: Part
    fingerprint: str
    size: int
    unreadable: tuple[tuple[Path, str], ...] = ()


def features_of(read: ReadSplit, split: Split, fitted: Representation) -> Features:
    """The features of recordings that were read, in a representation that was fitted to them."""
    train, dev, test = (fitted.part(part, read.labels(part), read.features(part)) for part in read.parts)
    fingerprint = corpus_fingerprint(read.corpus)
    return Features(read.corpus, split, fitted, train, dev, test, fingerprint, read.size, read.unreadable)


class Content(TypedDict):
    """The parts of a distilled set besides its items; :mod:`edgeser_device.data.distilled` explains them."""

    classes: NDArray[np.uint8]
    recipes: Recipes
    soft_labels: NDArray[np.float16]
    names: tuple[str, ...]
    schedule: Schedule


class Representation(ABC):
    """The way in which clips are read, varied, mixed and stored; a frozen dataclass of what is fitted to a corpus.

    Attributes:
        name: A word for people and files.
        has_time: Whether items vary over time. Convolutional students, starts that shift or smooth, differential
            privacy, and generators and kits for boards need it.
        augmentation: The variation of real clips when a student or an expert learns them.
        bank: The variation of a label bank's views.
        usual_starts: Starts that are taken where none is named: one for small budgets, one for larger ones.
        input_shape: Shape of what a student reads; (numbers, 1, 1) of vectors of any length.
    """

    name: ClassVar[str]
    has_time: ClassVar[bool]
    augmentation: ClassVar[Augmentation]
    bank: ClassVar[Mixing]
    usual_starts: ClassVar[tuple[str, str]]
    input_shape: ClassVar[tuple[int, int, int]]

    @property
    def reference(self) -> NDArray[np.float32] | None:
        """Standardised vectors of synthetic speech, float32 (clips, numbers), where the scale is of these; or None."""
        return None

    @abstractmethod
    def extract(self, settings: Settings, workers: Workers) -> Features:
        """Read the corpus of the settings, split it, and fit the representation to its training part.

        Raises:
            CorpusError: The corpus cannot be used; a leaf says why.
        """

    def of_run(self, settings: Settings, stored: StoredSet) -> Representation:  # noqa: ARG002
        """The same as it was fitted for a run, so that other recordings can be heard as the run's were.

        Raises:
            SettingsError: It hears no recordings.
            EncoderError: The encoder is not on this machine, or is another one than the run's.
        """
        raise self._deaf()

    def reader(self) -> Reader:
        """The function that computes the features of a recording; errors as :meth:`of_run`."""
        raise self._deaf()

    def part(self, utterances: tuple[Utterance, ...], labels: NDArray[np.int64], features: tuple[Maps, ...]) -> Part:  # noqa: ARG002
        """Clips with what :meth:`reader` gave for each; errors as :meth:`of_run`."""
        raise self._deaf()

    def _deaf(self) -> SettingsError:
        return SettingsError(f"{self.name} were computed elsewhere, and recordings have none", "distil with --encoder")

    def pinned(self, settings: Settings) -> Settings:
        """Settings that name what this was computed with, so that another time nothing else is taken."""
        return settings

    @abstractmethod
    def blend(self, sources: Maps, weights: NDArray[np.float64], middle: NDArray[np.float32]) -> NDArray[np.float64]:
        """Several clips in one item, (rows, columns), that varies as one clip does.

        Args:
            sources: Clips of one class, float32 (sources, rows, columns).
            weights: Shares of the sources (sources,), above zero, which sum to one.
            middle: Mean of the class, float32 (rows, columns).
        """

    @abstractmethod
    def quantise(self, items: Maps, formations: int) -> Stored:
        """Items as the distilled set keeps them, ``formations`` maps in each."""

    @abstractmethod
    def dequantise(self, stored: Stored, formations: int) -> Maps:
        """The maps that a student will be trained on."""

    @abstractmethod
    def make_set(self, stored: Stored, formations: int, **content: Unpack[Content]) -> StoredSet:
        """The distilled set of items that :meth:`quantise` stored, with its views and their labels."""

    @abstractmethod
    def read_set(self, data: bytes) -> StoredSet:
        """The inverse of a set's ``to_bytes``.

        Raises:
            DistilledSetError: The file is damaged, or of another kind.
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """The entry of run.json, under one key; two runs with the same entry saw the same training clips."""

    def mixing(self, labels: str) -> Mixing:
        """The variation of views with labels of that kind.

        What the experts are asked about may be far from its item. A label that belongs to an item holds only near it:
        such views vary as real clips do.
        """
        if labels == "bank":
            return self.bank
        near = self.augmentation
        return Mixing(
            beta=near.mixup, cut_share=0.0, stretch=0.0, mel_shift=0, contrast=0.0, gain=near.gain, shift=near.shift
        )
