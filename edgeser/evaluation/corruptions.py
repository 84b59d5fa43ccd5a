"""Sound as it reaches a board: in rooms, among other sounds, clipped, coded, and at other levels.

    reader = CorruptedReader(LogMelReader(spec), "white", "10 dB", voices=paths)
    read_recordings(paths, reader, workers)     # what a student hears then

The kinds and their three levels follow Robuser, a public test of speech emotion recognition. Rooms and music are
computed, babble is of training speakers. A recording always sounds the same at one kind and level.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeser.cache import Reader
from edgeser_device.data.audio import read_audio, resample

Sound: TypeAlias = NDArray[np.float32]
Corruption: TypeAlias = Callable[[Sound, int, np.random.Generator, tuple[Path, ...]], Sound]
"""Takes samples, their rate in Hz, a source of random numbers, and recordings of other voices."""

VERSION = 1
"""Raised whenever what a corruption computes changes, so that older cache entries are not read."""
TALKERS = 5
"""Voices of babble."""
CHORD_SECONDS = 0.4
LOWEST_HZ = 110.0
"""Length of a chord of music, and the lowest note."""


def in_room(sound: Sound, rate: int, random: np.random.Generator, voices: tuple[Path, ...], seconds: float) -> Sound:
    """The sound in a room whose echo falls by 60 dB in ``seconds``.

    The echo is normal noise under an exponential decay from 5 ms on. It is as strong as the direct sound in a room of
    half a second, and stronger the longer it lasts. The level stays as it was.
    """
    del voices
    from scipy.signal import fftconvolve

    count, begins = round(seconds * rate), round(0.005 * rate)
    decay = 10 ** (-3 * np.arange(count) / count)
    echo = random.standard_normal(count) * decay
    echo[:begins] = 0
    response = np.concatenate([[1.0], echo * (seconds / 0.5 / np.sum(echo**2)) ** 0.5])
    return _as_loud(fftconvolve(sound, response)[: len(sound)], sound)


def among(
    sound: Sound, rate: int, random: np.random.Generator, voices: tuple[Path, ...], kind: str, db: float
) -> Sound:
    """The sound with another one of ``kind``, a key of ``BESIDE``, ``db`` quieter beside it."""
    other = BESIDE[kind](len(sound), rate, random, voices)
    power = float(np.mean(np.square(sound, dtype=np.float64)))
    own = float(np.mean(np.square(other, dtype=np.float64)))
    return np.asarray(sound + other * (power / max(own, 1e-20) * 10 ** (-db / 10)) ** 0.5, dtype=np.float32)


def clipped(sound: Sound, rate: int, random: np.random.Generator, voices: tuple[Path, ...], share: float) -> Sound:
    """The sound with its loudest samples, ``share`` of all, cut to one level."""
    del rate, random, voices
    most = np.quantile(np.abs(sound), 1 - share)
    return np.clip(sound, -most, most).astype(np.float32)


def coded(
    sound: Sound, rate: int, random: np.random.Generator, voices: tuple[Path, ...], form: str, kbit: int
) -> Sound:
    """The sound after MP3 of ``kbit`` per second, or after the mu-law of telephones at 8 kHz."""
    del random, voices
    import soundfile

    file = io.BytesIO()
    if form == "mp3":
        level = (MOST_KBIT - kbit) / (MOST_KBIT - LEAST_KBIT)
        soundfile.write(file, sound, rate, format="MP3", bitrate_mode="CONSTANT", compression_level=level)
    else:
        soundfile.write(file, resample(sound, rate, 8000), 8000, format="WAV", subtype="ULAW")
    file.seek(0)
    found, own = soundfile.read(file, dtype="float32")
    return np.asarray(np.resize(resample(found, own, rate), len(sound)), np.float32)


MOST_KBIT, LEAST_KBIT = 160, 8
"""Bit rates of MPEG-2 layer III, which is MP3 at 16 kHz; libsndfile goes from the first to the second."""


def louder(sound: Sound, rate: int, random: np.random.Generator, voices: tuple[Path, ...], db: float) -> Sound:
    """The sound ``db`` louder; what would be above full scale is cut."""
    del rate, random, voices
    return np.asarray(np.clip(sound * 10 ** (db / 20), -1, 1), dtype=np.float32)


def _white(count: int, rate: int, random: np.random.Generator, voices: tuple[Path, ...]) -> NDArray[np.float64]:
    del rate, voices
    return random.standard_normal(count)


def _pink(count: int, rate: int, random: np.random.Generator, voices: tuple[Path, ...]) -> NDArray[np.float64]:
    del rate, voices
    spectrum = np.fft.rfft(random.standard_normal(count))
    return np.asarray(np.fft.irfft(spectrum / np.sqrt(np.maximum(1, np.arange(len(spectrum)))), count))


def _music(count: int, rate: int, random: np.random.Generator, voices: tuple[Path, ...]) -> NDArray[np.float64]:
    """Chords of three notes of a major scale, each with four harmonics that die away."""
    del voices
    length = round(CHORD_SECONDS * rate)
    time = np.arange(length) / rate
    scale = np.array([0, 2, 4, 5, 7, 9, 11, 12, 14, 16])
    chords = []
    for _ in range(-(-count // length)):
        notes = LOWEST_HZ * 2 ** (random.choice(scale, 3, replace=False) / 12)
        waves = [np.sin(2 * np.pi * note * harmonic * time) / harmonic for note in notes for harmonic in (1, 2, 3, 4)]
        chords.append(np.sum(waves, axis=0) * np.exp(-3 * time))
    return np.concatenate(chords)[:count]


def _babble(count: int, rate: int, random: np.random.Generator, voices: tuple[Path, ...]) -> NDArray[np.float64]:
    """Other voices at once, each as loud as the others and from a place of its own in its recording."""
    total = np.zeros(count)
    for place in random.choice(len(voices), min(TALKERS, len(voices)), replace=False):
        spoken = _heard(voices[place], rate).astype(np.float64)
        turned = np.resize(np.roll(spoken, int(random.integers(len(spoken)))), count)
        total += turned / max(1e-9, float(np.sqrt(np.mean(turned**2))))
    return total


@lru_cache(maxsize=64)
def _heard(path: Path, rate: int) -> Sound:
    return read_audio(path, rate)


def _as_loud(found: NDArray[np.float64], sound: Sound) -> Sound:
    powers = [float(np.mean(np.square(each, dtype=np.float64))) for each in (sound, found)]
    return np.asarray(found * (powers[0] / max(powers[1], 1e-20)) ** 0.5, dtype=np.float32)


BESIDE: Mapping[str, Callable[[int, int, np.random.Generator, tuple[Path, ...]], NDArray[np.float64]]] = (
    MappingProxyType({"babble": _babble, "music": _music, "white": _white, "pink": _pink})
)
"""Sounds beside speech: functions of a number of samples, a rate, a source of random numbers and other voices."""
CORRUPTIONS: Mapping[str, Mapping[str, Corruption]] = MappingProxyType(
    {
        "room": {f"{seconds} s": partial(in_room, seconds=seconds) for seconds in (0.2, 0.5, 0.9)},
        **{kind: {f"{db} dB": partial(among, kind=kind, db=db) for db in (20, 10, 5)} for kind in BESIDE},
        "clipping": {f"{percent} %": partial(clipped, share=percent / 100) for percent in (1, 5, 20)},
        "codec": {
            "MP3 64 kbit/s": partial(coded, form="mp3", kbit=64),
            "MP3 32 kbit/s": partial(coded, form="mp3", kbit=32),
            "mu-law 8 kHz": partial(coded, form="mu-law", kbit=64),
        },
        "gain": {f"{db:+d} dB": partial(louder, db=db) for db in (-20, -10, 10)},
    }
)
"""By kind, and by level from light to heavy."""


@dataclass(frozen=True)
class CorruptedReader:
    """Reads features of recordings as they would be heard at one kind and level of corruption.

    Attributes:
        reader: The reader of clean recordings.
        kind: A key of ``CORRUPTIONS``.
        level: A key of its row.
        voices: Recordings of other speakers, for babble.
    """

    reader: Reader
    kind: str
    level: str
    voices: tuple[Path, ...] = ()

    @property
    def what(self) -> str:
        """The kind and level, for a progress bar."""
        return f"{self.kind}, {self.level}"

    @property
    def key(self) -> bytes:
        """Everything but the recording that the features depend on."""
        voices = [path.name for path in self.voices] if self.kind == "babble" else []
        return self.reader.key + json.dumps([VERSION, self.kind, self.level, voices]).encode()

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of the reader's features."""
        return self.reader.shape

    @property
    def rate(self) -> int:
        """The reader's rate."""
        return self.reader.rate

    def of_samples(self, samples: Sound, path: Path) -> NDArray[np.float32]:
        """The features of samples at the reader's rate, once they are corrupted; errors of the reader."""
        seed = hashlib.sha256(f"{self.what} ".encode() + samples.tobytes()).digest()
        random = np.random.default_rng(list(seed))
        return self.reader.of_samples(CORRUPTIONS[self.kind][self.level](samples, self.rate, random, self.voices), path)

    def __call__(self, path: Path) -> NDArray[np.float32]:
        """The features of a recording; errors of the reader."""
        return self.of_samples(read_audio(path, self.rate), path)
