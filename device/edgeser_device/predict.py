"""The emotion of recordings: silence trimmed, windows of three seconds, their probabilities averaged.

for row in predict_files(recogniser, find_recordings(Path("clips"))):
    ...
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeser_device.audio import read_audio
from edgeser_device.errors import AudioError
from edgeser_device.frontend import clip_log_mel, windows
from edgeser_device.recordings import ENDINGS, OTHER_ENDINGS, find_audio
from edgeser_device.runtime import Recogniser


@dataclass(frozen=True)
class Prediction:
    """What the model says of one recording.

    Attributes:
        file: The recording.
        emotion: The most probable one.
        probabilities: Of each emotion, averaged over the windows.
        windows: How many windows were averaged.
        seconds: Length of the recording.
    """

    file: Path
    emotion: str
    probabilities: Mapping[str, float]
    windows: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**vars(self), "file": str(self.file), "probabilities": dict(self.probabilities)}


@dataclass(frozen=True)
class Skipped:
    """A recording that could not be used.

    Attributes:
        file: The recording.
        reason: Why, in one line.
    """

    file: Path
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"file": str(self.file), "reason": self.reason}


def find_recordings(path: Path) -> tuple[Path, ...]:
    """The file itself, or all recordings below a folder, sorted; also those whose ending says that none is read.

    Raises:
        AudioError: Nothing is there.
    """
    if path.is_dir():
        found = find_audio(path, ENDINGS | OTHER_ENDINGS)
        if not found:
            raise AudioError(f"{path} holds no recording", f"known endings: {' '.join(sorted(ENDINGS))}")
        return found
    if not path.exists():
        raise AudioError(f"there is no file {path}", "check the path")
    return (path,)


def clip_probabilities(recogniser: Recogniser, samples: NDArray[np.float32]) -> tuple[NDArray[np.float64], int]:
    """Mean probabilities of a clip, float64 (classes,), and the number of its windows."""
    each = recogniser(windows(clip_log_mel(samples, recogniser.frontend), recogniser.frontend))
    return each.mean(axis=0, dtype=np.float64), len(each)


def predict_file(recogniser: Recogniser, path: Path) -> Prediction:
    """The emotion of one recording.

    Raises:
        AudioError: It cannot be read.
    """
    rate = recogniser.frontend.rate
    samples = read_audio(path, rate)
    mean, count = clip_probabilities(recogniser, samples)
    named = dict(zip(recogniser.labels, (round(float(value), 6) for value in mean), strict=True))
    return Prediction(path, recogniser.labels[int(mean.argmax())], named, count, round(len(samples) / rate, 3))


def predict_files(recogniser: Recogniser, paths: Iterable[Path]) -> Iterator[Prediction | Skipped]:
    """Predictions one by one; a recording that cannot be read becomes a ``Skipped``."""
    for path in paths:
        try:
            yield predict_file(recogniser, path)
        except AudioError as error:
            yield Skipped(path, error.message)
