"""The front-end: samples to log-mel spectrogram, the only mel code of the project, streaming by construction.

    spec = FrontendSpec()
    frames = log_mel(samples, spec)                 # a whole clip, shape (mels, frames), dB

    stream = FrontendStream(spec)                   # the same frames from pieces of any length
    for piece in pieces:
        frames = stream.push(piece)

A whole clip is pushed through the same stream, so cutting the audio anywhere cannot change a frame. The oracle in
the tests is librosa: melspectrogram(center=False) and power_to_db(ref=1, amin=floor, top_db=None).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from math import ulp
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeser_device.data.audio import trim_silence
from edgeser_device.errors import FrontendError
from edgeser_device.kit.manifest import Check, number, whole

_WHOLE = {"rate": 1 << 20, "n_fft": 1 << 16, "hop": 1 << 16, "mels": 1024, "frames": 4096, "window_hop": 4096}
_LARGEST = 1e300
"""Largest size of a number in a specification: infinities, NaN and whole numbers beyond floats are refused."""
_CHECKS: Mapping[str, tuple[Check, str]] = {
    **{name: (whole(1, most), f"a whole number from 1 to {most}") for name, most in _WHOLE.items()},
    **dict.fromkeys(("fmin", "fmax", "mean"), (number(-_LARGEST, _LARGEST), "a number")),
    **dict.fromkeys(("floor", "std", "trim_db"), (number(ulp(0.0), _LARGEST), "a number above 0")),
}


@dataclass(frozen=True)
class FrontendSpec:
    """Everything that turns audio into what a student reads; stored in every run, kit and model.

    Attributes:
        rate: Sampling rate in Hz.
        n_fft: Samples in one frame, also the length of the Hann window and of the Fourier transform.
        hop: Samples from one frame to the next, at most ``n_fft``.
        mels: Mel bands (Slaney's scale and area normalisation).
        fmin: Lower edge of the lowest band in Hz.
        fmax: Upper edge of the highest band in Hz, at most half the rate.
        floor: Power below which everything counts as this power; the level is 10 log10(max(power, floor)) dB.
        frames: Frames in one window that a student reads.
        window_hop: Frames from one window to the next; 16 frames of 512 samples are half a second at 16 kHz.
        trim_db: Edges this far under the loudest part of a clip are cut, in dB.
        mean: Mean level of the corpus in dB, subtracted from every window.
        std: Standard deviation of the corpus in dB, above 0; every window is divided by it.

    Raises:
        FrontendError: The numbers do not fit together.
    """

    rate: int = 16000
    n_fft: int = 1024
    hop: int = 512
    mels: int = 64
    fmin: float = 50.0
    fmax: float = 8000.0
    floor: float = 1e-10
    frames: int = 96
    window_hop: int = 16
    trim_db: float = 40.0
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        for name, (check, wanted) in _CHECKS.items():
            if not check(getattr(self, name)):
                raise FrontendError(f"the front-end's {name} is {getattr(self, name)!r}", f"give {wanted}")
        if self.hop > self.n_fft or self.n_fft % 2:
            raise FrontendError(
                f"frames of {self.n_fft} samples with a hop of {self.hop}", "use an even n_fft, not below the hop"
            )
        if not 0 <= self.fmin < self.fmax <= self.rate / 2:
            raise FrontendError(
                f"mel bands from {self.fmin:g} to {self.fmax:g} Hz at {self.rate} Hz",
                "stay between 0 and half the rate",
            )

    @property
    def seconds_per_frame(self) -> float:
        """Seconds from one frame to the next."""
        return self.hop / self.rate

    def to_json(self) -> dict[str, Any]:
        """The specification as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> FrontendSpec:
        """The inverse of :meth:`to_json`.

        Raises:
            FrontendError: Missing, superfluous or impossible values.
        """
        if not isinstance(value, Mapping) or set(value) != {field.name for field in fields(cls)}:
            raise FrontendError("the front-end's description is incomplete", "pack the kit again with this version")
        return cls(**value)


def hann_window(length: int) -> NDArray[np.float64]:
    """The periodic Hann window, 0.5 - 0.5 cos(2 pi n / length), shape (length,)."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)


def hertz_to_mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Slaney's mel scale (Auditory Toolbox, 1998): linear below 1000 Hz, logarithmic above."""
    linear = hertz * 3 / 200
    return np.where(hertz < 1000, linear, 15 + 27 * np.log(np.maximum(hertz, 1000) / 1000) / np.log(6.4))


def mel_to_hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of :func:`hertz_to_mel`."""
    return np.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** ((np.maximum(mel, 15) - 15) / 27))


@lru_cache(maxsize=8)
def mel_filters(spec: FrontendSpec) -> NDArray[np.float64]:
    """Triangular filters of equal area, shape (mels, n_fft // 2 + 1).

    Raises:
        FrontendError: A band is narrower than the distance of two Fourier bins, so that it would always be silent.
    """
    filters = np.stack(list(_each_filter(spec)))
    filters.flags.writeable = False
    return filters


def _each_filter(spec: FrontendSpec) -> Iterator[NDArray[np.float64]]:
    """One filter after the other, so that a stream need not hold them all."""
    lowest, highest = hertz_to_mel(np.array([spec.fmin, spec.fmax]))
    edges = mel_to_hertz(np.linspace(lowest, highest, spec.mels + 2))
    bins = np.arange(spec.n_fft // 2 + 1) * spec.rate / spec.n_fft
    for band, (low, middle, high) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        rising, falling = (bins - low) / (middle - low), (high - bins) / (high - middle)
        found = np.maximum(0, np.minimum(rising, falling)) * (2 / (high - low))
        if found.max() == 0:
            raise FrontendError(
                f"mel band {band} of {spec.mels} holds no Fourier bin at n_fft {spec.n_fft}",
                "use fewer mels or a larger n_fft",
            )
        yield found


AT_ONCE = 1 << 14
"""Samples of the frames that are computed together, overlaps counted twice: 16 frames of 1,024. Calling numpy for each
frame takes several times as long as the arithmetic; more at once gain a tenth and take twice the memory."""


class FrontendStream:
    """Turns pieces of audio of any length into log-mel frames.

    Frame k covers samples k * hop to k * hop + n_fft. Each frame is a row of its own and each filter is summed by
    itself, so that neither the number of frames nor the number of threads can change a bit.
    """

    def __init__(self, spec: FrontendSpec) -> None:
        """Begin a stream of which nothing was heard."""
        self.spec = spec
        self._filters, self._starts = _in_two_rows(spec)
        self._window = hann_window(spec.n_fft)
        self._most = max(1, min(32, AT_ONCE // spec.n_fft))
        self._pending = np.zeros((self._most - 1) * spec.hop + spec.n_fft)
        self._held = 0
        self._framed = np.empty((self._most, spec.n_fft))
        self._spectrum = np.empty((self._most, spec.n_fft // 2 + 1), np.complex128)
        self._overlapping = np.lib.stride_tricks.sliding_window_view(self._pending, spec.n_fft)[:: spec.hop]

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take the next samples and return the frames that they complete.

        Args:
            samples: Shape (n,), float32, full scale 1.0; n may be 0.

        Returns:
            Level in dB, shape (mels, completed frames), float32, not normalised.
        """
        hop = self.spec.hop
        frames = np.empty((self._complete(self._held + len(samples)), self.spec.mels), dtype=np.float32)
        done = taken = 0
        while taken < len(samples):
            piece = samples[taken : taken + len(self._pending) - self._held]
            self._pending[self._held : self._held + len(piece)] = piece
            taken += len(piece)
            self._held += len(piece)
            count = self._complete(self._held)
            if count:
                self._compute(count, frames[done : done + count])
                done += count
                rest = self._held - count * hop
                self._pending[:rest] = self._pending[count * hop : self._held]
                self._held = rest
        return frames.T

    def _complete(self, samples: int) -> int:
        return max(0, (samples - self.spec.n_fft) // self.spec.hop + 1)

    def _compute(self, count: int, out: NDArray[np.float32]) -> None:
        framed = np.multiply(self._overlapping[:count], self._window, out=self._framed[:count])
        parts = np.fft.rfft(framed, out=self._spectrum[:count]).view(np.float64)  # real and imaginary in turn
        np.multiply(parts, parts, out=parts)
        power = parts[:, ::2] + parts[:, 1::2]
        products = np.multiply(power[:, None], self._filters, out=parts.reshape(count, 2, -1))
        bands = np.add.reduceat(products.reshape(count, -1), self._starts, axis=1)
        np.log10(np.maximum(bands, self.spec.floor, out=bands), out=bands)
        even = -(-self.spec.mels // 2)
        np.multiply(bands[:, :even], 10.0, out=out[:, ::2])
        np.multiply(bands[:, even:], 10.0, out=out[:, 1::2])


@lru_cache(maxsize=8)
def _in_two_rows(spec: FrontendSpec) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Filters with an even number in one row, the others in a second.

    Every bin lies in at most two filters, which are neighbours, so that those of a row do not overlap.

    Returns:
        Weights, shape (2, bins), and where each filter begins when the second row follows the first, shape (mels,).
    """
    bins = spec.n_fft // 2 + 1
    rows, begins = np.zeros((2, bins)), np.empty(spec.mels, dtype=np.int64)
    for band, found in enumerate(_each_filter(spec)):
        rows[band % 2] += found
        begins[band] = (found > 0).argmax()
    starts = np.concatenate([begins[::2], begins[1::2] + bins])
    rows.flags.writeable = starts.flags.writeable = False
    return rows, starts


def log_mel(samples: NDArray[np.float32], spec: FrontendSpec) -> NDArray[np.float32]:
    """Log-mel spectrogram of a whole clip.

    Args:
        samples: Shape (n,), float32; clips shorter than one frame are padded with zeros.
        spec: The front-end.

    Returns:
        Level in dB, shape (mels, frames), float32, not normalised.
    """
    missing = max(0, spec.n_fft - len(samples))
    return FrontendStream(spec).push(np.pad(samples, (0, missing)) if missing else samples)


def clip_log_mel(samples: NDArray[np.float32], spec: FrontendSpec) -> NDArray[np.float32]:
    """Log-mel spectrogram of a clip whose silent edges are cut first, shape (mels, frames), dB, float32."""
    return log_mel(trim_silence(samples, spec.trim_db), spec)


def normalise(levels: NDArray[np.float32], spec: FrontendSpec) -> NDArray[np.float32]:
    """Levels in dB to what a student reads: the corpus mean subtracted, divided by its standard deviation."""
    return (levels - np.float32(spec.mean)) / np.float32(spec.std)


def centre_window(levels: NDArray[np.float32], frames: int) -> NDArray[np.float32]:
    """The one window that a training clip gives: the middle of a long clip, a short one repeated.

    Args:
        levels: Shape (mels, any number of frames above 0).
        frames: Frames in the window.

    Returns:
        Shape (mels, frames).
    """
    length = levels.shape[1]
    if length < frames:
        return wrap(levels, frames)
    start = (length - frames) // 2
    return np.ascontiguousarray(levels[:, start : start + frames])


def wrap(levels: NDArray[np.float32], frames: int) -> NDArray[np.float32]:
    """Repeat (mels, few frames) from its start until it has ``frames`` frames."""
    return np.ascontiguousarray(levels[:, np.arange(frames) % levels.shape[1]])


def windows(levels: NDArray[np.float32], spec: FrontendSpec) -> NDArray[np.float32]:
    """All windows of a clip, as evaluation, prediction and listening see it; their probabilities are averaged.

    Args:
        levels: Shape (mels, any number of frames above 0), dB.
        spec: Gives the frames of a window and the frames from one to the next.

    Returns:
        Shape (windows, mels, frames), dB, float32; a clip shorter than one window is repeated to fill one.
    """
    if levels.shape[1] < spec.frames:
        return wrap(levels, spec.frames)[None]
    views = np.lib.stride_tricks.sliding_window_view(levels, spec.frames, axis=1)
    return np.ascontiguousarray(views[:, :: spec.window_hop].transpose(1, 0, 2))
