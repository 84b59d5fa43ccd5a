"""Pretrained speech encoders on the board: samples to one vector for each window of about three seconds.

    encoder = Encoder.open(card, data, threads=1)
    vectors = encoder(samples)                      # float32 (windows, size)

An encoder is data: an ONNX file and a card. The front-end here is that of Whisper (Radford et al. 2022, arXiv
2212.04356), made fit for streams: the powers of its frames (25 ms every 10 ms) do not depend on what comes later, while
loudness and the floor, which do, are applied to each window. The reader has removed the mean of the sound before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeser_device.errors import EncoderError, FrontendError
from edgeser_device.frontend import FrontendSpec, FrontendStream
from edgeser_device.kit.manifest import Check, whole
from edgeser_export.runtimes import open_onnx
from edgeser_export.utilities.errors import MissingRuntime
from edgeser_export.utilities.outside import cache_folder, is_text

FRONTEND = FrontendSpec(n_fft=400, hop=160, mels=80, fmin=0.0, fmax=8000.0, floor=1e-20, frames=300, window_hop=50)
"""Whisper's frames: 25 ms every 10 ms at 16 kHz, 80 mel bands; windows of 3 s every 0.5 s."""
EDGE = FRONTEND.n_fft // 2
"""Zeros before and after the sound, so that frame k is centred at sample k x hop."""
LEAST_POWER = 1e-10
"""Mel power, after loudness was removed, that counts as the least."""
DECADES = 8.0
"""Levels this many decades below a window's loudest count as that."""
FRAMES_PER_TOKEN = 2
MOST_BYTES = 64 << 20
"""The largest file of an encoder, in bytes."""


_CHECKS: Mapping[str, tuple[Check, str]] = {
    **dict.fromkeys(("name", "title", "source", "licence", "sha256"), (is_text, "plain text")),
    "input": (lambda value: value in ("mel", "pcm"), "mel or pcm"),
    "frames": (whole(2, 3000), "a whole number from 2 to 3000"),
    "size": (whole(1, 65_536), "a whole number from 1 to 65536"),
    "multiply_accumulates": (whole(0, 1 << 62), "a whole number"),
}


