"""A trained model in a runtime: log-mel windows in dB in, probabilities of the emotions out.

recogniser = Recogniser.open(load_model(Path("model")), format_name="tflite", threads=2)
probabilities = recogniser(windows(levels, recogniser.frontend))      # (windows, classes)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeser_device.errors import ModelError
from edgeser_device.frontend import FrontendSpec
from edgeser_device.model import Model
from edgeser_export.formats import FORMATS
from edgeser_export.runtimes import RUNTIMES, choose_runtime, load
from edgeser_export.runtimes import Model as LoadedModel


class Recogniser:
    """A loaded model with its labels and front-end. Not for two threads at once."""

    def __init__(self, labels: tuple[str, ...], frontend: FrontendSpec, loaded: LoadedModel) -> None:
        """Join what was loaded."""
        self.labels = labels
        self.frontend = frontend
        self._loaded = loaded

    @classmethod
    def open(
        cls, model: Model, format_name: str | None = None, runtime: str | None = None, threads: int = 1
    ) -> Recogniser:
        """Load one of the model's files.

        Args:
            model: The model folder.
            format_name: A row of the table of formats; by default what :func:`choose_format` says.
            runtime: A row of the table of runtimes; by default the first installed one.
            threads: Of one call.

        Raises:
            ModelError: The model has no such file, or another number of classes.
            MissingRuntime: No runtime here runs it.
        """
        name = format_name or choose_format(model, runtime)
        loaded = load(model.file(name), threads, runtime)
        if loaded.classes != len(model.labels):
            raise ModelError(
                f"{model.folder} has {loaded.classes} outputs for {len(model.labels)} labels", "train it again"
            )
        return cls(model.labels, model.frontend, loaded)

    @property
    def runtime(self) -> str:
        """The row of the table of runtimes that runs it."""
        return self._loaded.runtime

    def __call__(self, levels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities of windows.

        Args:
            levels: Float32 (windows, mels, frames), dB, not normalised.

        Returns:
            Float32 (windows, classes).
        """
        return self._loaded(np.ascontiguousarray(levels[:, None]))


def choose_format(model: Model, runtime: str | None = None) -> str:
    """The model's format for ``runtime``, or the one whose installed runtime takes least memory.

    LiteRT's process is 15 MB smaller than onnxruntime's, and no slower; float32 comes before int8.

    Raises:
        ModelError: The model has no file at all.
        MissingRuntime: No runtime here runs one of its files.
        ExportError: There is no such runtime.
    """
    if not model.formats:
        raise ModelError(f"{model.folder} holds no file for a runtime", "train it again")
    if runtime is not None:
        kind = RUNTIMES[runtime].kind if runtime in RUNTIMES else "onnx"
        choose_runtime(kind, runtime)
        fitting = [name for name in model.formats if FORMATS[name].kind == kind]
        if not fitting:
            raise ModelError(f"{model.folder} holds no file for {runtime}", f"it has: {', '.join(model.formats)}")
        return fitting[0]
    kinds = {row.kind for row in RUNTIMES.values() if row.installed}
    usable = [name for name in model.formats if FORMATS[name].kind in kinds]
    if not usable:
        choose_runtime(FORMATS[model.formats[0]].kind)
    return min(usable, key=lambda name: (FORMATS[name].precision == "int8", FORMATS[name].kind != "tflite"))
