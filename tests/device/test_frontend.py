"""The front-end against librosa, and streaming against the whole clip."""

from __future__ import annotations

import hypothesis.strategies as st
import librosa
import numpy as np
import pytest
from hypothesis import example, given

from edgeser_device.errors import FrontendError
from edgeser_device.frontend import (
    FrontendSpec,
    FrontendStream,
    centre_window,
    log_mel,
    mel_filters,
    normalise,
    windows,
    wrap,
)

TOLERANCE_DB = 1e-3
"""librosa computes in float32, the front-end in float64: near the floor the logarithm magnifies that."""

SPECS = (
    FrontendSpec(),
    FrontendSpec(rate=8000, n_fft=512, hop=256, mels=40, fmax=4000.0),
    FrontendSpec(rate=22050, n_fft=2048, hop=512, mels=80, fmin=0.0, fmax=11025.0),
    FrontendSpec(rate=16000, n_fft=400, hop=160, mels=26, fmin=20.0, fmax=7600.0, floor=1e-8),
    FrontendSpec(rate=44100, n_fft=1024, hop=1024, mels=32, fmax=16000.0),
)
SMALL = FrontendSpec(n_fft=256, hop=96, mels=20)


def sound(length: int, rate: int, seed: int = 0) -> np.ndarray:
    random, time = np.random.default_rng(seed), np.arange(length) / rate
    tone = np.sin(2 * np.pi * (200 + 900 * time) * time)
    return ((0.3 * tone + 0.05 * random.standard_normal(length)) * np.exp(-time)).astype(np.float32)


def oracle(samples: np.ndarray, spec: FrontendSpec) -> np.ndarray:
    power = librosa.feature.melspectrogram(
        y=samples.astype(np.float64), sr=spec.rate, n_fft=spec.n_fft, hop_length=spec.hop, n_mels=spec.mels,
        fmin=spec.fmin, fmax=spec.fmax, center=False, window="hann", power=2.0,
    )  # fmt: skip
    return librosa.power_to_db(power, ref=1.0, amin=spec.floor, top_db=None)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.rate}-{spec.n_fft}-{spec.hop}-{spec.mels}")
def test_agrees_with_librosa(spec: FrontendSpec) -> None:
    samples = sound(3 * spec.rate + 123, spec.rate)
    found, expected = log_mel(samples, spec), oracle(samples, spec)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < TOLERANCE_DB


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.rate}-{spec.n_fft}-{spec.hop}-{spec.mels}")
def test_filters_are_librosas(spec: FrontendSpec) -> None:
    expected = librosa.filters.mel(
        sr=spec.rate, n_fft=spec.n_fft, n_mels=spec.mels, fmin=spec.fmin, fmax=spec.fmax, dtype=np.float64
    )
    np.testing.assert_allclose(mel_filters(spec), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("samples", [np.zeros(4000, np.float32), np.full(4000, 1e-9, np.float32)])
def test_silence_is_the_floor(samples: np.ndarray) -> None:
    assert (log_mel(samples, FrontendSpec()) == -100).all()


HOP, PRIMES = SMALL.hop, (2, 3, 5, 7, 31, 97, 257, 1009)
pieces = st.lists(
    st.one_of(st.sampled_from((0, 1, HOP - 1, HOP, HOP + 1, 256, *PRIMES)), st.integers(0, 3000)),
    min_size=1,
    max_size=20,
)


@given(lengths=pieces)
@example(lengths=[0, 0, 0])
@example(lengths=[1] * 400)
@example(lengths=[HOP - 1, HOP + 1] * 8)
@example(lengths=[16000])
def test_streaming_is_bit_identical(lengths: list[int]) -> None:
    samples = sound(sum(lengths), SMALL.rate, seed=len(lengths))
    stream, frames, start = FrontendStream(SMALL), [], 0
    for length in lengths:
        frames.append(stream.push(samples[start : start + length]))
        start += length
    found = np.concatenate(frames, axis=1)
    expected = FrontendStream(SMALL).push(samples)
    assert found.dtype == np.float32
    assert np.array_equal(found, expected)
    if len(samples) >= SMALL.n_fft:
        assert np.array_equal(found, log_mel(samples, SMALL))


def test_two_streams_do_not_share_state() -> None:
    samples = sound(5000, 16000)
    first, second = FrontendStream(SMALL), FrontendStream(SMALL)
    first.push(samples[:1000])
    assert np.array_equal(second.push(samples), FrontendStream(SMALL).push(samples))


def test_a_clip_shorter_than_a_frame_is_padded() -> None:
    spec = FrontendSpec()
    samples = sound(300, spec.rate)
    assert np.array_equal(log_mel(samples, spec), log_mel(np.pad(samples, (0, spec.n_fft - 300)), spec))


@pytest.mark.parametrize("length", [1, 5, 95, 96, 97, 111, 112, 113, 300])
def test_windows_start_every_hop_and_are_full(length: int) -> None:
    spec = FrontendSpec()
    levels = np.arange(64 * length, dtype=np.float32).reshape(64, length)
    cut = windows(levels, spec)
    assert cut.shape == (max(1, (length - 96) // 16 + 1), 64, 96)
    if length < 96:
        assert np.array_equal(cut[0], wrap(levels, 96))
        assert np.array_equal(cut[0][:, :length], levels)
    else:
        for number, window in enumerate(cut):
            assert np.array_equal(window, levels[:, 16 * number : 16 * number + 96])


def test_centre_window() -> None:
    levels = np.tile(np.arange(101, dtype=np.float32), (64, 1))
    assert centre_window(levels, 96)[0, 0] == 2
    assert np.array_equal(centre_window(levels[:, :3], 7)[0], [0, 1, 2, 0, 1, 2, 0])


def test_normalise_keeps_float32() -> None:
    spec = FrontendSpec(mean=-40.0, std=15.0)
    found = normalise(np.full((2, 64, 96), -25.0, np.float32), spec)
    assert found.dtype == np.float32
    assert np.allclose(found, 1.0)


def test_specification_round_trip() -> None:
    spec = FrontendSpec(mean=-31.5, std=12.25)
    assert FrontendSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"rate": 0}, "rate"),
        ({"mels": 0}, "mels"),
        ({"mels": 2.5}, "mels"),
        ({"mels": True}, "mels"),
        ({"hop": 2048}, "hop"),
        ({"n_fft": 1023}, "even"),
        ({"fmax": 9000.0}, "half the rate"),
        ({"fmin": 8000.0}, "half the rate"),
        ({"floor": 0.0}, "above 0"),
        ({"std": 0.0}, "above 0"),
        ({"std": float("nan")}, "std"),
        ({"mean": "x"}, "mean"),
        ({"frames": 1 << 30}, "frames"),
    ],
)
def test_impossible_numbers_are_refused(change: dict[str, object], text: str) -> None:
    with pytest.raises(FrontendError) as caught:
        FrontendSpec.from_json(FrontendSpec().to_json() | change)
    assert text in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize("value", [None, [], {}, {"rate": 16000}, FrontendSpec().to_json() | {"colour": 1}])
def test_incomplete_descriptions_are_refused(value: object) -> None:
    with pytest.raises(FrontendError):
        FrontendSpec.from_json(value)


def test_a_band_without_a_bin_is_refused() -> None:
    with pytest.raises(FrontendError, match="holds no Fourier bin"):
        FrontendStream(FrontendSpec(n_fft=256, hop=128, mels=128))
