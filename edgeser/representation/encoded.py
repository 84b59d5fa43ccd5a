"""Vectors of a pretrained speech encoder: recordings read in parallel, standardised by the training clips.

    features = Encoded().extract(settings, Workers(jobs=2))     # settings.encoder names the encoder
    features.train.crops        # (clips, numbers, 1, 1), one window of each clip

A clip has a vector for every window of about three seconds, every half a second; a shorter clip has one, of its own
length. A clip's middle window is learnt, and the probabilities of all its windows are averaged where it is scored. The
vectors of a recording are cached by the encoder's hash and the recording's content, see :mod:`edgeser.cache`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgeser.cache import read_recordings
from edgeser.config.settings import Settings
from edgeser.corpora.corpus import Utterance
from edgeser.corpora.errors import CorpusError
from edgeser.corpora.joined import corpus_of
from edgeser.corpora.splits import make_split
from edgeser.corpora.table import load_corpus
from edgeser.encoders.store import find_card, open_encoder
from edgeser.representation.base import Features, Maps, Part, Stored, features_of
from edgeser.representation.split_reading import read_split
from edgeser.representation.vectors import Vectors
from edgeser.workers import Workers
from edgeser_device.data.audio import read_audio, trim_silence
from edgeser_device.data.stored import StoredSet
from edgeser_device.data.vector_set import in_steps, scale_of
from edgeser_device.encoder import FRONTEND, Encoder, EncoderCard
from edgeser_device.errors import AudioError, FrontendError

READER_VERSION = 1
"""Raised whenever the reader's or the front-end's code changes what it computes, so that older cache entries are not
read."""
DIGITS = 4
"""Decimals by which a corpus is known again: the last bits of a vector may differ between processors."""


@dataclass(frozen=True)
class EncodedPart(Part):
    """One part of a split.

    Attributes:
        vectors: Standardised vectors of each clip, float32 (windows, numbers).
    """

    vectors: tuple[NDArray[np.float32], ...]

    @property
    def crops(self) -> NDArray[np.float32]:
        """The vector of the middle window of each clip."""
        return np.stack([middle(each) for each in self.vectors])[:, :, None, None]

    def windows(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The vectors of all windows, float32 (windows, numbers, 1, 1), and the clip of each, int64."""
        owners = np.repeat(np.arange(len(self.vectors)), [len(each) for each in self.vectors])
        return np.concatenate(self.vectors)[:, :, None, None], owners


@dataclass(frozen=True)
class EncoderReader:
    """Reads a recording as vectors, float32 (windows, numbers).

    Attributes:
        card: The encoder's card.
    """

    card: EncoderCard
    what: ClassVar[str] = "vectors"

    @property
    def key(self) -> bytes:
        """Everything but the recording that a vector depends on."""
        return json.dumps([READER_VERSION, self.card.sha256, FRONTEND.to_json()], sort_keys=True).encode()

    @property
    def shape(self) -> tuple[int, int]:
        """Any number of windows, and the numbers of a vector."""
        return -1, self.card.size

    @property
    def rate(self) -> int:
        """The rate of the encoder's front-end."""
        return FRONTEND.rate

    def __call__(self, path: Path) -> NDArray[np.float32]:
        """The vectors of a recording; errors as :meth:`of_samples`, and where it cannot be read."""
        return self.of_samples(read_audio(path, self.rate), path)

    def of_samples(self, samples: NDArray[np.float32], path: Path) -> NDArray[np.float32]:
        """The vectors of samples, silent edges cut.

        Raises:
            AudioError: They are silent, or fewer than the encoder needs.
        """
        samples = trim_silence(samples, FRONTEND.trim_db)
        if not samples.any():
            raise AudioError(f"{path} is silent", "record it again, or remove the file")
        try:
            return opened(f"{self.card.name}@{self.card.sha256}")(samples)
        except FrontendError as error:
            raise AudioError(f"{path}: {error.message}", error.hint) from error


