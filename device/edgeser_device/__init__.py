"""The programs of the board: the front-end, the reader of kits, training, inference, benchmark and the listening loop.

    from edgeser_device import open_model

    model = open_model("model")
    model.predict("clip.wav").emotion

It needs numpy and one runtime (ONNX Runtime or LiteRT), never torch or librosa. Importing the package loads nothing of
them; ``open_model`` loads what a model needs. It and the types of its answers are the public face of the package:
docs/howto/integrate.md says what stays as it is. Everything else may change with any version.
"""

from __future__ import annotations

from importlib import import_module
from os import PathLike
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeser_device.listen.events import Event
    from edgeser_device.listen.live import ListenSettings
    from edgeser_device.listen.speech import SpeechSettings
    from edgeser_device.model.predict import Prediction
    from edgeser_device.opened import OpenModel
    from edgeser_export.utilities.errors import EdgeserError

__all__ = ["EdgeserError", "Event", "ListenSettings", "OpenModel", "Prediction", "SpeechSettings", "open_model"]

_PLACES = {
    "EdgeserError": "edgeser_export.utilities.errors",
    "Event": "edgeser_device.listen.events",
    "ListenSettings": "edgeser_device.listen.live",
    "OpenModel": "edgeser_device.opened",
    "Prediction": "edgeser_device.model.predict",
    "SpeechSettings": "edgeser_device.listen.speech",
}


def open_model(folder: str | PathLike[str], threads: int = 1) -> OpenModel:
    """Open a model that ``edgeser train-on-device`` wrote.

    Args:
        folder: Its folder.
        threads: Threads of one inference.

    Raises:
        ModelError: The folder is missing, incomplete, damaged or of another version.
        MissingRuntime: No runtime here runs one of its files.
        EncoderError: The model hears with an encoder that is not on this machine.
    """
    from pathlib import Path

    from edgeser_device.opened import OpenModel

    return OpenModel.open(Path(folder), threads)


def __getattr__(name: str) -> Any:
    """The types of answers and settings, and the error that all others are; nothing is imported before."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
