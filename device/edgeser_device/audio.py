"""Recordings as float32 mono samples: the one reader that host and board share.

samples = read_audio(Path("clip.flac"), rate=16000)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeser_device.errors import AudioError

FRAME_LENGTH = 2048
"""Samples in one frame of the silence detector, as in librosa.effects.trim."""
FRAME_HOP = 512
"""Samples between two frames of the silence detector, as in librosa.effects.trim."""
LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000
"""Sampling rates in Hz between which sound is recorded; another one in a header is damage, and may fill the memory."""
UNREADABLE = (RuntimeError, TypeError, ValueError, ArithmeticError, MemoryError, OSError)
"""What soundfile, soxr and numpy raise for files whose header lies: LibsndfileError is a RuntimeError, a file that is
named ``.raw`` a TypeError, a length that no memory holds a ValueError or MemoryError."""


def read_audio(path: Path, rate: int) -> NDArray[np.float32]:
    """Read a recording of any rate, width and number of channels.

    Args:
        path: A file that libsndfile reads (WAV, FLAC, Ogg, MP3); the extension does not matter.
        rate: The wanted sampling rate in Hz; other rates are resampled with soxr, channels are averaged.

    Returns:
        Samples, shape (n,), float32, full scale 1.0.

    Raises:
        AudioError: The file is missing, unreadable, empty, or holds NaN or infinity.
    """
    import soundfile

    path = Path(path)
    with audio_errors(path):
        if not path.is_file():
            raise AudioError(f"{path} is not a file", "check the path")
        if path.stat().st_size == 0:
            raise AudioError(f"{path} is empty (0 bytes)", "record it again, or remove the file")
        samples, found = soundfile.read(path, dtype="float32", always_2d=True)
        require_rate(path, found)
        if samples.shape[0] == 0:
            raise AudioError(f"{path} holds no samples", "record it again, or remove the file")
        if not np.isfinite(samples).all():
            raise AudioError(f"{path} holds samples that are not finite", "write it again without NaN or infinity")
        mono = samples.mean(axis=1, dtype=np.float32)
        return mono if found == rate else resample(mono, found, rate)


@contextmanager
def audio_errors(path: Path) -> Iterator[None]:
    """Turn whatever a damaged file makes the decoders raise into AudioError: one file must not end a whole run."""
    try:
        yield
    except AudioError:
        raise
    except UNREADABLE as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise AudioError(
            f"{path} cannot be decoded: {reason}", "convert it to WAV or FLAC, or remove the file"
        ) from error


def require_rate(path: Path, rate: int) -> None:
    """Raise AudioError for a sampling rate at which nothing is recorded."""
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise AudioError(
            f"{path} cannot be decoded: its header states {rate} Hz", "convert it to WAV or FLAC, or remove the file"
        )


def resample(samples: NDArray[np.float32], found: int, wanted: int) -> NDArray[np.float32]:
    """Resample ``samples`` of shape (n,) from ``found`` to ``wanted`` Hz with soxr's high quality setting."""
    import soxr

    return np.ascontiguousarray(soxr.resample(samples, found, wanted, quality="HQ"), dtype=np.float32)


def trim_silence(samples: NDArray[np.float32], below_peak_db: float) -> NDArray[np.float32]:
    """Cut the edges that lie more than ``below_peak_db`` dB under the loudest frame.

    The rule is librosa.effects.trim's: root mean square over centred frames of 2048 samples, zero padded, every 512.

    Args:
        samples: Shape (n,), float32.
        below_peak_db: A positive number of dB.

    Returns:
        A view of ``samples``; all of it when no frame has any energy.
    """
    padded = np.pad(samples.astype(np.float64), FRAME_LENGTH // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME_LENGTH)[::FRAME_HOP]
    power = np.einsum("ij,ij->i", frames, frames) / FRAME_LENGTH
    peak = power.max()
    if peak <= 0:
        return samples
    loud = np.flatnonzero(np.maximum(power, 1e-10) > max(peak, 1e-10) * 10 ** (-below_peak_db / 10))
    if loud.size == 0:
        return samples
    return samples[loud[0] * FRAME_HOP : min(len(samples), (loud[-1] + 1) * FRAME_HOP)]
