"""The user's own level: the mean of an encoder's vectors over their own utterances, without labels.

    own = Adaptation(numbers=1536, classes=4)
    own.learn(vectors, answer)          # after each utterance, as it was heard without adaptation
    windows - own.shift                 # the vectors of the next one

The mean is shrunk towards the corpus's, which is zero in standard deviations; it is used after a few utterances, may
shift a vector by no more than a bound, and forgets slowly. Where the utterances are answered with one emotion far more
often than with others, their mean says more about that emotion than about the voice, and nothing is shifted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeser_device.errors import ModelError
from edgeser_device.model.inputs import EncoderInput
from edgeser_device.model.model import ADAPTED, Model
from edgeser_device.model.predict import Recogniser
from edgeser_export.utilities.files import write_json

FEWEST = 4
"""Utterances after which the mean is used."""
MEMORY = 50
"""Utterances after which older ones begin to fade."""
SHRINKAGE = 5
"""Utterances that the corpus's mean counts for."""
BOUND = 0.4
"""The largest shift, root mean square over the numbers of a vector, in standard deviations of the training clips."""
STORED_EVERY = 10
"""Utterances after which the level is stored again: memory cards wear out."""
ONE_SIDED = 0.15
"""How far the mean probability of one emotion may lie above an equal share before the speech is one-sided."""


@dataclass
class Adaptation:
    """The level of one user, learnt from utterances without labels.

    Attributes:
        numbers: Numbers of a vector.
        classes: Number of emotions.
        count: Utterances that were learnt, at most ``MEMORY``.
        mean: Mean vector, float64 (numbers,), in standard deviations of the training clips.
        answers: Mean of the probabilities that were answered, float64 (classes,).
    """

    numbers: int
    classes: int
    count: int = 0
    mean: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    answers: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        if not self.count:
            self.mean, self.answers = np.zeros(self.numbers), np.zeros(self.classes)

    def learn(self, vectors: NDArray[np.float32], answer: NDArray[np.float64]) -> None:
        """Take an utterance.

        Args:
            vectors: Standardised and not shifted, float32 (windows, numbers).
            answer: The probabilities of the emotions without adaptation, (classes,).
        """
        self.count = min(self.count + 1, MEMORY)
        self.mean = self.mean + (vectors.mean(0, dtype=np.float64) - self.mean) / self.count
        self.answers = self.answers + (answer - self.answers) / self.count

    @property
    def one_sided(self) -> bool:
        """Whether one emotion was answered far more often than the others."""
        return bool(self.answers.max() > 1 / self.classes + ONE_SIDED)

    @property
    def active(self) -> bool:
        """Whether vectors are shifted."""
        return self.count >= FEWEST and not self.one_sided

    @property
    def shift(self) -> NDArray[np.float32]:
        """The vector to subtract, float32 (numbers,); zeros where nothing is shifted."""
        if not self.active:
            return np.zeros(self.numbers, dtype=np.float32)
        found = self.mean * (self.count / (self.count + SHRINKAGE))
        return np.asarray(found * min(1.0, BOUND / max(float(np.sqrt((found**2).mean())), 1e-12)), dtype=np.float32)

    @property
    def words(self) -> str:
        """The state in a line for people."""
        if self.count < FEWEST:
            return f"not adapted yet: {self.count} of {FEWEST} utterances heard"
        if self.one_sided:
            return f"not adapted: one emotion is {self.answers.max():.0%} of what was heard"
        return f"adapted to the last {self.count} utterances"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        rounded = {name: getattr(self, name).round(6).tolist() for name in ("mean", "answers")}
        return {"schema": 1, "count": self.count, **rounded}


class OwnVoice:
    """Adapts what a recogniser reads to the user, utterance by utterance, and stores it with the model now and then."""

    def __init__(self, model: Model, recogniser: Recogniser, level: Adaptation) -> None:
        """Go on from a level.

        Args:
            model: The folder in which it is stored.
            recogniser: The same model, loaded.
            level: The level so far.
        """
        if not isinstance(recogniser.reads, EncoderInput):
            raise TypeError("only vectors of an encoder are adapted")
        self._model, self._recogniser, self._reads, self._level = model, recogniser, recogniser.reads, level
        self._reads.shift = level.shift
        self._unstored = 0

    @classmethod
    def open(cls, model: Model, recogniser: Recogniser, anew: bool) -> OwnVoice:
        """Go on from what is stored with the model, or remove that and begin ``anew``.

        Raises:
            ModelError: As :func:`read_adaptation`.
        """
        if anew:
            (model.folder / ADAPTED).unlink(missing_ok=True)
        return cls(model, recogniser, read_adaptation(model))

    def __call__(self, windows: NDArray[np.float32]) -> None:
        """Learn an utterance from what was read of it, float32 (windows, numbers, 1, 1)."""
        plain = windows[:, :, 0, 0] + self._reads.shift
        self._level.learn(plain, self._recogniser(plain).mean(0, dtype=np.float64))
        self._reads.shift = self._level.shift
        self._unstored += 1
        if self._unstored >= STORED_EVERY:
            self.store()

    def store(self) -> None:
        """Store what was learnt since the last time.

        Raises:
            StorageError: The folder cannot be written.
        """
        if self._unstored:
            write_json(self._model.folder / ADAPTED, self._level.to_json())
            self._unstored = 0

    @property
    def utterances(self) -> int:
        """The number of utterances that the model is adapted to."""
        return self._level.count if self._level.active else 0

    @property
    def words(self) -> str:
        """The state in a line for people."""
        return self._level.words


def read_adaptation(model: Model) -> Adaptation:
    """The level that is stored with a model; a new one where none is.

    Raises:
        ModelError: The model hears no vectors, or the file is damaged.
    """
    if model.encoder is None:
        raise ModelError(
            f"{model.folder} reads log-mels, and only vectors of an encoder are adapted",
            "leave out --adapt; the level of the microphone is learnt without it",
        )
    path, size, classes = model.folder / ADAPTED, model.encoder.size, len(model.labels)
    if not path.is_file():
        return Adaptation(size, classes)
    try:
        stored = json.loads(path.read_bytes())
        mean, answers = (np.array(stored[name], dtype=np.float64) for name in ("mean", "answers"))
        count = stored["count"]
        fits = mean.shape == (size,) and answers.shape == (classes,) and type(count) is int and 1 <= count <= MEMORY
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path) from error
    if not fits or not np.isfinite(mean).all() or not np.isfinite(answers).all():
        raise _damaged(path)
    return Adaptation(size, classes, count, mean, answers)


def _damaged(path: Path) -> ModelError:
    return ModelError(f"{path} is damaged", "begin anew: edgeser listen MODEL --adapt reset")
