"""Several log-mels in the room of one: fewer bits a value, fewer mel bands, fewer frames.

    levels, scale, offset = fold(log_mels, 4)        # on the host, when a set is stored: bytes
    log_mels = unfold(levels, scale, offset, 4)      # on host and board alike, when views are rendered

A log-mel as 64 x 96 bytes is finer than a student needs: what tells emotions apart is smooth in time and over the
bands, and views vary the items by more than what is lost. ``FORMATS`` says what each number of log-mels costs.
Multi-formation of Kim et al. 2022 (IDC, arXiv 2205.14959), over the bands and the bits too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

Levels = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Format:
    """The storage of one of several log-mels in an item.

    Attributes:
        time: Frames that share a coarse one.
        bands: Mel bands that share a coarse one.
        bits: Bits of a value: 8, or 4, of which two share a byte.
    """

    time: int = 1
    bands: int = 1
    bits: int = 8


FORMATS: Mapping[int, Format] = MappingProxyType(
    {
        1: Format(),
        2: Format(bits=4),
        4: Format(bands=2, bits=4),
        8: Format(bands=2, time=2, bits=4),
    }
)
"""Log-mels in an item to how each is stored, together always as many bytes as one plain log-mel."""
RANGES = np.linspace(1.0, 0.5, 11)
"""Shares of the range of a log-mel that are tried for its levels: what lies beyond is clipped."""


def fits(samples_per_item: int, mels: int, frames: int) -> bool:
    """Whether items of ``mels`` bands and ``frames`` frames can hold so many log-mels."""
    return (
        samples_per_item in FORMATS
        and mels % FORMATS[samples_per_item].bands == 0
        and frames % FORMATS[samples_per_item].time == 0
    )


def unfold(levels: Levels, scale: Floats, offset: Floats, samples_per_item: int) -> Floats:
    """The log-mels that items hold, interpolated linearly to all bands and frames.

    Products and sums of float32 in a fixed order: the same bits on every machine.

    Args:
        levels: The items' bytes, uint8 (items, mels, frames).
        scale: Size of one level of each log-mel, float32 (items x samples_per_item,).
        offset: Its lowest value, likewise.
        samples_per_item: Log-mels in each item, a key of ``FORMATS``.

    Returns:
        Float32 (items x samples_per_item, mels, frames), those of the first item first.
    """
    _, mels, frames = levels.shape
    form = FORMATS[samples_per_item]
    values = _values(levels, form.bits).reshape(-1, mels // form.bands, frames // form.time)
    return _fine(_restored(values, scale, offset), form)


def fold(log_mels: Floats, samples_per_item: int) -> tuple[Levels, Floats, Floats]:
    """The bytes of which :func:`unfold` makes what is near to these log-mels.

    Coarse values by least squares; of the ranges in ``RANGES`` each log-mel has the one with the least error.

    Args:
        log_mels: Float32 (items x samples_per_item, mels, frames), finite, those of the first item first.
        samples_per_item: Log-mels in one item, a key of ``FORMATS`` that :func:`fits`.

    Returns:
        levels uint8 (items, mels, frames); scale and offset, float32 (items x samples_per_item,).
    """
    _, mels, frames = log_mels.shape
    form = FORMATS[samples_per_item]
    coarse = log_mels if form.time == form.bands == 1 else _coarse(log_mels, form)
    tried = [quantise(coarse, 2**form.bits - 1, share) for share in (RANGES if form.bits < 8 else RANGES[:1])]
    errors = [np.square(_restored(*each) - coarse).sum((1, 2)) for each in tried]
    best, every = np.argmin(errors, axis=0), np.arange(len(coarse))
    values, scale, offset = (np.stack(parts)[best, every] for parts in zip(*tried, strict=True))
    return _bytes(values, form.bits).reshape(-1, mels, frames), scale, offset


def quantise(values: Floats, largest: int = 255, share: float = 1.0) -> tuple[Levels, Floats, Floats]:
    """Log-mels as whole levels, each over its own range.

    Args:
        values: Float32 (log-mels, mels, frames), finite.
        largest: The highest level; the lowest is 0.
        share: Share of the range, about its middle, that the levels span; what lies beyond is clipped.

    Returns:
        levels uint8 (log-mels, mels, frames), scale float32 (log-mels,) and offset float32 (log-mels,).
    """
    lowest, highest = values.min(axis=(1, 2)), values.max(axis=(1, 2))
    offset = (lowest + (highest - lowest) * np.float32((1 - share) / 2)).astype(np.float32)
    scale = np.maximum((highest - lowest) * np.float32(share) / np.float32(largest), 1e-8).astype(np.float32)
    levels = np.clip(np.rint((values - offset[:, None, None]) / scale[:, None, None]), 0, largest)
    return levels.astype(np.uint8), scale, offset


def blur(log_mels: Floats, samples_per_item: int) -> Floats:
    """Log-mels after coarse bands and frames, their values not rounded; a second time changes nothing more.

    Args:
        log_mels: Float32 (any number, mels, frames).
        samples_per_item: A key of ``FORMATS``.
    """
    form = FORMATS[samples_per_item]
    if form.time == form.bands == 1:
        return log_mels
    return _fine(_coarse(log_mels, form), form)


def _restored(values: Levels, scale: Floats, offset: Floats) -> Floats:
    """The values that levels stand for, float32."""
    return values.astype(np.float32) * scale[:, None, None] + offset[:, None, None]


def _fine(coarse: Floats, form: Format) -> Floats:
    """Coarse values interpolated linearly to all bands and frames, float32 (log-mels, mels, frames)."""
    over_bands = _stretched(_stretched(coarse, form.time).swapaxes(1, 2), form.bands)
    return np.ascontiguousarray(over_bands.swapaxes(1, 2))


def _coarse(log_mels: Floats, form: Format) -> Floats:
    """Least-squares coarse values, float32 (log-mels, mels // bands, frames // time)."""
    _, mels, frames = log_mels.shape
    over_time = np.linalg.pinv(_interpolation(frames, form.time))
    over_bands = np.linalg.pinv(_interpolation(mels, form.bands))
    return np.asarray(over_bands @ log_mels.astype(np.float64) @ over_time.T, dtype=np.float32)


def _stretched(coarse: Floats, factor: int) -> Floats:
    """The last axis interpolated linearly to ``factor`` times as many values."""
    if factor == 1:
        return coarse
    before, after, share = _neighbours(coarse.shape[-1] * factor, factor)
    return np.asarray(coarse[..., before] * (np.float32(1) - share) + coarse[..., after] * share)


def _values(levels: Levels, bits: int) -> Levels:
    """Bytes as values of 8 or 4 bits, the lower half of a byte first."""
    if bits == 8:
        return levels
    return np.stack([levels & 15, levels >> 4], axis=-1)


def _bytes(values: Levels, bits: int) -> Levels:
    """The inverse of :func:`_values`, in one dimension."""
    flat = values.reshape(-1)
    return flat if bits == 8 else np.bitwise_or(flat[0::2], np.left_shift(flat[1::2], np.uint8(4)))


def _neighbours(count: int, factor: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """For each fine place the coarse places before and after it, and the share of the latter."""
    coarse = count // factor
    twice = 2 * np.arange(count) + 1 - factor  # the place, times twice the factor: in integers
    before = twice // (2 * factor)
    share = ((twice - 2 * factor * before) / (2 * factor)).astype(np.float32)
    return np.clip(before, 0, coarse - 1), np.clip(before + 1, 0, coarse - 1), share


def _interpolation(count: int, factor: int) -> NDArray[np.float64]:
    """The matrix from coarse places to fine ones, float64 (count, count // factor)."""
    before, after, share = _neighbours(count, factor)
    matrix = np.zeros((count, count // factor))
    np.add.at(matrix, (np.arange(count), before), 1 - share)
    np.add.at(matrix, (np.arange(count), after), share)
    return matrix
