"""Make the demo corpus: ten synthetic voices, four emotions, eight sentences, 320 clips of Ogg Vorbis.

    python scripts/make_demo_corpus.py [--out edgeser/corpora/demo_data] [--seed 7]

Needs eSpeak NG on the path (Debian: espeak-ng 1.51). The same seed, eSpeak NG and libsndfile give the same bytes.

The rules, each a change against the neutral way of the same voice, at full strength:

    ================  =========  ===========  ===========  =========  ==========================
    emotion           pitch      pitch range  rate         level      voice
    ================  =========  ===========  ===========  =========  ==========================
    anger             x 1.22     x 1.7        x 1.12       + 5 dB     bright (tense)
    happiness         x 1.35     x 1.9        x 1.15       + 2.5 dB   slightly bright, rising end
    sadness           x 0.92     x 0.55       x 0.82       - 4 dB     dark, breathy
    ================  =========  ===========  ===========  =========  ==========================

Sources of the directions (sizes were set so that a simple classifier neither fails nor is perfect):

- Murray and Arnott (1993), "Toward the simulation of emotion in synthetic speech", JASA 93(2), table I: anger and
  happiness raise mean pitch, widen its range, raise intensity; sadness lowers and narrows all three and is slower.
- Burkhardt and Sendlmeier (2000), "Verification of acoustical correlates of emotional speech using
  formant-synthesis", ISCA workshop on speech and emotion: joy by wider range, faster rate and rising contours; anger
  by tense phonation; quiet sorrow by lower pitch, slower rate and breathy phonation.
- Scherer (2003), "Vocal communication of emotion", Speech Communication 40, table 2: energy above 500 Hz rises with
  anger and joy and falls with sadness.

So that clips are not trivially separable, each clip draws how strongly it shows its emotion, its own deviations of
pitch, range, rate, level and brightness, a background noise, and silence at both ends.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import struct
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

RATE = 16000
"""Hz."""
COMPRESSION = 1.0
"""libsndfile's compression level of Vorbis: 0 best quality, 1 smallest file."""

PEAK = 0.8
"""No sample is larger."""

SENTENCES = (
    "The train leaves from platform four.",
    "There is a letter on the table.",
    "They moved it to Thursday.",
    "The keys are next to the window.",
    "The neighbours came this morning.",
    "We have been here for an hour.",
    "He told me on the phone.",
    "The papers are in the drawer.",
)


@dataclass(frozen=True)
class Voice:
    """A synthetic speaker."""

    name: str
    accent: str
    variant: str
    pitch: int
    """eSpeak NG's pitch, 0 to 99, of the neutral way of speaking."""
    rate: int
    """Words a minute of the neutral way of speaking."""
    stretch: float
    """Factor on all formants and the pitch: the length of the vocal tract."""


VOICES = (
    Voice("f1", "en-us", "f1", 52, 172, 1.00),
    Voice("f2", "en-gb", "f2", 45, 165, 1.04),
    Voice("f3", "en-us", "f3", 55, 180, 0.97),
    Voice("f4", "en-gb", "f4", 48, 170, 1.02),
    Voice("f5", "en-us", "Annie", 46, 172, 1.0),
    Voice("m1", "en-us", "m1", 48, 168, 1.00),
    Voice("m2", "en-gb", "m2", 42, 174, 0.96),
    Voice("m3", "en-us", "m3", 50, 162, 1.03),
    Voice("m4", "en-gb", "m4", 40, 178, 1.01),
    Voice("m5", "en-us", "m6", 46, 170, 0.98),
)


@dataclass(frozen=True)
class Manner:
    """How a way of speaking differs from the neutral one, at full strength."""

    pitch: float = 1.0
    pitch_range: float = 1.0
    rate: float = 1.0
    level_db: float = 0.0
    tilt_db: float = 0.0
    """Gain at 4 kHz against 500 Hz."""
    breath: float = 0.0
    """Level of breath noise against the speech envelope."""
    rising: bool = False
    """Whether the sentence may end as a question does."""


MANNERS = {
    "anger": Manner(pitch=1.22, pitch_range=1.7, rate=1.12, level_db=6.0, tilt_db=9.0),
    "happiness": Manner(pitch=1.35, pitch_range=1.9, rate=1.15, level_db=3.0, tilt_db=3.0, rising=True),
    "neutral": Manner(),
    "sadness": Manner(pitch=0.92, pitch_range=0.55, rate=0.82, level_db=-4.0, tilt_db=-5.0, breath=0.06),
}


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the demo corpus with eSpeak NG.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "edgeser" / "corpora" / "demo_data")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    if shutil.which("espeak-ng") is None:
        print("espeak-ng is not on the path; on Debian: apt-get install espeak-ng", file=sys.stderr)
        return 2
    arguments.out.mkdir(parents=True, exist_ok=True)
    for old in arguments.out.glob("*.ogg"):
        old.unlink()
    for voice in VOICES:
        for emotion in MANNERS:
            for number, sentence in enumerate(SENTENCES, start=1):
                name = f"{voice.name}_{emotion}_{number:02d}.ogg"
                draws = clip_generator(arguments.seed, name)
                (arguments.out / name).write_bytes(encode(speak(voice, emotion, sentence, draws), name))
    sizes = [path.stat().st_size for path in arguments.out.glob("*.ogg")]
    print(f"{len(sizes)} clips, {sum(sizes) / 1e6:.2f} MB in {arguments.out}")
    return 0


def clip_generator(seed: int, name: str) -> np.random.Generator:
    """Return the clip's own random stream, so that adding a clip changes no other."""
    return np.random.default_rng(list(hashlib.sha256(f"{seed}/{name}".encode()).digest()))


