"""Vectors: one vector an utterance, computed elsewhere and read from ``--features FILE``.

Vectors are standardised by the training part. Views are mixtures of two items, of which a label bank stretches some
from the mean, with noise; they are stored as the recipes of log-mels with one frame.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Unpack

import numpy as np
from numpy.typing import NDArray

from edgeser.config.settings import Settings
from edgeser.corpora.errors import UnreadableLabels
from edgeser.corpora.splits import PARTS, make_split
from edgeser.representation.base import Augmentation, Content, Features, Maps, Part, Representation, Stored
from edgeser.representation.vector_file import VectorFile, read_vectors
from edgeser.workers import Workers
from edgeser_device.data.vector_set import Scale, VectorSet, in_numbers, scale_of
from edgeser_device.data.views import Mixing


@dataclass(frozen=True)
class VectorPart(Part):
    """One part of a split.

    Attributes:
        x: Standardised vectors, float32 (clips, numbers, 1, 1).
    """

    x: NDArray[np.float32]

    @property
    def crops(self) -> NDArray[np.float32]:
        """The vectors themselves."""
        return self.x


@dataclass(frozen=True)
class Vectors(Representation):
    """Vectors of utterances.

    Attributes:
        scale: The scale by which they are standardised; None before a file is read.
        fingerprint: SHA-256 of the file's vectors, classes and speakers.
    """

    scale: Scale | None = field(default=None, repr=False)
    fingerprint: str = ""

    name: ClassVar[str] = "vectors"
    has_time: ClassVar[bool] = False
    augmentation: ClassVar[Augmentation] = Augmentation(shift=0, gain=0.0, mixup=0.2)
    bank: ClassVar[Mixing] = Mixing(cut_share=0.0, stretch=0.0, mel_shift=0, contrast=0.1, gain=0.0, shift=0, noise=0.5)
    usual_starts: ClassVar[tuple[str, str]] = ("mix", "mix")
    input_shape: ClassVar[tuple[int, int, int]] = (1, 1, 1)

    def extract(self, settings: Settings, workers: Workers) -> Features:  # noqa: ARG002  nothing is computed
        """Read the file, split it, and fit the scale.

        Raises:
            CorpusError: The file cannot be used, or single precision cannot standardise a vector.
        """
        vectors = read_vectors(Path(settings.folder))
        corpus = vectors.corpus
        split = make_split(corpus, settings.split or None)
        rows = {part: np.array([int(each.path.name) for each in split.part(part)], dtype=np.int64) for part in PARTS}
        scale = _fitting_scale(vectors, rows["train"])
        train, dev, test = (
            VectorPart(
                split.part(part),
                vectors.labels[rows[part]],
                scale.standardised(vectors.x[rows[part]])[:, :, None, None],
            )
            for part in PARTS
        )
        fitted = Vectors(scale, vectors.fingerprint)
        return Features(corpus, split, fitted, train, dev, test, vectors.fingerprint, train.crops.nbytes)

    def blend(self, sources: Maps, weights: NDArray[np.float64], middle: NDArray[np.float32]) -> NDArray[np.float64]:
        """A weighted mean, widened about the class's mean: independent vectors vary less when they are averaged."""
        apart = np.tensordot(weights, sources - middle, axes=1)
        return np.asarray(middle + apart / np.sqrt((weights**2).sum()))

    def quantise(self, items: Maps, formations: int) -> Stored:  # noqa: ARG002  an item is one vector
        """Items in single precision, 0 where all training vectors are the same."""
        vectors = np.array(items[:, :, 0], dtype=np.float32)
        vectors[:, self._fitted.constant] = 0
        return {"levels": vectors, "step": np.ones(len(vectors), dtype=np.float32)}

    def dequantise(self, stored: Stored, formations: int) -> Maps:  # noqa: ARG002
        """The same vectors as maps of one column."""
        return in_numbers(stored["levels"], stored["step"])[:, :, None]

    def make_set(self, stored: Stored, formations: int, **content: Unpack[Content]) -> VectorSet:  # noqa: ARG002
        """The distilled set of items that :meth:`quantise` stored."""
        return VectorSet(**stored, **content, scale=self._fitted)

    def read_set(self, data: bytes) -> VectorSet:
        """The distilled set in a file."""
        return VectorSet.from_bytes(data)

    def describe(self) -> dict[str, Any]:
        """The length of a vector, and what tells this file from others."""
        return {"vectors": {"size": len(self._fitted.mean), "sha256": self.fingerprint}}

    @property
    def _fitted(self) -> Scale:
        if self.scale is None:
            raise ValueError("vectors are stored by the scale of a training part, and none was read")
        return self.scale


def _fitting_scale(vectors: VectorFile, train: NDArray[np.int64]) -> Scale:
    """The scale of the training rows.

    Raises:
        UnreadableLabels: They are all the same, or a vector is too far from them.
    """
    scale = scale_of(vectors.x[train])
    if scale.constant.all():
        raise UnreadableLabels(vectors.path, "features of the training part do not differ, or by less than 1e-6")
    far = np.flatnonzero(~np.isfinite(scale.standardised(vectors.x)).all(1))
    if len(far):
        what = "no single precision holds them in standard deviations of the training part"
        raise UnreadableLabels(vectors.path, f"{len(far)} of the features are too large, first in row {far[0]}: {what}")
    return scale
