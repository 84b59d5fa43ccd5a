"""Log-mels: recordings read in parallel, normalised by the training clips, stored as bytes.

features = extract(corpus, split, FrontendSpec(), Workers(jobs=2))
features.train.crops        # (clips, 1, mels, frames), normalised by the training clips

The log-mel of a recording is cached by the front-end's numbers and the recording's content, see :mod:`edgeser.cache`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Unpack

import numpy as np
from numpy.typing import NDArray

from edgeser.config.settings import STARTS, Settings
from edgeser.corpora.corpus import Corpus, Utterance
from edgeser.corpora.joined import corpus_of
from edgeser.corpora.splits import Split, make_split
from edgeser.representation.base import Augmentation, Content, Features, Maps, Part, Representation, Stored, features_of
from edgeser.representation.split_reading import read_split
from edgeser.workers import Workers
from edgeser_device.data.audio import read_audio
from edgeser_device.data.distilled import DistilledSet
from edgeser_device.data.sample_storage import fold, unfold
from edgeser_device.data.stored import StoredSet
from edgeser_device.data.views import Mixing
from edgeser_device.frontend import FrontendSpec, centre_window, clip_log_mel, normalise, windows

FRONTEND_VERSION = 2
"""Raised whenever the reader's or the front-end's code changes what it computes, so that older cache entries are not
read."""


@dataclass(frozen=True)
class LogMelPart(Part):
    """One part of a split.

    Attributes:
        levels: Log-mel of each clip, dB, float32 (mels, any number of frames).
        frontend: The rules by which levels are normalised and windows are cut.
    """

    levels: tuple[NDArray[np.float32], ...]
    frontend: FrontendSpec

    @property
    def crops(self) -> NDArray[np.float32]:
        """The one training window of each clip, normalised, float32 (clips, 1, mels, frames)."""
        crops = [centre_window(levels, self.frontend.frames) for levels in self.levels]
        return normalise(np.stack(crops), self.frontend)[:, None]

    def windows(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """All windows of all clips, normalised, float32 (windows, 1, mels, frames), and the clip of each, int64."""
        cut = [windows(levels, self.frontend) for levels in self.levels]
        owners = np.repeat(np.arange(len(cut)), [len(each) for each in cut])
        return normalise(np.concatenate(cut), self.frontend)[:, None], owners


@dataclass(frozen=True)
class LogMel(Representation):
    """Log-mels of recordings.

    Attributes:
        frontend: The front-end, with the training clips' mean and standard deviation once it is fitted.
    """

    frontend: FrontendSpec = field(default_factory=FrontendSpec)

    name: ClassVar[str] = "log-mel"
    has_time: ClassVar[bool] = True
    augmentation: ClassVar[Augmentation] = Augmentation()
    bank: ClassVar[Mixing] = Mixing()
    usual_starts: ClassVar[tuple[str, str]] = (STARTS[True], STARTS[False])
    input_shape: ClassVar[tuple[int, int, int]] = (1, FrontendSpec.mels, FrontendSpec.frames)

    def extract(self, settings: Settings, workers: Workers) -> Features:
        """Read the recordings, split them, and fit the front-end; unreadable ones are listed and left out."""
        corpus = corpus_of(settings)
        return extract(corpus, make_split(corpus, settings.split or None), self.frontend, workers)

    def of_run(self, settings: Settings, stored: StoredSet) -> LogMel:  # noqa: ARG002  the set knows
        """Log-mels that are normalised as those of the run's set."""
        if stored.log_mels is None:
            raise TypeError("no set of log-mels")
        return LogMel(stored.log_mels.frontend)

    def reader(self) -> LogMelReader:
        """The function that computes the log-mel of a recording."""
        return LogMelReader(self.frontend)

    def part(
        self, utterances: tuple[Utterance, ...], labels: NDArray[np.int64], features: tuple[NDArray[np.float32], ...]
    ) -> LogMelPart:
        """Clips with their log-mels."""
        return LogMelPart(utterances, labels, features, self.frontend)

    def blend(self, sources: Maps, weights: NDArray[np.float64], middle: NDArray[np.float32]) -> NDArray[np.float64]:  # noqa: ARG002
        """The log-mel of sounds that are heard together, with the mean and the spread of its sources."""
        return alike(at_once(sources, weights, float(self.frontend.std)), sources)

    def quantise(self, items: Maps, formations: int) -> Stored:
        """Items as bytes, see :mod:`edgeser_device.data.sample_storage`."""
        levels, scale, offset = fold(items, formations)
        return {"levels": levels, "scale": scale, "offset": offset}

    def dequantise(self, stored: Stored, formations: int) -> Maps:
        """The log-mels that these bytes stand for."""
        return unfold(**stored, samples_per_item=formations)

    def make_set(self, stored: Stored, formations: int, **content: Unpack[Content]) -> DistilledSet:
        """The distilled set of items that :meth:`quantise` stored."""
        return DistilledSet(**stored, **content, frontend=self.frontend, samples_per_item=formations)

    def read_set(self, data: bytes) -> DistilledSet:
        """The distilled set in a file."""
        return DistilledSet.from_bytes(data)

    def describe(self) -> dict[str, Any]:
        """The front-end, whose mean and standard deviation stand for the contents of the training clips."""
        return {"frontend": self.frontend.to_json()}


