"""Recordings as float32 mono samples: the one reader that host and board share.

    samples = read_audio(Path("clip.flac"), rate=16000)     # the whole recording
    for block in read_blocks(Path("clip.flac"), 16000):     # the same samples, bit for bit, piece by piece
        ...
    decode(Path("clip.flac"))                               # what is in the file, for a check of it

Channels are averaged, but for dead ones, which are 30 dB quieter than the loudest. Where the average is still more than
5 dB quieter than the loudest channel, the others cancel it or hold something else, and it is taken alone. The median of
the blocks' means is an offset, as some microphones have it, where it lies less than 48 dB below the loudest block and
is no chance; it is subtracted. All is measured over blocks of 32 ms: of a whole recording before any of it is used, and
of the last three seconds of a microphone's stream. Blocks of digital silence are not counted, and stay digital silence.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeser_device.errors import AudioError

FRAME_LENGTH = 2048
"""Samples in one frame of the silence detector, as in librosa.effects.trim."""
FRAME_HOP = 512
"""Samples between two frames of the silence detector, as in librosa.effects.trim."""
BLOCK_SECONDS = 0.032
"""Length of one piece; what a microphone delivers at a time."""
AT_ONCE = 1 << 17
"""Numbers that are decoded at once, unless a single block holds more."""
LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000
"""Sampling rates in Hz between which sound is recorded; another one in a header is damage, and may fill the memory."""
LOUDEST = 10.0
"""Full scale is 1. Sound that was mixed too loud may reach a few times that; larger numbers have another scale."""
DEAD = 10 ** (-30 / 10)
"""The power of a channel over that of the loudest, below which it is dead."""
LOSS = 10 ** (5 / 10)
"""The power of the loudest channel over that of the average, above which it is taken alone. Two channels with one voice
lose nothing, two with unlike sounds 3 dB; opposite ones may lose everything, a voice in one of six channels 15 dB."""
OFFSET = 10 ** (-48 / 20)
"""An offset over the level of the loudest block, above which it is removed. At 40 dB it would be taken for sound at the
edges; the medians of clips without one lie below 50 dB."""
SURE = 4.0
"""An offset's standard errors, above which it is no chance: means of a rumble's blocks may lie on one side too."""
QUARTILES = 1.35
"""Standard deviations from one quartile of a normal distribution to the other."""
OFFSET_BLOCKS = 94
"""Blocks of a stream by which its offset is known: three seconds. Fewer may all lie on one side of zero by chance."""
CUT_SHARE = 0.01
"""A file that lacks less of what its header states is whole: headers are often wrong by their own length."""
UNKNOWN_LENGTH = 2**31 - 2**16
"""Headers that state so many bytes or more were written before the length was known."""
STATED = re.compile(r"^\s*(?:data|SSND|BODY|riff|Riff size|Data Size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
"""The note of libsndfile about a header that states more bytes than there are."""
OGG_PAGE = 65_307
"""Most bytes of a page of an Ogg file."""
POINTER = b"version https://git-lfs"
"""The first bytes of a file that git-lfs has not replaced by the recording."""
UNREADABLE = (RuntimeError, TypeError, ValueError, ArithmeticError, MemoryError, OSError)
"""Errors that soundfile, soxr and numpy raise for files whose header lies; LibsndfileError is a RuntimeError."""


class Mixdown:
    """The rule by which several channels become one without an offset; see the module.

    A file is heard as a whole before :meth:`settle` decides; a stream decides after each of its blocks.

    Attributes:
        channels: The channels that are averaged, (some,), counted from 0; None for all of them.
        offset: The constant that is subtracted, full scale 1.0.
    """

    def __init__(self, memory: int | None = None) -> None:
        """Start with nothing heard; of a stream about the last ``memory`` blocks count."""
        self._memory = memory
        self._levels = np.empty((0, 2, 1))
        self._products = np.zeros((1, 1))
        self.channels: NDArray[np.intp] | None = None
        self.offset = np.float32(0)

    def hear(self, samples: NDArray[np.float32], length: int) -> None:
        """Measure samples, float32 (n, channels), in blocks: mean and power of each channel, and products of channels.

        The mean is taken under a Hann window, by which a voice adds next to nothing to it.
        """
        rows, starts = samples.T.astype(np.float64), np.arange(0, len(samples), length)
        counts = np.diff(starts, append=len(samples))
        window = np.concatenate([_hann_window(count) for count in counts.tolist()])
        means = np.add.reduceat(rows * window, starts, axis=1) / np.add.reduceat(window, starts)
        rows -= np.repeat(np.add.reduceat(rows, starts, axis=1) / counts, counts, axis=1)
        powers = np.add.reduceat(rows * rows, starts, axis=1) / counts
        levels = np.stack((means, powers)).transpose(2, 0, 1)
        sounding = levels[levels.any(axis=(1, 2))]
        if not len(self._levels):
            self._levels = sounding[:0]
        if self._memory and len(sounding):
            self._products = self._products * (1 - 1 / self._memory)
        self._products = self._products + np.einsum("in,jn->ij", rows, rows)
        self._levels = np.concatenate((self._levels, sounding))[-self._memory if self._memory else 0 :]

    def settle(self) -> None:
        """Decide by what was heard so far."""
        if not len(self._levels):
            return
        powers = self._products.diagonal()
        used = np.flatnonzero(powers >= DEAD * powers.max())
        average = self._products[np.ix_(used, used)].mean()
        if powers.max() > LOSS * average:
            used = np.array([powers.argmax()])
        self.channels = used if len(used) < len(powers) else None
        means, loudest = self._levels[:, 0, used].mean(axis=1), self._levels[:, 1, used].max()
        if self._memory in (None, len(means)):
            lower, median, upper = np.sort(means)[np.arange(1, 4) * len(means) // 4]
            error = (upper - lower) / QUARTILES / np.sqrt(len(means))
            there = abs(median) > max(OFFSET * np.sqrt(loudest), SURE * error)
            self.offset = np.float32(median if there else 0)

    def mono(self, samples: NDArray[np.float32], length: int) -> NDArray[np.float32]:
        """One channel of samples, float32 (n,); of float32 (n, channels) in the same blocks as they were heard."""
        used = samples if self.channels is None else samples[:, self.channels]
        mixed: NDArray[np.float32] = used.mean(axis=1, dtype=np.float32)
        if self.offset:
            sounding = np.logical_or.reduceat(samples.any(axis=1), np.arange(0, len(samples), length))
            mixed -= self.offset * np.repeat(sounding, length)[: len(mixed)]
        return mixed

    def follow(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """The same for the next block of a stream, which is measured first."""
        self.hear(block, len(block))
        self.settle()
        return self.mono(block, len(block))


@lru_cache(maxsize=4)
def _hann_window(length: int) -> NDArray[np.float64]:
    return 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(length) + 0.5) / length)


@dataclass(frozen=True)
class Decoded:
    """A recording as it is in its file.

    Attributes:
        rate: Sampling rate in Hz.
        form: The file's format and that of its samples, such as ``WAV PCM_16``.
        pieces: Float32 (n, channels) each, full scale 1.0.
        mono: One channel without an offset, float32 (n,).
        mixdown: The rule by which the channels became one.
        cut: In words, what the file lacks of what its header states; None where it is whole.
    """

    rate: int
    form: str
    pieces: tuple[NDArray[np.float32], ...]
    mono: NDArray[np.float32]
    mixdown: Mixdown
    cut: str | None


def read_audio(path: Path, rate: int) -> NDArray[np.float32]:
    """Read a recording of any rate, width and number of channels.

    Args:
        path: A file that libsndfile reads; its name does not matter.
        rate: The wanted sampling rate in Hz; other rates are resampled with soxr.

    Returns:
        Samples, shape (n,), float32, full scale 1.0.

    Raises:
        AudioError: The file is missing, unreadable, empty, a pointer of git-lfs, or holds NaN, infinity or samples far
            above full scale.
    """
    path = Path(path)
    decoded = decode(path)
    with audio_errors(path):
        return decoded.mono if decoded.rate == rate else resample(decoded.mono, decoded.rate, rate)


def read_audio_bytes(data: bytes, rate: int) -> NDArray[np.float32]:
    """:func:`read_audio` of a file's content, which lies in a temporary file meanwhile."""
    with tempfile.NamedTemporaryFile(prefix="edgeser-") as file:
        file.write(data)
        file.flush()
        try:
            return read_audio(Path(file.name), rate)
        except AudioError as error:
            raise AudioError(error.message.replace(file.name, "the recording"), error.hint) from error