@dataclass(frozen=True)
class Encoded(Vectors):
    """Vectors that an encoder computes of recordings.

    Attributes:
        scale: The scale by which they are standardised; None before a corpus is read.
        card: The encoder's card; None before it is opened.
        synthetic: Vectors of the built-in synthetic speech, float32 (clips, numbers), where the scale is of these.
    """

    card: EncoderCard | None = field(default=None, repr=False)
    synthetic: NDArray[np.float32] | None = field(default=None, repr=False)

    name: ClassVar[str] = "encoder"

    def extract(self, settings: Settings, workers: Workers) -> Features:
        """Read the recordings, split them, and fit the scale; unreadable ones are listed and left out.

        Raises:
            EncoderError: The encoder is not on this machine, or is another one than that of the settings.
            CorpusError: The corpus cannot be used; a leaf says why.
        """
        own = replace(self, card=find_card(settings.encoder))
        corpus = corpus_of(settings)
        split = make_split(corpus, settings.split or None)
        read = read_split(corpus, split, own.reader(), workers)
        synthetic = own.of_synthetic_speech(workers) if settings.epsilon else None
        workers.release()  # each holds an encoder
        train = np.stack([middle(each) for each in read.features(read.train)])
        scale = scale_of(train if synthetic is None else synthetic)
        if scale.constant.all():
            raise CorpusError("the recordings of the training part have equal vectors", "use another encoder")
        return features_of(read, split, replace(own, scale=scale, synthetic=synthetic))

    def of_synthetic_speech(self, workers: Workers) -> NDArray[np.float32]:
        """The middle vectors of the built-in corpus, in which nobody speaks, float32 (clips, numbers)."""
        paths = [utterance.path for utterance in load_corpus("demo").utterances]
        found = read_recordings(paths, self.reader(), workers).values()
        return np.stack([middle(each) for each in found if not isinstance(each, str)])

    @property
    def reference(self) -> NDArray[np.float32] | None:
        """The vectors of synthetic speech, standardised by themselves; None where the scale is the clips'."""
        return None if self.synthetic is None else self._fitted.standardised(self.synthetic)

    def of_run(self, settings: Settings, stored: StoredSet) -> Encoded:
        """Vectors of the run's encoder, standardised as those of its set."""
        if stored.vectors is None:
            raise TypeError("no set of vectors")
        return replace(self, scale=stored.vectors.scale, card=find_card(settings.encoder))

    def reader(self) -> EncoderReader:
        """The function that computes the vectors of a recording."""
        return EncoderReader(self._card)

    def part(self, utterances: tuple[Utterance, ...], labels: NDArray[np.int64], features: tuple[Maps, ...]) -> Part:
        """Clips with their vectors, which are standardised here."""
        return EncodedPart(utterances, labels, tuple(self._fitted.standardised(each) for each in features))

    def pinned(self, settings: Settings) -> Settings:
        """Settings that name the encoder with its hash."""
        return replace(settings, encoder=f"{self._card.name}@{self._card.sha256}")

    def quantise(self, items: Maps, formations: int) -> Stored:  # noqa: ARG002  an item is one vector
        """Items in 8 bits a number, each in steps of its own size."""
        vectors = np.array(items[:, :, 0], dtype=np.float32)
        vectors[:, self._fitted.constant] = 0
        levels, step = in_steps(vectors)
        return {"levels": levels, "step": step}

    def describe(self) -> dict[str, Any]:
        """The encoder, and two numbers that stand for the contents of the training clips."""
        card, scale = self._card, self._fitted
        known = {"mean": scale.mean, "spread": scale.spread}
        return {
            "encoder": {"name": card.name, "sha256": card.sha256, "title": card.title, "licence": card.licence},
            "vectors": {
                "size": card.size,
                **{name: round(float(array.mean(dtype=np.float64)), DIGITS) for name, array in known.items()},
            },
        }

    @property
    def _card(self) -> EncoderCard:
        if self.card is None:
            raise ValueError("recordings are heard by an encoder, and none was opened")
        return self.card


def middle(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vector of a clip's middle window, float32 (numbers,), of (windows, numbers)."""
    return np.asarray(vectors[len(vectors) // 2])


@lru_cache(maxsize=1)
def opened(name: str) -> Encoder:
    """The encoder NAME@SHA256, loaded once in every process."""
    return Encoder.open(*open_encoder(name))