def speak(voice: Voice, emotion: str, sentence: str, draws: np.random.Generator) -> NDArray[np.float32]:
    """Return one clip, shape (n,), float32, full scale 1."""
    manner = MANNERS[emotion]
    strength = draws.uniform(0.5, 1.2)
    pitch = voice.pitch + pitch_steps(manner.pitch**strength * np.exp(draws.normal(0, 0.07)))
    pitch_range = manner.pitch_range**strength * np.exp(draws.normal(0, 0.22))
    rate = voice.rate * manner.rate**strength * np.exp(draws.normal(0, 0.08))
    if manner.rising and draws.random() < 0.5 * strength:
        sentence = sentence.replace(".", "?")
    samples = synthesise(voice, sentence, pitch, pitch_range, rate)
    samples = tilt(samples, manner.tilt_db * strength + draws.normal(0, 1.5))
    samples = samples + breath(samples, manner.breath * strength * draws.uniform(0.5, 1.5), draws)
    level_db = -24 + manner.level_db * strength + draws.normal(0, 2.0)
    return in_a_room(samples, level_db, draws)


def pitch_steps(factor: float) -> float:
    """Turn a factor on the pitch into eSpeak NG's scale, where 50 steps are about an octave."""
    return float(50 * np.log2(factor))


def synthesise(voice: Voice, sentence: str, pitch: float, pitch_range: float, rate: float) -> NDArray[np.float32]:
    """Run eSpeak NG and return its samples at 16 kHz."""
    text = f'<speak><prosody range="{round(100 * pitch_range)}%">{sentence}</prosody></speak>'
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder, "clip.wav")
        command = ["espeak-ng", "-m", "-z", "-v", f"{voice.accent}+{voice.variant}", "-w", str(wav)]
        command += ["-p", str(int(np.clip(round(pitch), 0, 99))), "-s", str(round(rate / voice.stretch)), text]
        subprocess.run(command, check=True, capture_output=True)
        samples, found = soundfile.read(wav, dtype="float32")
    # Played faster by `stretch`: formants and pitch rise together, as with a shorter vocal tract.
    return np.asarray(soxr.resample(samples, found * voice.stretch, RATE), dtype=np.float32)


def tilt(samples: NDArray[np.float32], gain_db: float) -> NDArray[np.float32]:
    """Raise the spectrum by ``gain_db`` at 4 kHz against 500 Hz, in a straight line over octaves."""
    spectrum = np.fft.rfft(samples)
    octaves = np.log2(np.clip(np.fft.rfftfreq(len(samples), 1 / RATE), 250, 6000) / 500) / 3
    shaped = np.fft.irfft(spectrum * 10 ** (gain_db * octaves / 20), len(samples))
    return np.asarray(shaped, dtype=np.float32)


def breath(samples: NDArray[np.float32], amount: float, draws: np.random.Generator) -> NDArray[np.float32]:
    """Return noise that follows the envelope of the speech."""
    window = np.hanning(RATE // 25)
    envelope = np.convolve(np.abs(samples), window / window.sum(), mode="same")
    return np.asarray(amount * envelope * draws.standard_normal(len(samples)) * 3, dtype=np.float32)


def in_a_room(samples: NDArray[np.float32], level_db: float, draws: np.random.Generator) -> NDArray[np.float32]:
    """Set the level, put silence at both ends, and add the noise of a room."""
    samples = samples * 10 ** (level_db / 20) / np.sqrt(np.mean(samples**2))
    before, after = draws.uniform(0.05, 0.25, size=2)
    padded = np.pad(samples, (int(before * RATE), int(after * RATE)))
    noise = np.cumsum(draws.standard_normal(len(padded) + 256))
    noise = noise[256:] - np.convolve(noise, np.ones(256) / 256, mode="valid")[1:]  # brown above 60 Hz
    noise_db = draws.uniform(-72, -58)
    mixed = PEAK * np.tanh((padded + noise * 10 ** (noise_db / 20) / noise.std()) / PEAK)  # loud peaks bend, not clip
    return np.asarray(mixed, dtype=np.float32)


def encode(samples: NDArray[np.float32], name: str) -> bytes:
    """Return Ogg Vorbis whose stream number comes from ``name``; libsndfile takes it from the clock."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clip.ogg")
        soundfile.write(path, samples, RATE, format="OGG", subtype="VORBIS", compression_level=COMPRESSION)
        data = bytearray(path.read_bytes())
    serial = hashlib.sha256(name.encode()).digest()[:4]
    start = 0
    while start < len(data):
        segments = data[start + 26]
        end = start + 27 + segments + sum(data[start + 27 : start + 27 + segments])
        data[start + 14 : start + 18] = serial
        data[start + 22 : start + 26] = bytes(4)
        data[start + 22 : start + 26] = struct.pack("<I", ogg_checksum(data[start:end]))
        start = end
    return bytes(data)


def ogg_checksum(page: bytes | bytearray) -> int:
    """Return the checksum of an Ogg page: CRC-32, polynomial 0x04c11db7, not reflected, no final inversion."""
    register = 0
    for byte in page:
        register = ((register << 8) & 0xFFFFFFFF) ^ CRC_TABLE[(register >> 24) ^ byte]
    return register


def _crc_row(value: int) -> int:
    value <<= 24
    for _ in range(8):
        value = (value << 1) ^ (0x04C11DB7 if value & 0x80000000 else 0)
    return value & 0xFFFFFFFF


CRC_TABLE = tuple(_crc_row(value) for value in range(256))


if __name__ == "__main__":
    raise SystemExit(main())
