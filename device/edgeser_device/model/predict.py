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

from edgeser_device.data.audio import read_audio, read_audio_bytes
from edgeser_device.data.recordings import ENDINGS, OTHER_ENDINGS, find_audio
from edgeser_device.errors import AudioError, ModelError
from edgeser_device.frontend import FrontendSpec
from edgeser_device.model.inputs import ModelInput, input_of
from edgeser_device.model.model import Model
from edgeser_export.runtimes import RUNTIMES, choose_runtime, find_runtime, load
from edgeser_export.runtimes import Model as LoadedModel
from edgeser_export.writers.formats import FORMATS


class Recogniser:
    """A loaded model with its labels and what it reads. Not for two threads at once."""

    def __init__(self, labels: tuple[str, ...], reads: ModelInput, loaded: LoadedModel) -> None:
        """Join what was loaded."""
        self.labels = labels
        self.reads = reads
        self._loaded = loaded

    @property
    def frontend(self) -> FrontendSpec:
        """The rules by which sound is cut into frames and windows."""
        return self.reads.frontend

    @classmethod
    def open(
        cls, model: Model, format_name: str | None = None, runtime: str | None = None, threads: int = 1
    ) -> Recogniser:
        """Load one of the model's files.

        Args:
            model: The model folder.
            format_name: A row of the table of formats; by default what :func:`choose_format` says.
            runtime: A row of the table of runtimes; by default the first installed one.
            threads: Threads of one call.

        Raises:
            ModelError: The model has no such file, or another number of classes.
            MissingRuntime: No runtime here runs it.
            EncoderError: Its encoder is not on this machine.
        """
        name = format_name or choose_format(model, runtime)
        loaded = load(model.file(name), threads, runtime)
        if loaded.classes != len(model.labels):
            raise ModelError(
                f"{model.folder} has {loaded.classes} outputs for {len(model.labels)} labels", "train it again"
            )
        return cls(model.labels, input_of(model, threads), loaded)

    @property
    def runtime(self) -> str:
        """The row of the table of runtimes that runs it."""
        return self._loaded.runtime

    def __call__(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities of windows.

        Args:
            windows: Float32 (windows, *reads.shape); of log-mels also (windows, mels, frames), dB, not normalised.

        Returns:
            Float32 (windows, classes).
        """
        return self._loaded(np.ascontiguousarray(windows.reshape(-1, *self.reads.shape)))


def choose_format(model: Model, runtime: str | None = None) -> str:
    """The model's format for ``runtime``, or the one whose installed runtime takes least memory.

    LiteRT's process is 15 MB smaller than onnxruntime's, and no slower; an encoder needs onnxruntime anyway. float32
    comes before int8.

    Raises:
        ModelError: The model has no file at all.
        MissingRuntime: No runtime here runs one of its files.
        ExportError: There is no such runtime.
    """
    if not model.formats:
        raise ModelError(f"{model.folder} holds no file for a runtime", "train it again")
    if runtime is not None:
        kind = find_runtime(runtime).kind
        choose_runtime(kind, runtime)
        fitting = [name for name in model.formats if FORMATS[name].kind == kind]
        if not fitting:
            raise ModelError(f"{model.folder} holds no file for {runtime}", f"it has: {', '.join(model.formats)}")
        return fitting[0]
    kinds = {row.kind for row in RUNTIMES.values() if row.installed}
    usable = [name for name in model.formats if FORMATS[name].kind in kinds]
    if not usable:
        choose_runtime(FORMATS[model.formats[0]].kind)
    first = "tflite" if model.encoder is None else "onnx"
    return min(usable, key=lambda name: (FORMATS[name].precision == "int8", FORMATS[name].kind != first))


@dataclass(frozen=True)
class Prediction:
    """The model's answer for one recording.

    Attributes:
        file: The recording; None where it was no file.
        emotion: The most probable one.
        probabilities: Probability of each emotion, averaged over the windows.
        windows: The number of windows that were averaged.
        seconds: Length of the recording.
    """

    file: Path | None
    emotion: str
    probabilities: Mapping[str, float]
    windows: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        file = None if self.file is None else str(self.file)
        return {**vars(self), "file": file, "probabilities": dict(self.probabilities)}


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
    each = recogniser(recogniser.reads.clip(samples)[0])
    return each.mean(axis=0, dtype=np.float64), len(each)


def predict_file(recogniser: Recogniser, path: Path) -> Prediction:
    """The emotion of one recording.

    Raises:
        AudioError: It cannot be read.
    """
    return predict_samples(recogniser, read_audio(path, recogniser.frontend.rate), path)


def predict_samples(recogniser: Recogniser, samples: NDArray[np.float32], file: Path | None = None) -> Prediction:
    """The emotion of samples of the model's rate, float32 (n,), full scale 1.0, read from ``file`` or from none."""
    mean, count = clip_probabilities(recogniser, samples)
    named = dict(zip(recogniser.labels, (round(float(value), 6) for value in mean), strict=True))
    seconds = round(len(samples) / recogniser.frontend.rate, 3)
    return Prediction(file, recogniser.labels[int(mean.argmax())], named, count, seconds)


def predict_bytes(recogniser: Recogniser, data: bytes, file: Path | None = None) -> Prediction:
    """The emotion of the content of a recording's file; errors as :func:`predict_file`."""
    return predict_samples(recogniser, read_audio_bytes(data, recogniser.frontend.rate), file)


def predict_files(recogniser: Recogniser, paths: Iterable[Path]) -> Iterator[Prediction | Skipped]:
    """Predictions one by one; a recording that cannot be read becomes a ``Skipped``."""
    for path in paths:
        try:
            yield predict_file(recogniser, path)
        except AudioError as error:
            yield Skipped(path, error.message)
