"""What is no speech names no emotion; what speech has is found."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from edgeser_device.data.audio import read_audio, trim_silence
from edgeser_device.model.voice import is_speech, state_of

RATE = 16000
SECONDS = np.arange(2 * RATE) / RATE


def tone(hertz: float) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * SECONDS)


def chords(seed: int) -> np.ndarray:
    """A new chord of decaying notes every 0.4 s."""
    random, step, found = np.random.default_rng(seed), round(0.4 * RATE), np.zeros(len(SECONDS))
    for start in range(0, len(found), step):
        part = SECONDS[: len(found[start : start + step])]
        for note in random.choice(np.arange(-20, 16), 3, replace=False):
            hertz = 440 * 2 ** (note / 12)
            found[start : start + step] += sum(np.sin(2 * np.pi * hertz * k * part) / k for k in (1, 2, 3, 4)) * np.exp(
                -3 * part
            )
    return found


def coloured(seed: int, slope: float) -> np.ndarray:
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(len(SECONDS)))
    return np.fft.irfft(spectrum * np.maximum(1, np.arange(len(spectrum))) ** (-slope / 2), len(SECONDS))


def scaled(samples: np.ndarray, level_db: float) -> np.ndarray:
    return (samples / np.abs(samples).max() * 10 ** (level_db / 20)).astype(np.float32)


SOUNDS = st.one_of(
    st.builds(tone, st.floats(60, 6000)),
    st.builds(chords, st.integers(0, 99)),
    st.builds(coloured, st.integers(0, 99), st.floats(0, 2)),
)


@given(sound=SOUNDS, level_db=st.floats(-40, 0))
@settings(max_examples=30, deadline=None)
def test_tones_chords_and_noise_are_no_speech(sound: np.ndarray, level_db: float) -> None:
    assert state_of(scaled(sound, level_db), RATE, 1.0) == "no_speech"


@pytest.mark.parametrize("seconds", [0.16, 0.5, 3.0])
def test_silence_is_no_speech(seconds: float) -> None:
    assert state_of(np.zeros(round(seconds * RATE), np.float32), RATE, 1.0) == "no_speech"


def test_ten_milliseconds_are_too_short() -> None:
    assert state_of(scaled(tone(200)[:160], 0), RATE, 1.0) == "too_short"
    assert state_of(scaled(tone(200)[:160], 0), RATE, 1.0, checked=False) == "sure"


def syllables(seed: int) -> np.ndarray:
    """A gliding pitch through two moving resonances, four syllables a second."""
    random = np.random.default_rng(seed)
    pitch = 150 * 2 ** (0.5 * np.sin(2 * np.pi * 1.1 * SECONDS + random.uniform(0, 6)))
    phase, found = 2 * np.pi * np.cumsum(pitch) / RATE, np.zeros(len(SECONDS))
    first = 500 + 250 * np.sin(2 * np.pi * 2.3 * SECONDS)
    second = 1600 + 600 * np.sin(2 * np.pi * 3.1 * SECONDS)
    for k in range(1, 25):
        gain = 1 / (1 + ((k * pitch - first) / 100) ** 2) + 0.5 / (1 + ((k * pitch - second) / 150) ** 2)
        found += gain * np.sin(k * phase)
    return found * np.clip(np.sin(2 * np.pi * 4 * SECONDS) + 0.4, 0.01, None)


@given(seed=st.integers(0, 99), level_db=st.floats(-40, 0))
@settings(max_examples=10, deadline=None)
def test_a_voice_is_speech_at_every_level(seed: int, level_db: float) -> None:
    samples = scaled(syllables(seed), level_db)
    assert state_of(samples, RATE, 0.9) == "sure"
    assert state_of(samples, RATE, 0.3) == "uncertain"


@pytest.mark.slow
@pytest.mark.skipif("EDGESER_CORPORA" not in os.environ, reason="needs the corpora")
@pytest.mark.parametrize("files", ["ravdess/Actor_1[12]/*.flac", "emodb/wav/*.flac", "urdu/*/*_F1[0-4]_*.flac"])
def test_at_most_three_in_a_hundred_clips_are_refused(files: str) -> None:
    paths = sorted(Path(os.environ["EDGESER_CORPORA"]).glob(files))
    heard = [is_speech(trim_silence(read_audio(path, RATE), 40.0), RATE) for path in paths]
    assert len(heard) > 20
    assert np.mean(heard) >= 0.97
