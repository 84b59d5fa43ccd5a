"""Is it speech: what a clip must have before an emotion is named, one rule for files and for what is listened to.

    state_of(samples, 16000, confidence=0.8)        # "sure", "uncertain", "no_speech" or "too_short"

A voice has a pitch that moves, an envelope that moves with it, and a level that rises and falls with the syllables. A
tone has no movement, noise has no pitch, and of music both stand still from one note to the next. Four numbers say how
much of each there is; their weights were fitted by logistic regression to acted and natural speech in three languages
and to synthetic tones, noises, music and machines. No package and no network is needed.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

State: TypeAlias = Literal["sure", "uncertain", "no_speech", "too_short"]
"""An emotion is probable enough; none is; nobody speaks; the sound is too short to tell."""
NAMED: tuple[State, ...] = ("sure", "uncertain")
"""The states in which an emotion is named."""
LEAST_CONFIDENCE = 0.5
"""Probability below which an emotion is uncertain."""
SHORTEST_SECONDS = 0.15
"""Shorter sound names no emotion: it is less than a syllable."""
FRAME_SECONDS, HOP_SECONDS = 0.04, 0.016
"""Length and distance of frames: two periods of the lowest voice are in one."""
AHEAD = 4
"""Frames from one envelope to the one that it is compared with."""
AT_ONCE = 256
"""Frames that are computed together."""
SOUNDING_DB, LEAST_DB = 30.0, -75.0
"""A frame counts when it is at most so far below the loudest ones, and above what a microphone hears of any speech."""
LOWEST, HIGHEST = 70.0, 500.0
"""Pitches in Hz that are looked for."""
VOICED = 0.6
"""Autocorrelation at the pitch, 0 to 1, from which a frame is voiced."""
GLIDE = 0.002, 0.12
"""Change of the pitch from one frame to the next, as a share, that a voice makes: less is a tone, more is a jump."""
MOVES_DB = 2.0
"""Change of the envelope above which it moves; noise of one colour stays below it."""
PURE = 0.95
"""Share of a frame's power in its eight largest bins above which it is a pure tone."""
MOST_SWING_DB = 8.0
"""Level swings count up to here: clicks have larger ones than speech."""
WEIGHTS, BIAS = (10.962, 0.411, 0.664, 0.22), -7.974
"""Weights of the four numbers; the bias refuses one in a hundred of the clips of the training speakers."""

Floats: TypeAlias = NDArray[np.float64]


def state_of(
    samples: NDArray[np.float32], rate: int, confidence: float, least: float = LEAST_CONFIDENCE, checked: bool = True
) -> State:
    """What may be said of a clip.

    Args:
        samples: The clip without its silent edges, float32 (n,), full scale 1.0.
        rate: Its sampling rate in Hz.
        confidence: The largest probability of an emotion, 0 to 1.
        least: Probability below which an emotion is uncertain.
        checked: False takes every sound for speech.
    """
    if checked and len(samples) < SHORTEST_SECONDS * rate:
        return "too_short"
    if checked and not is_speech(samples, rate):
        return "no_speech"
    return "sure" if confidence >= least else "uncertain"


def is_speech(samples: NDArray[np.float32], rate: int) -> bool:
    """Whether a clip, float32 (n,), its silent edges cut, holds enough of a voice; see the module."""
    length, hop = round(FRAME_SECONDS * rate), round(HOP_SECONDS * rate)
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, (0, max(0, length - len(samples)))), length)[
        ::hop
    ]
    starts = range(0, len(frames), AT_ONCE)
    parts = [_measure(frames[start : start + AT_ONCE].astype(np.float64), rate) for start in starts]
    level, strength, lag, pure = (np.concatenate([part[number] for part in parts]) for number in range(4))
    envelope = np.concatenate([part[4] for part in parts])
    sounding = level > max(float(np.percentile(level, 98)) - SOUNDING_DB, LEAST_DB)
    if not sounding.any():
        return False
    moves, glides = np.zeros(len(level)), np.zeros(len(level))
    moves[:-AHEAD] = np.sqrt(((envelope[AHEAD:] - envelope[:-AHEAD]) ** 2).mean(axis=1))
    glides[:-1] = np.abs(np.log(lag[1:] / lag[:-1]))
    voiced = sounding & (strength > VOICED)
    spoken = voiced & (glides > GLIDE[0]) & (glides < GLIDE[1]) & (moves > MOVES_DB) & (pure < PURE)
    numbers = (
        spoken.sum() / sounding.sum(),
        np.log(spoken.sum() * HOP_SECONDS + 0.05),
        min(MOST_SWING_DB, level[sounding].std()),
        moves[voiced].mean() if voiced.any() else 0.0,
    )
    return bool(np.dot(WEIGHTS, numbers) + BIAS > 0)


def _measure(frames: Floats, rate: int) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Level in dB, strength and lag of the pitch, purity, and envelope in dB (frames, bands) of frames."""
    size = 1 << (frames.shape[1] - 1).bit_length()
    window = np.hanning(frames.shape[1])
    power = np.abs(np.fft.rfft(frames * window, 2 * size)) ** 2
    frequencies = np.fft.rfftfreq(2 * size, 1 / rate)
    own = np.fft.irfft(np.abs(np.fft.rfft(window, 2 * size)) ** 2)[:size]
    low = power * ((frequencies >= 80) & (frequencies <= 3000))
    found = np.fft.irfft(low)[:, :size]
    found = found / (found[:, :1] + 1e-20) / np.maximum(own / own[0], 0.05)
    lags = np.arange(int(rate / HIGHEST), int(rate / LOWEST))
    near = found[:, lags[0] - 1 : lags[-1] + 2]
    before, middle, after = near[:, :-2], near[:, 1:-1], near[:, 2:]
    peaks = np.where((middle >= before) & (middle >= after), middle, -1.0)
    best = (peaks - 0.05 * np.log2(lags / lags[0])).argmax(axis=1)
    rows = np.arange(len(best))
    left, top, right = before[rows, best], middle[rows, best], after[rows, best]
    bend = (left - right) / (2 * (left - 2 * top + right) - 1e-12)
    strength = np.clip(peaks[rows, best], 0, 1)
    power = power[:, ::2]
    total = power.sum(axis=1)
    level = 10 * np.log10(total / (frames.shape[1] * size / 2 * 0.375) + 1e-12)
    largest = np.partition(power, -8, axis=1)[:, -8:].sum(axis=1)
    envelope = 10 * np.log10(power @ _bands(rate, size).T + 1e-10 * total[:, None] + 1e-12)
    envelope = np.maximum(envelope, envelope.max(axis=1, keepdims=True) - 50)
    envelope -= envelope.mean(axis=1, keepdims=True)
    return level, strength, lags[best] + np.clip(bend, -1, 1), largest / (total + 1e-20), envelope


def _bands(rate: int, size: int, count: int = 18) -> Floats:
    """Triangles on the mel scale from 100 to 6,500 Hz, (bands, bins)."""
    frequencies = np.fft.rfftfreq(size, 1 / rate)
    first, last = (2595 * float(np.log10(1 + hertz / 700)) for hertz in (100, 6500))
    edges = 700 * (10 ** (np.linspace(first, last, count + 2) / 2595) - 1)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (frequencies - low) / (middle - low), (high - frequencies) / (high - middle)
    found: Floats = np.maximum(0, np.minimum(rising, falling))
    return found