@dataclass(frozen=True)
class EncoderCard:
    """The description of an encoder's file, stored as TOML beside it and as JSON in kits.

    Attributes:
        name: Name that users write.
        title: The encoder in a few words.
        source: Package, version and file, or the file that it was added from.
        licence: Licences of code and weights.
        sha256: Hash of the ONNX file, hexadecimal.
        input: The kind of input: "mel" (with the number of tokens), or "pcm" (a window of samples).
        frames: Frames of 10 ms in one window.
        size: Numbers in one vector.
        multiply_accumulates: Operations for one window; 0 where it is not known.

    Raises:
        EncoderError: A value is missing, superfluous or impossible.
    """

    name: str
    title: str
    source: str
    licence: str
    sha256: str
    input: str
    frames: int
    size: int
    multiply_accumulates: int = 0

    def __post_init__(self) -> None:
        for name, (check, wanted) in _CHECKS.items():
            if not check(getattr(self, name)):
                raise EncoderError(f"the encoder's card has the {name} {getattr(self, name)!r}", f"give {wanted}")

    @property
    def frontend(self) -> FrontendSpec:
        """The rules by which a stream is cut into frames and windows for it."""
        return replace(FRONTEND, frames=self.frames)

    def to_json(self) -> dict[str, Any]:
        """The card as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> EncoderCard:
        """The inverse of :meth:`to_json`.

        Raises:
            EncoderError: Missing, superfluous or impossible values.
        """
        names, found = {field.name for field in fields(cls)}, set(value if isinstance(value, Mapping) else ())
        if found - names or names - found - {"multiply_accumulates"}:
            raise EncoderError("the encoder's card has other fields than it should", f"it needs {', '.join(_CHECKS)}")
        return cls(**value)


def encoders_folder() -> Path:
    """The folder of the encoders of this machine, those of boards by hash and those of hosts by name.

    Raises:
        EncoderError: This user has no folder for them.
    """
    place = cache_folder()
    if place is None:
        raise EncoderError("this user has no folder in which encoders could be kept", "set EDGESER_CACHE to one")
    return place / "encoders"


class Encoder:
    """A loaded encoder. Not for two threads at once."""

    def __init__(self, card: EncoderCard, session: Any) -> None:
        """Join a card and an onnxruntime session of its file."""
        self.card = card
        self._session = session

    @classmethod
    def open(cls, card: EncoderCard, data: bytes, threads: int = 1) -> Encoder:
        """Load an encoder's file.

        Args:
            card: Its card.
            data: The ONNX file. Its reader has compared it with the card's hash.
            threads: Threads of one call.

        Raises:
            EncoderError: The runtime refuses the file.
            MissingRuntime: onnxruntime is not installed.
        """
        try:
            return cls(card, open_onnx(data, threads))
        except MissingRuntime:
            raise
        except Exception as error:  # the runtime's errors have no common class below Exception
            reason = str(error).strip().splitlines()[0]
            raise EncoderError(f"onnxruntime refuses the encoder {card.name}: {reason}", "fetch it again") from error

    def __call__(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors of a clip.

        Args:
            samples: Shape (n,), float32, full scale 1.0, 16 kHz, silence trimmed.

        Returns:
            Float32 (windows, size): one window of the clip's own length where it is shorter than a window.

        Raises:
            FrontendError: The clip is shorter than a token (20 ms).
        """
        return np.concatenate([self.window(*each) for each in self.windows(samples)])

    def window(self, frames: NDArray[np.float32], real: int) -> NDArray[np.float32]:
        """The vector of one window, (1, size); arguments as :meth:`windows` gives them."""
        first, *others = (each.name for each in self._session.get_inputs())
        feeds = {first: frames[None], **{name: np.array([real // FRAMES_PER_TOKEN], dtype=np.int64) for name in others}}
        found: NDArray[np.float32] = self._session.run(None, feeds)[0]
        return found.reshape(1, -1)

    def windows(self, samples: NDArray[np.float32]) -> list[tuple[NDArray[np.float32], int]]:
        """The windows of a clip as the file takes them, with the number of real frames in each."""
        if self.card.input == "pcm":
            return pcm_windows(samples, self.card.frames)
        return mel_windows(*powers(samples), self.card.frames)


def powers(samples: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Mel levels and energies of the frames of a clip: what does not depend on the window.

    Returns:
        log10 of the mel powers, float32 (80, frames); energy of each hop's samples, float64 (frames,).
    """
    count = len(samples) // FRONTEND.hop
    edge = np.zeros(EDGE, dtype=np.float32)
    levels = FrontendStream(FRONTEND).push(np.concatenate([edge, samples, edge]))[:, :count] / np.float32(10)
    return levels, hop_energies(samples)


def hop_energies(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """The energy of each whole hop of samples, float64 (frames,)."""
    count = len(samples) // FRONTEND.hop
    hops = samples[: count * FRONTEND.hop].reshape(count, FRONTEND.hop).astype(np.float64)
    return np.asarray(np.einsum("ij,ij->i", hops, hops))


def mel_windows(
    levels: NDArray[np.float32], energies: NDArray[np.float64], frames: int
) -> list[tuple[NDArray[np.float32], int]]:
    """Cut a clip's frames into windows, each with its own loudness and floor.

    Args:
        levels: Log10 of mel powers, float32 (80, n).
        energies: Energy of each hop, float64 (n,).
        frames: Frames of a window.

    Returns:
        Float32 (80, frames), zero behind the real frames, and the number of these, which is even.

    Raises:
        FrontendError: There are fewer frames than a token has.
    """
    count = min(levels.shape[1], frames) // FRAMES_PER_TOKEN * FRAMES_PER_TOKEN
    if count < 2 * FRAMES_PER_TOKEN:  # a standard deviation takes two tokens
        raise FrontendError("a clip is shorter than two tokens (40 ms)", "leave it out, or record a longer one")
    found = []
    for start in range(0, levels.shape[1] - count + 1, FRONTEND.window_hop):
        own = slice(start, start + count)
        loudness = energies[own].sum() / (count * FRONTEND.hop) + 1e-7
        level = np.maximum(levels[:, own] - np.float32(np.log10(loudness)), np.float32(np.log10(LEAST_POWER)))
        level = (np.maximum(level, level.max() - np.float32(DECADES)) + 4) / 4
        found.append((np.pad(level, ((0, 0), (0, frames - count))).astype(np.float32), count))
    return found


def pcm_windows(samples: NDArray[np.float32], frames: int) -> list[tuple[NDArray[np.float32], int]]:
    """Windows of samples, float32 (frames x 160,); a shorter clip is repeated to fill one."""
    length, hop = frames * FRONTEND.hop, FRONTEND.window_hop * FRONTEND.hop
    if len(samples) == 0:
        raise FrontendError("a clip has no samples", "leave it out, or record it again")
    if len(samples) < length:
        return [(samples[np.arange(length) % len(samples)], frames)]
    return [(samples[start : start + length], frames) for start in range(0, len(samples) - length + 1, hop)]