def recording_bytes(path: Path, most: int = -1) -> bytes:
    """The content of a file, or its first ``most`` bytes.

    Raises:
        AudioError: It is missing, no file, empty, or cannot be opened.
    """
    try:
        if not path.is_file():
            raise AudioError(f"{path} is not a file", "check the path")
        with path.open("rb") as file:
            found = file.read(most)
    except OSError as error:
        raise AudioError(f"{path} cannot be opened: {error.strerror}", "check its permissions, or remove it") from error
    if not found:
        raise AudioError(f"{path} is empty (0 bytes)", "record it again, or remove the file")
    return found


def decode(path: Path) -> Decoded:
    """Decode a file; errors as :func:`read_audio`."""
    with audio_errors(path), _Sound(path) as sound:
        mixdown = Mixdown()
        pieces = tuple(sound.pieces(mixdown))
        mono = np.concatenate([mixdown.mono(piece, sound.block) for piece in pieces])
        form = f"{sound.file.format} {sound.file.subtype}"
        return Decoded(sound.rate, form, pieces, mono, mixdown, sound.cut())


def read_blocks(path: Path, rate: int, realtime: bool = False) -> Iterator[NDArray[np.float32]]:
    """Pieces of a recording, float32 (n,), mono, at ``rate`` Hz: joined, they are what :func:`read_audio` returns.

    The file is decoded twice, first to measure it, and no more than a few seconds of it are in memory at a time.

    Args:
        path: Anything that libsndfile reads.
        rate: The wanted sampling rate in Hz.
        realtime: Wait so that the pieces come as fast as they were spoken.

    Raises:
        AudioError: As :func:`read_audio`, before the first piece.
    """
    import soxr

    path, mixdown = Path(path), Mixdown()
    with audio_errors(path):
        with _Sound(path) as sound:
            for _ in sound.pieces(mixdown):
                pass
        with _Sound(path) as sound:
            began, given = time.monotonic(), 0
            same = sound.rate == rate
            resampler = None if same else soxr.ResampleStream(sound.rate, rate, 1, dtype="float32", quality="HQ")
            for piece in sound.pieces():
                mono = mixdown.mono(piece, sound.block)
                for block in np.split(mono, range(sound.block, len(mono), sound.block)):
                    given += len(block)
                    if realtime:
                        time.sleep(max(0.0, began + given / sound.rate - time.monotonic()))
                    yield block if resampler is None else resampler.resample_chunk(block, last=False)
            if resampler is not None:
                yield resampler.resample_chunk(np.empty(0, np.float32), last=True)


