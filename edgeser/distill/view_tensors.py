"""Views of items as a differentiable function of them: the twin of ``edgeser_device.views.render`` in torch.

views = views_of(items, recipes, indices)           # (batch, 1, mels, frames), with a gradient to the items
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgeser_device.views import CONTRAST_UNIT, CUT, GAIN_UNIT, MIX, STRETCH_UNIT, WEIGHT_UNIT, Recipes, noise_of


def views_of(items: Tensor, recipes: Recipes, indices: NDArray[np.integer]) -> Tensor:
    """The chosen views, in float32 with the bits of ``render``.

    Args:
        items: Normalised log-mels (items, mels, frames), float32 or float64.
        recipes: Recipes over these items.
        indices: Which views, shape (batch,).

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