def at_once(sources: NDArray[np.float32], weights: NDArray[np.float64], decibels: float) -> NDArray[np.float64]:
    """The log-mel of sounds that are heard together.

    Args:
        sources: Log-mels (sources, mels, frames), in units of ``decibels`` dB about any level.
        weights: Weights of their powers (sources,), above zero.
        decibels: dB in one unit.

    Returns:
        10 log10(sum of weight 10^(dB / 10)) in the same units, (mels, frames).
    """
    bels = sources.astype(np.float64) * (decibels / 10)
    loudest = bels.max(0)
    return np.asarray((loudest + np.log10(np.tensordot(weights, 10 ** (bels - loudest), axes=1))) * (10 / decibels))


def alike(item: NDArray[np.float64], sources: NDArray[np.float32]) -> NDArray[np.float64]:
    """The item with the mean and the standard deviation of its sources: a sum is louder and varies less."""
    mean, spread = float(sources.mean()), float(sources.std())
    return np.asarray(mean + (item - item.mean()) * (spread / max(float(item.std()), 1e-6)))


def extract(corpus: Corpus, split: Split, spec: FrontendSpec, workers: Workers) -> Features:
    """Read all recordings of a split; unreadable ones are listed and left out.

    Args:
        corpus: The corpus, which gives the order of the classes.
        split: The parts of the corpus.
        spec: The front-end; its mean and std are replaced by those of the training clips.
        workers: The processes that read recordings.

    Raises:
        CorpusError: A class has no readable recording in a part.
        ConflictingCopies: A recording occurs with two emotions or two speakers.
    """
    read = read_split(corpus, split, LogMelReader(spec), workers)
    everything = np.stack([centre_window(levels, spec.frames) for levels in read.features(read.train)]).astype(float)
    fitted = replace(
        spec, mean=float(np.float32(everything.mean())), std=float(np.float32(max(everything.std(), 1e-6)))
    )
    return features_of(read, split, LogMel(fitted))


@dataclass(frozen=True)
class LogMelReader:
    """Reads log-mels in dB, float32 (mels, frames).

    Attributes:
        spec: The front-end.
    """

    spec: FrontendSpec
    what: ClassVar[str] = "log-mels"

    @property
    def key(self) -> bytes:
        """Everything but the recording that a log-mel depends on."""
        numbers = replace(self.spec, mean=0.0, std=1.0, frames=1, window_hop=1)  # what it does not depend on
        return json.dumps([FRONTEND_VERSION, numbers.to_json()], sort_keys=True).encode()

    @property
    def shape(self) -> tuple[int, int]:
        """Mel bands and any number of frames."""
        return self.spec.mels, -1

    @property
    def rate(self) -> int:
        """The rate of the front-end."""
        return self.spec.rate

    def __call__(self, path: Path) -> NDArray[np.float32]:
        """The log-mel of a recording, its silent edges cut."""
        return self.of_samples(read_audio(path, self.rate), path)

    def of_samples(self, samples: NDArray[np.float32], path: Path) -> NDArray[np.float32]:  # noqa: ARG002
        """The log-mel of samples, silent edges cut."""
        return clip_log_mel(samples, self.spec)
