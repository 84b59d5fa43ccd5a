"""Reading recordings of every kind, refusing what is none, trimming as librosa does."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

from edgeser_device.data.audio import read_audio, read_blocks, trim_silence
from edgeser_device.errors import AudioError

SECONDS = 0.5
READERS = [read_audio, lambda path, rate: list(read_blocks(path, rate))]


def tone(rate: int, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(SECONDS * rate)) / rate)).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "rate", "channels", "subtype"),
    [
        ("8k.wav", 8000, 1, "PCM_16"),
        ("stereo.wav", 16000, 2, "PCM_16"),
        ("24bit.wav", 16000, 1, "PCM_24"),
        ("8bit.wav", 16000, 1, "PCM_U8"),
        ("float.wav", 16000, 1, "FLOAT"),
        ("double.wav", 48000, 2, "DOUBLE"),
        ("44k.flac", 44100, 1, "PCM_16"),
        ("stereo.flac", 44100, 2, "PCM_24"),
        ("vorbis.ogg", 44100, 1, "VORBIS"),
        ("mulaw.wav", 8000, 1, "ULAW"),
    ],
)
def test_every_usual_kind_is_read(tmp_path: Path, name: str, rate: int, channels: int, subtype: str) -> None:
    samples = np.repeat(tone(rate)[:, None], channels, axis=1)
    soundfile.write(tmp_path / name, samples, rate, subtype=subtype)
    found = read_audio(tmp_path / name, 16000)
    assert found.dtype == np.float32
    assert found.ndim == 1
    assert abs(len(found) - 8000) <= 1
    middle = slice(1000, 7000)  # the ends ring after resampling
    assert np.abs(found[middle] - tone(16000)[: len(found)][middle]).max() < 0.05


def test_the_name_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "recording.bin"
    soundfile.write(path, tone(16000), 16000, format="FLAC")
    assert len(read_audio(path, 16000)) == 8000


def empty_file(path: Path) -> None:
    path.write_bytes(b"")


def no_samples(path: Path) -> None:
    soundfile.write(path, np.zeros(0, np.float32), 16000)


def not_a_number(path: Path) -> None:
    soundfile.write(path, np.array([0.0, np.nan, 0.0], np.float32), 16000, subtype="FLOAT")


def infinite(path: Path) -> None:
    soundfile.write(path, np.array([0.0, np.inf, 0.0], np.float32), 16000, subtype="FLOAT")


def garbage(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(5000))


def text(path: Path) -> None:
    path.write_text("RIFF is not enough")


def nothing(path: Path) -> None:
    pass


def folder(path: Path) -> None:
    path.mkdir()


def no_header(path: Path) -> None:
    """soundfile asks for rate and channels of files named ``.raw``, and libsndfile takes other endings for a format."""
    path.write_bytes(bytes(4000))


def wave(rate: int, channels: int, claimed: int) -> bytes:
    """A header that claims more than the hundred bytes that follow."""
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * channels * 2 % 2**32, channels * 2 % 2**16, 16)
    head = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", claimed)
    return b"RIFF" + struct.pack("<I", len(head) + 100) + head + bytes(100)


def slow(path: Path) -> None:
    path.write_bytes(wave(rate=1, channels=1, claimed=100))


def endless(path: Path) -> None:
    """An AU file whose header claims more samples than memory and disk hold."""
    path.write_bytes(struct.pack(">4sIIIII", b".snd", 24, 0xFFFFFFFE, 3, 2**31 - 1, 1) + bytes(100))


BROKEN: list[tuple[Callable[[Path], None], str]] = [
    (empty_file, "empty"),
    (no_samples, "no samples"),
    (not_a_number, "not finite"),
    (infinite, "not finite"),
    (garbage, "cannot be decoded"),
    (text, "cannot be decoded"),
    (nothing, "is not a file"),
    (folder, "is not a file"),
    (slow, "cannot be decoded"),
    (endless, "cannot be decoded"),
]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(("make", "message"), BROKEN, ids=lambda value: getattr(value, "__name__", None))
def test_what_is_no_recording_is_refused(
    tmp_path: Path, make: Callable[[Path], None], message: str, read: Callable[..., object]
) -> None:
    path = tmp_path / "broken.wav"
    make(path)
    with pytest.raises(AudioError, match=message) as caught:
        read(path, 16000)
    assert str(path) in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("ending", ["raw", "RAW", "au", "vox"])
def test_a_format_is_not_guessed_from_the_ending(tmp_path: Path, read: Callable[..., object], ending: str) -> None:
    no_header(tmp_path / f"broken.{ending}")
    with pytest.raises(AudioError, match="cannot be decoded"):
        read(tmp_path / f"broken.{ending}", 16000)


@pytest.mark.parametrize(
    "error", [ValueError("too big"), MemoryError("9 GiB"), OverflowError("int"), OSError(5, "I/O")]
)
def test_whatever_a_decoder_raises_is_the_files_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*given: object, **more: object) -> None:
        raise error

    soundfile.write(tmp_path / "good.wav", tone(16000), 16000)
    monkeypatch.setattr(soundfile.SoundFile, "read", fails)
    with pytest.raises(AudioError, match="cannot be decoded"):
        read_audio(tmp_path / "good.wav", 16000)


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
def test_blocks_are_the_recording(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "tone.wav"
    soundfile.write(path, tone(rate), rate, subtype="FLOAT")
    blocks = list(read_blocks(path, 16000))
    assert max(map(len, blocks)) < 2000
    assert np.array_equal(np.concatenate(blocks), read_audio(path, 16000))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("below", [20.0, 40.0, 60.0])
def test_trimming_is_librosas(seed: int, below: float) -> None:
    random = np.random.default_rng(seed)
    length = int(random.integers(100, 30_000))
    envelope = np.interp(np.arange(length), np.sort(random.integers(0, length, 6)), 10 ** random.uniform(-4, 0, 6))
    samples = (random.standard_normal(length) * envelope).astype(np.float32)
    expected, _ = librosa.effects.trim(samples, top_db=below)
    assert np.array_equal(trim_silence(samples, below), expected)


def test_silence_is_not_trimmed_away() -> None:
    assert len(trim_silence(np.zeros(5000, np.float32), 40.0)) == 5000
