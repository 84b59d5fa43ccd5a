"""Adam on plain arrays, its moments kept in a method's state, so that a resumed run goes on with the same bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgeser.distill.method import State
from edgeser_device.data.views import CONTRAST_UNIT, CUT, GAIN_UNIT, MIX, STRETCH_UNIT, WEIGHT_UNIT, Recipes, noise_of

FIRST, SECOND = 0.9, 0.99
"""Decay of the mean and of the mean square of the gradients."""


def with_moments(state: State, learnt: Sequence[str]) -> State:
    """The state with empty moments for the arrays named in ``learnt``."""
    moments = {f"{kind}.{name}": np.zeros_like(state[name]) for name in learnt for kind in ("first", "second")}
    return {**state, **moments}


def adam_step(
    state: State,
    gradients: Mapping[str, NDArray[np.float32]],
    rates: Mapping[str, float],
    count: int,
    decay: tuple[float, float] = (FIRST, SECOND),
) -> dict[str, NDArray[np.float32]]:
    """The changed arrays and moments after one step of Adam (Kingma and Ba 2015, arXiv 1412.6980).

    Args:
        state: Holds each array and its moments.
        gradients: By name of the array.
        rates: Learning rate of each.
        count: Number of this step, from 1.
        decay: Decays of the mean and of the mean square of the gradients.
    """
    mean, square = decay
    changed: dict[str, NDArray[np.float32]] = {}
    for name, gradient in gradients.items():
        first = mean * state[f"first.{name}"] + (1 - mean) * gradient
        second = square * state[f"second.{name}"] + (1 - square) * gradient**2
        step = (first / (1 - mean**count)) / (np.sqrt(second / (1 - square**count)) + 1e-8)
        changed[name] = (state[name] - rates[name] * step).astype(np.float32)
        changed[f"first.{name}"] = first.astype(np.float32)
        changed[f"second.{name}"] = second.astype(np.float32)
    return changed


def views_of(items: Tensor, recipes: Recipes, indices: NDArray[np.integer]) -> Tensor:
    """The chosen views, in float32 with the bits of ``render``.

    Args:
        items: Normalised log-mels (items, mels, frames), float32 or float64.
        recipes: Recipes over these items.
        indices: The chosen views, shape (batch,).

    Returns:
        Shape (batch, 1, mels, frames), of the items' type.
    """
    frames = items.shape[2]
    chosen = np.asarray(indices)
    mode, weight = recipes.mode[chosen], recipes.weight[chosen].astype(np.int64)
    # The share of the item in every frame: the weight of a sum, one before a cut and zero after it, one when alone.
    before_cut = np.arange(frames) < (weight * frames // WEIGHT_UNIT)[:, None]
    share = np.where(mode[:, None] == MIX, (weight / WEIGHT_UNIT)[:, None], 1.0)
    share = np.where(mode[:, None] == CUT, before_cut, share)
    own = _tensor(share, items)[:, None]
    item = _moved(items, recipes.item, recipes.shift, recipes.stretch, recipes.mel_shift, chosen)
    partner = _moved(
        items, recipes.partner, recipes.partner_shift, recipes.partner_stretch, recipes.partner_mel_shift, chosen
    )
    picture = item * own + partner * (1 - own)
    scale = (CONTRAST_UNIT + recipes.contrast[chosen].astype(np.float64)) / CONTRAST_UNIT
    level = recipes.gain[chosen] / GAIN_UNIT
    views = (picture * _tensor(scale, items)[:, None, None] + _tensor(level, items)[:, None, None])[:, None]
    if not recipes.noise.any():
        return views
    return views + torch.from_numpy(noise_of(recipes, chosen, *items.shape[1:])).to(items.dtype)


def _moved(
    items: Tensor,
    item: NDArray[np.uint16],
    shift: NDArray[np.int16],
    stretch: NDArray[np.int8],
    mel_shift: NDArray[np.int8],
    chosen: NDArray[np.integer],
) -> Tensor:
    """Items shifted in mel bands, then read at other times, as ``render`` does it; (batch, mels, frames)."""
    _, mels, frames = items.shape
    bands = np.clip(np.arange(mels) - mel_shift[chosen].astype(np.int64)[:, None], 0, mels - 1)
    unit = 2 * STRETCH_UNIT
    ticks = (2 * np.arange(frames) - frames) * (STRETCH_UNIT + stretch[chosen].astype(np.int64)[:, None])
    ticks += frames * STRETCH_UNIT - shift[chosen].astype(np.int64)[:, None] * unit
    before = (ticks // unit) % frames
    later = _tensor((ticks % unit) / unit, items)[:, None]
    source = items[torch.from_numpy(item[chosen].astype(np.int64))[:, None], torch.from_numpy(bands)]
    return _frames(source, before) * (1 - later) + _frames(source, (before + 1) % frames) * later


def _frames(source: Tensor, positions: NDArray[np.int64]) -> Tensor:
    return source.gather(2, torch.from_numpy(positions)[:, None].expand(-1, source.shape[1], -1))


def _tensor(values: NDArray[np.float64], like: Tensor) -> Tensor:
    return torch.from_numpy(values).to(like.dtype)
