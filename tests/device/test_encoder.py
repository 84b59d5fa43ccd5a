"""The encoder on the board: its front-end against Whisper's formula, windows, and files that no card describes."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeser_device.encoder import FRONTEND, Encoder, EncoderCard, mel_windows, pcm_windows, powers
from edgeser_device.errors import EncoderError, FrontendError
from edgeser_export.graph.encoder_graph import whisper_graph
from edgeser_export.utilities.files import sha256
from edgeser_export.writers.onnx_encoder import write_encoder

TOLERANCE = 2e-4
"""Levels are float32 decibels before they become Whisper's, whose whole range is about 2."""


def whisper_mel(samples):
    """Whisper's log-mel with zeros instead of reflected edges, by librosa."""
    scaled = samples / np.sqrt(np.mean(samples.astype("f8") ** 2) + 1e-7)
    power = np.abs(librosa.stft(scaled, n_fft=400, hop_length=160, pad_mode="constant")) ** 2
    level = np.log10(np.maximum(librosa.filters.mel(sr=16000, n_fft=400, n_mels=80) @ power, 1e-10))[:, :-1]
    return (np.maximum(level, level.max() - 8) + 4) / 4


def sound(seconds, seed=0):
    draw = np.random.default_rng(seed)
    time = np.arange(round(seconds * 16000)) / 16000
    voice = sum(np.sin(2 * np.pi * 130 * k * time) / k for k in range(1, 20)) * (1 + np.sin(2 * np.pi * 4 * time))
    return (0.05 * voice + 0.001 * draw.normal(size=len(time))).astype(np.float32)


@pytest.mark.parametrize("seconds", [0.5, 1.4, 2.9])
def test_a_window_is_what_whisper_reads(seconds) -> None:
    samples = sound(seconds)
    ((window, real),) = mel_windows(*powers(samples), FRONTEND.frames)
    assert real == round(seconds * 100)
    np.testing.assert_allclose(window[:, :real], whisper_mel(samples), atol=TOLERANCE)
    assert not window[:, real:].any()


@settings(deadline=None, max_examples=15)
@given(gain=st.floats(0.3, 30))
def test_loudness_is_gone(gain) -> None:
    samples = sound(1.0)
    ((plain, _),), ((raised, _),) = (mel_windows(*powers(np.float32(k) * samples), 300) for k in (1, gain))
    np.testing.assert_allclose(raised, plain, atol=2e-3)


def test_long_clips_have_a_window_every_half_second() -> None:
    found = mel_windows(*powers(sound(5.26)), 300)
    assert len(found) == 1 + (526 - 300) // 50
    assert all(real == 300 for _, real in found)


def test_an_odd_number_of_frames_loses_one() -> None:
    ((_, real),) = mel_windows(*powers(sound(0.55)), 300)
    assert real == 54


def test_a_clip_without_two_tokens_is_refused() -> None:
    with pytest.raises(FrontendError, match="tokens"):
        mel_windows(*powers(sound(0.03)), 300)


def test_pcm_windows_repeat_short_clips() -> None:
    ((window, real),) = pcm_windows(np.arange(1000, dtype="f4"), 10)
    assert real == 10
    np.testing.assert_array_equal(window, np.arange(1600) % 1000)


@pytest.fixture(scope="module")
def tiny():
    graph = whisper_graph(mels=80, frames=40, width=8, heads=2, hidden=8, taps=(1,))
    draw = np.random.default_rng(0)
    data = write_encoder(graph, {n: draw.normal(0, 0.2, s).astype("f4") for n, s in graph.parameters.items()})
    card = EncoderCard("tiny", "a random one", "made here", "none", sha256(data).hexdigest(), "mel", 40, 16)
    return card, data


def test_an_encoder_gives_a_vector_a_window(tiny) -> None:
    encoder = Encoder.open(*tiny)
    assert encoder(sound(0.3)).shape == (1, 16)
    found = encoder(sound(1.4))
    assert found.shape == (3, 16)
    assert np.isfinite(found).all()


def test_a_file_that_is_no_onnx_is_refused(tiny) -> None:
    junk = b"junk" * 100
    card = EncoderCard.from_json({**tiny[0].to_json(), "sha256": sha256(junk).hexdigest()})
    with pytest.raises(EncoderError, match="refuses"):
        Encoder.open(card, junk)


@pytest.mark.parametrize(
    "change",
    [{"frames": 1}, {"size": 0}, {"input": "wav"}, {"frames": "300"}, {"more": 1}, {"size": True}, {"name": 3}],
)
def test_a_card_that_makes_no_sense_is_refused(tiny, change) -> None:
    with pytest.raises(EncoderError):
        EncoderCard.from_json({**tiny[0].to_json(), **change})


def test_a_card_without_a_field_is_refused(tiny) -> None:
    with pytest.raises(EncoderError):
        EncoderCard.from_json({key: value for key, value in tiny[0].to_json().items() if key != "licence"})