class _Sound:
    """An open recording that is read from its start to its end."""

    def __init__(self, path: Path) -> None:
        import soundfile

        if recording_bytes(path, len(POINTER)) == POINTER:
            raise AudioError(f"{path} is a pointer of git-lfs, not the recording", "run git lfs pull in its folder")
        # Without a path libsndfile takes short MP3 files for another format; bytes may be in any encoding.
        self._path, self._read = path, 0
        self.file: Any = soundfile.SoundFile(os.fsencode(path))
        if self.file.format == "RAW":
            self.file.close()
            raise ValueError("its content names no format")  # libsndfile has guessed one from the ending
        # soundfile seeks after each read, by which libsndfile loses its place in GSM 6.10 and others.
        self.file.seekable = lambda: False
        self.rate = self.file.samplerate
        self.block = round(BLOCK_SECONDS * self.rate)

    def __enter__(self) -> _Sound:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def pieces(self, mixdown: Mixdown | None = None) -> Iterator[NDArray[np.float32]]:
        """All samples in pieces of whole blocks, float32 (n, channels); ``mixdown`` hears them and settles.

        Raises:
            AudioError: There is none, or a sample is NaN, infinite or far above full scale.
        """
        if not LOWEST_RATE <= self.rate <= HIGHEST_RATE:
            raise ValueError(f"its header states {self.rate} Hz")
        most = max(1, AT_ONCE // (self.block * self.file.channels)) * self.block
        while len(samples := self.file.read(most, dtype="float32", always_2d=True)):
            self._read += len(samples)
            self._require_sound(samples)
            if mixdown is not None:
                mixdown.hear(samples, self.block)
            yield samples
        if not self._read:
            raise AudioError(f"{self._path} holds no samples", "record it again, or remove the file")
        if mixdown is not None:
            mixdown.settle()

    def _require_sound(self, samples: NDArray[np.float32]) -> None:
        peak = float(np.abs(samples).max())
        if not np.isfinite(peak):
            raise AudioError(
                f"{self._path} holds samples that are not finite", "write it again without NaN or infinity"
            )
        if peak > LOUDEST:
            raise AudioError(
                f"{self._path} holds a sample of {peak:.6g}, and full scale is 1",
                "divide its samples by the largest whole number of their width, 32768 for 16 bits, and write it again",
            )

    def cut(self) -> str | None:
        """In words, what the file lacks of what its header states; to be asked after all blocks."""
        pairs = [(int(stated), int(there), "bytes") for stated, there in STATED.findall(self.file.extra_info)]
        for stated, there, what in (*pairs, (self.file.frames, self._read, "samples")):
            if stated < UNKNOWN_LENGTH and there < stated * (1 - CUT_SHARE):
                return f"its header states {stated} {what}, and {there} are there"
        if self.file.format == "OGG" and not _has_last_page(self._path):
            return "its last page is missing"
        return None


def _has_last_page(path: Path) -> bool:
    """Whether the last page of an Ogg file is whole and says that it is the last one (RFC 3533, section 6)."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - OGG_PAGE))
        tail = file.read()
    page = tail[max(0, tail.rfind(b"OggS")) :]
    head, lengths = page[:27], page[27 : 27 + page[26]] if len(page) > 26 else b""
    return len(head) == 27 and bool(head[5] & 4) and len(page) >= 27 + head[26] + sum(lengths)


@contextmanager
def audio_errors(path: Path) -> Iterator[None]:
    """Turn whatever a damaged file makes the decoders raise into AudioError: one file must not end a whole run."""
    try:
        yield
    except AudioError:
        raise
    except UNREADABLE as error:
        said = str(getattr(error, "error_string", error)).strip() or type(error).__name__
        raise AudioError(
            f"{path} cannot be decoded: {said.splitlines()[0]}", "convert it to WAV or FLAC, or remove the file"
        ) from error


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
