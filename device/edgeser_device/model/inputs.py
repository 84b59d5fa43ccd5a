"""The input of a model: levels of log-mels in dB, or standardised vectors of an encoder.

    reads = input_of(model)
    windows, _ = reads.clip(samples)                # float32 (windows, channels, rows, columns)

A recogniser asks its input for every window, so that files, clips and streams take the same way for both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edgeser_device.data.audio import trim_silence
from edgeser_device.data.vector_set import Scale, in_numbers, in_steps
from edgeser_device.encoder import (
    EDGE,
    FRAMES_PER_TOKEN,
    FRONTEND,
    MOST_BYTES,
    Encoder,
    EncoderCard,
    encoders_folder,
    hop_energies,
    mel_windows,
    pcm_windows,
)
from edgeser_device.errors import EncoderError
from edgeser_device.frontend import FrontendSpec, clip_log_mel, normalise, windows, wrap
from edgeser_device.kit.kit import Kit
from edgeser_device.model.model import Model
from edgeser_export.utilities.files import sha256, write_bytes
from edgeser_export.utilities.progress import note

Floats = NDArray[np.float32]
T = TypeVar("T")
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
    def items(self, samples: Floats, most: int) -> Floats:
        """The windows of a recording as a distilled set holds its items, float32 (windows, rows, columns).

        Args:
            samples: Float32 (n,), full scale 1.0.
            most: Windows at most; of a longer recording, as many spread over its length.
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

    def items(self, samples: Floats, most: int) -> Floats:
        """Normalised log-mels."""
        cut = windows(clip_log_mel(samples, self.frontend), self.frontend)
        return normalise(np.stack(_spread(list(cut), most)), self.frontend)

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
        return self._standardised(self._encoder(self._audible(samples))), None

    def items(self, samples: Floats, most: int) -> Floats:
        """Vectors in whole steps of 8 bits, as they are kept; only the windows that are asked for are heard."""
        chosen = _spread(self._encoder.windows(self._audible(samples)), most)
        vectors = np.concatenate([self._encoder.window(*each) for each in chosen])
        return in_numbers(*in_steps(self._standardised(vectors)[:, :, 0, 0]))[:, :, None]

    def window(self, frames: Floats, samples: Floats, gain_db: float = 0.0) -> Floats:  # noqa: ARG002
        """The vector of one window."""
        count = self._encoder.card.frames
        if self._encoder.card.input == "pcm":
            found = pcm_windows(samples, count)
        else:
            found = mel_windows(frames / np.float32(10), hop_energies(samples), count)
        return self.of_window(*found[0])

    def of_window(self, frames: Floats, real: int) -> Floats:
        """The standardised vector of a window as :meth:`Encoder.window` takes it, float32 (1, *shape)."""
        return self._standardised(self._encoder.window(frames, real))

    def _audible(self, samples: Floats) -> Floats:
        part = trim_silence(samples, self.frontend.trim_db)
        return np.pad(part, (0, max(0, SHORTEST - len(part))))

    def _standardised(self, vectors: Floats) -> Floats:
        return (self._scale.standardised(vectors) - self.shift)[:, :, None, None]


def input_of(model: Model | Kit, threads: int = 1) -> ModelInput:
    """The input of a model, or of those that a kit trains.

    Raises:
        EncoderError: Its encoder is not on this machine, or the runtime refuses it.
        MissingRuntime: It has an encoder, and onnxruntime is not installed.
    """
    if model.encoder is None:
        return LogMelInput(model.frontend)
    return EncoderInput(open_encoder_file(model.encoder, threads), scale_of_model(model))


def scale_of_model(model: Model | Kit) -> Scale:
    """The scale by which a model of an encoder, or its kit, standardises vectors."""
    vectors = model.distilled.vectors
    if vectors is None:
        raise TypeError("a model of an encoder is trained on vectors")
    return vectors.scale


def encoder_path(card: EncoderCard) -> Path:
    """The path of the one copy of an encoder on this machine.

    Raises:
        EncoderError: This user has no folder for it.
    """
    return encoders_folder() / card.sha256 / "encoder.onnx"


def find_encoder(card: EncoderCard, beside: Path | None = None) -> bytes | None:
    """The file of an encoder on this machine: the board's copy, or the one that was fetched or added; None without.

    Args:
        card: The encoder's.
        beside: A file of whose folder ``encoder.onnx`` is taken, too.

    Raises:
        EncoderError: This user has no folder for it.
    """
    own = encoder_path(card)
    places = (own, own.parent.parent / card.name / own.name, *([] if beside is None else [beside.with_name(own.name)]))
    for path in places:
        if path.is_file() and path.stat().st_size <= MOST_BYTES:
            data = path.read_bytes()
            if sha256(data).hexdigest() == card.sha256:
                return data
    return None


def install_encoder(kit: Kit) -> None:
    """Keep a kit's encoder on this machine, unless it is there: the kit's own, or ``encoder.onnx`` beside the kit.

    A kit that brings none, and has none beside it, tells where it belongs.

    Raises:
        EncoderError: This user has no folder for it.
        KitDamaged: The kit's encoder is not the one that its card names.
        StorageError: The folder cannot be written.
    """
    if kit.encoder is None or find_encoder(kit.encoder) is not None:
        return
    path, data = encoder_path(kit.encoder), kit.read_encoder() or find_encoder(kit.encoder, beside=kit.path)
    if data is None:
        note(
            f"the encoder {kit.encoder.name} is not on this machine: copy its encoder.onnx to {path}, or beside the kit"
        )
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, data)


def open_encoder_file(card: EncoderCard, threads: int = 1) -> Encoder:
    """The encoder of a card, loaded; errors as :func:`input_of`."""
    return Encoder.open(card, read_encoder_file(card), threads)


def read_encoder_file(card: EncoderCard) -> bytes:
    """The file of an encoder on this machine.

    Raises:
        EncoderError: It is not here.
    """
    data = find_encoder(card)
    if data is None:
        own = encoder_path(card)
        what = "is not the file of that sha256" if own.exists() else "is not there"
        raise EncoderError(
            f"the model hears with the encoder {card.name} ({card.sha256[:12]}), and {own} {what}",
            "train from a kit that holds the encoder, or copy its encoder.onnx to that place",
        )
    return data


def _spread(found: list[T], most: int) -> list[T]:
    if len(found) <= most:
        return found
    return [found[place] for place in np.linspace(0, len(found) - 1, most).round().astype(np.intp)]


def _raised(levels: Floats, gain_db: float) -> Floats:
    return levels + np.float32(gain_db) if gain_db else levels
