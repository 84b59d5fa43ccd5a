"""The input of a model: levels of log-mels in dB, or standardised vectors of an encoder.

    reads = input_of(model)
    windows, _ = reads.clip(samples)                # float32 (windows, channels, rows, columns)

A recogniser asks its input for every window, so that files, clips and streams take the same way for both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeser_device.data.audio import trim_silence
from edgeser_device.data.vector_set import Scale, VectorSet
from edgeser_device.encoder import (
    EDGE,
    FRAMES_PER_TOKEN,
    FRONTEND,
    Encoder,
    EncoderCard,
    encoders_folder,
    hop_energies,
    mel_windows,
    pcm_windows,
)
from edgeser_device.errors import EncoderError
from edgeser_device.frontend import FrontendSpec, clip_log_mel, windows, wrap
from edgeser_device.kit.kit import Kit
from edgeser_device.model.model import Model
from edgeser_export.utilities.files import sha256, write_bytes
from edgeser_export.utilities.progress import note

Floats = NDArray[np.float32]
SHORTEST = 2 * FRAMES_PER_TOKEN * FRONTEND.hop
"""Samples of two tokens: a standard deviation over time takes as many."""


class ModelInput(ABC):
    """Turns samples into what a model's files read.

    Attributes:
        frontend: The rules of frames: their computation, their number in a window, and the distance of windows.
        shape: Shape of one window as the files read it.
        lead: Zeros that a stream hears before the first sample.
    """

    frontend: FrontendSpec
    shape: tuple[int, int, int]
    lead: int = 0

    @abstractmethod
    def clip(self, samples: Floats, gain_db: float = 0.0) -> tuple[Floats, Floats | None]:
        """All windows of a recording, silent edges trimmed, float32 (windows, *shape).

        Args:
            samples: Float32 (n,), full scale 1.0.
            gain_db: A correction of the level.

        Returns:
            The windows, and the levels of the frames in dB as they were heard, float32 (mels, frames); None where the
            loudness of a recording does not matter.
        """

    @abstractmethod
    def window(self, frames: Floats, samples: Floats, gain_db: float = 0.0) -> Floats:
        """One window of a stream, float32 (1, *shape).

        Args:
            frames: The front-end's frames, dB, float32 (mels, frames), at most as many as a window has.
            samples: The samples of these frames, float32 (frames x hop,).
            gain_db: A correction of the level.
        """


class LogMelInput(ModelInput):
    """Levels of log-mels in dB; the files normalise them."""

    def __init__(self, frontend: FrontendSpec) -> None:
        """Read by ``frontend``."""
        self.frontend = frontend
        self.shape = (1, frontend.mels, frontend.frames)

    def clip(self, samples: Floats, gain_db: float = 0.0) -> tuple[Floats, Floats | None]:
        """All windows of a recording, and its levels."""
        levels = clip_log_mel(samples, self.frontend)
        return _raised(windows(levels, self.frontend)[:, None], gain_db), levels

    def window(self, frames: Floats, samples: Floats, gain_db: float = 0.0) -> Floats:  # noqa: ARG002
        """The frames themselves, repeated where they do not fill a window."""
        return _raised(wrap(frames, self.frontend.frames)[None, None], gain_db)


class EncoderInput(ModelInput):
    """Vectors of an encoder in standard deviations of the training clips. The encoder removes loudness by itself.

    Attributes:
        shift: The vector that is subtracted of each, float32 (numbers,): the level of the user's own voice.
    """

    lead = EDGE

    def __init__(self, encoder: Encoder, scale: Scale) -> None:
        """Join an encoder and the scale of a distilled set."""
        self._encoder, self._scale = encoder, scale
        self.frontend = encoder.card.frontend
        self.shape = (encoder.card.size, 1, 1)
        self.shift: Floats = np.zeros(encoder.card.size, dtype=np.float32)

    def clip(self, samples: Floats, gain_db: float = 0.0) -> tuple[Floats, Floats | None]:  # noqa: ARG002
        """The vectors of all windows of a recording; zeros follow one that is shorter than two tokens."""
        part = trim_silence(samples, self.frontend.trim_db)
        missing = max(0, SHORTEST - len(part))
        return self._standardised(self._encoder(np.pad(part, (0, missing)))), None

    def window(self, frames: Floats, samples: Floats, gain_db: float = 0.0) -> Floats:  # noqa: ARG002
        """The vector of one window."""
        count = self._encoder.card.frames
        if self._encoder.card.input == "pcm":
            found = pcm_windows(samples, count)
        else:
            found = mel_windows(frames / np.float32(10), hop_energies(samples), count)
        return self._standardised(self._encoder.window(*found[0]))

    def _standardised(self, vectors: Floats) -> Floats:
        return (self._scale.standardised(vectors) - self.shift)[:, :, None, None]


def input_of(model: Model, threads: int = 1) -> ModelInput:
    """The input of a model.

    Raises:
        EncoderError: Its encoder is not on this machine, or the runtime refuses it.
        MissingRuntime: It has an encoder, and onnxruntime is not installed.
    """
    if model.encoder is None:
        return LogMelInput(model.frontend)
    distilled = model.distilled
    if not isinstance(distilled, VectorSet):
        raise TypeError("a model of an encoder is trained on vectors")
    return EncoderInput(open_encoder_file(model.encoder, threads), distilled.scale)


def encoder_path(card: EncoderCard) -> Path:
    """The path of the one copy of an encoder on this machine.

    Raises:
        EncoderError: This user has no folder for it.
    """
    return encoders_folder() / card.sha256 / "encoder.onnx"


def find_encoder(card: EncoderCard) -> bytes | None:
    """The file of an encoder on this machine: the board's copy, or the one that was fetched or added; None without.

    Raises:
        EncoderError: This user has no folder for it.
    """
    own = encoder_path(card)
    for path in (own, own.parent.parent / card.name / own.name):
        if path.is_file():
            data = path.read_bytes()
            if sha256(data).hexdigest() == card.sha256:
                return data
    return None


def install_encoder(kit: Kit) -> None:
    """Keep a kit's encoder on this machine, unless it is there; a kit without one tells where it belongs.

    Raises:
        EncoderError: This user has no folder for it.
        KitDamaged: The kit's encoder is not the one that its card names.
        StorageError: The folder cannot be written.
    """
    if kit.encoder is None or find_encoder(kit.encoder) is not None:
        return
    path, data = encoder_path(kit.encoder), kit.read_encoder()
    if data is None:
        note(f"the encoder {kit.encoder.name} is not on this machine: copy its encoder.onnx to {path}")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, data)


def open_encoder_file(card: EncoderCard, threads: int = 1) -> Encoder:
    """The encoder of a card, loaded; errors as :func:`input_of`."""
    data = find_encoder(card)
    if data is None:
        own = encoder_path(card)
        what = "is not the file of that sha256" if own.exists() else "is not there"
        raise EncoderError(
            f"the model hears with the encoder {card.name} ({card.sha256[:12]}), and {own} {what}",
            "train from a kit that holds the encoder, or copy its encoder.onnx to that place",
        )
    return Encoder.open(card, data, threads)


def _raised(levels: Floats, gain_db: float) -> Floats:
    return levels + np.float32(gain_db) if gain_db else levels
