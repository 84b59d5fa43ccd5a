"""Views of distilled items: recipes stored as small integers, rendered the same bit for bit on every machine.

    recipes = plain_recipes(items=48)                 # one untouched view an item
    recipes = mixed_recipes(items=48, views=3072, frames=96, seed=0)
    batch = render(items, recipes, indices)           # (batch, 1, mels, frames), float32

A view is made of one item, or of an item and a partner: each is shifted in time (circularly), stretched in time
(linear interpolation between frames), shifted by whole mel bands (the edge band repeats); the two are added with a
weight, or joined at a cut in time; the result is scaled (contrast) and raised (gain), and noise may be added. Recipes
are stored instead of a seed because random streams change between versions. Every floating-point step is one float32
addition or multiplication in a fixed order; positions, and noise before it is scaled, are computed in integers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from edgeser_device.errors import DistilledSetError

PLAIN, MIX, CUT = 0, 1, 2
"""Values of ``mode``: the item alone, a weighted sum with the partner, or the item before the partner in time."""
WEIGHT_UNIT = 256
STRETCH_UNIT = 256
CONTRAST_UNIT = 128
GAIN_UNIT = 64
NOISE_UNIT = 64


@dataclass(frozen=True)
class Recipes:
    """One array a field, each of shape (views,).

    Attributes:
        item: Index of the item, uint16.
        partner: Index of the second item, uint16; not read where ``mode`` is PLAIN.
        mode: PLAIN, MIX or CUT, uint8.
        weight: The item's share in 1/256: of the sum (MIX), or of the frames (CUT), uint8.
        shift: Frames by which the item is moved later, circularly, int16.
        partner_shift: Frames by which the partner is moved later, int16.
        stretch: The item is played (256 + stretch) / 256 times as fast about its middle, int8.
        partner_stretch: Change of the partner's speed, int8.
        mel_shift: Bands by which the item is moved up, int8.
        partner_mel_shift: Bands by which the partner is moved up, int8.
        contrast: The view is multiplied by (128 + contrast) / 128, int8.
        gain: gain / 64 is added to the view, in standard deviations of the corpus, int8.
        noise: Uniform noise with a standard deviation of noise / 64 is added, which the view's number decides, uint8.
    """

    item: NDArray[np.uint16]
    partner: NDArray[np.uint16]
    mode: NDArray[np.uint8]
    weight: NDArray[np.uint8]
    shift: NDArray[np.int16]
    partner_shift: NDArray[np.int16]
    stretch: NDArray[np.int8]
    partner_stretch: NDArray[np.int8]
    mel_shift: NDArray[np.int8]
    partner_mel_shift: NDArray[np.int8]
    contrast: NDArray[np.int8]
    gain: NDArray[np.int8]
    noise: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.item)

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """The arrays by name, in the order of the fields; the noise is left out where no view has any."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return found if self.noise.any() else {name: found[name] for name in found if name != "noise"}

    @classmethod
    def from_columns(cls, columns: Mapping[str, NDArray[np.generic]], items: int) -> Recipes:
        """The inverse of :meth:`columns`, for a set of ``items`` items.

        Raises:
            DistilledSetError: A column is missing, has another type or length, or names an item that does not exist.
        """
        length = len(columns["item"]) if "item" in columns else 0
        columns = {"noise": np.zeros(length, np.uint8), **columns}
        for name, dtype in DTYPES.items():
            column = columns.get(name)
            if column is None or column.dtype != dtype or column.shape != (length,) or length == 0:
                raise DistilledSetError(
                    f"the view recipes' column {name!r} is missing or malformed", "pack the kit again with this version"
                )
        recipes = cls(**{name: columns[name] for name in DTYPES})  # type: ignore[arg-type]
        if max(recipes.item.max(), recipes.partner.max()) >= items or recipes.mode.max() > CUT:
            raise DistilledSetError(
                f"a view recipe names an item beyond the {items} stored ones, or an unknown mode", "pack the kit again"
            )
        return recipes


DTYPES: Mapping[str, np.dtype[np.generic]] = {
    **dict.fromkeys(("item", "partner"), np.dtype(np.uint16)),
    **dict.fromkeys(("mode", "weight"), np.dtype(np.uint8)),
    **dict.fromkeys(("shift", "partner_shift"), np.dtype(np.int16)),
    **dict.fromkeys(("stretch", "partner_stretch", "mel_shift", "partner_mel_shift"), np.dtype(np.int8)),
    **dict.fromkeys(("contrast", "gain"), np.dtype(np.int8)),
    "noise": np.dtype(np.uint8),
}


@dataclass(frozen=True)
class Mixing:
    """The ranges in which the recipes of a label bank are drawn; the defaults are the ones measured best.

    Attributes:
        beta: Both parameters of the Beta distribution of the weight; below 1 most views are nearly one item.
        cut_share: Share of the views that are joined in time instead of summed.
        stretch: Largest change of speed, as a natural logarithm.
        mel_shift: Largest shift in mel bands.
        contrast: Standard deviation of the logarithm of the scale.
        gain: Standard deviation of the added level, in standard deviations of the corpus.
        shift: Largest circular shift in frames, half the frames at most; None is the whole circle.
        noise: Standard deviation of the noise on every number, in standard deviations of the corpus.
    """

    beta: float = 0.4
    cut_share: float = 0.25
    stretch: float = 0.2
    mel_shift: int = 3
    contrast: float = 0.1
    gain: float = 0.2
    shift: int | None = None
    noise: float = 0.0


def plain_recipes(items: int) -> Recipes:
    """One untouched view an item, in the order of the items."""
    columns = {name: np.zeros(items, dtype) for name, dtype in DTYPES.items()}
    columns["item"] = columns["partner"] = np.arange(items, dtype=np.uint16)
    return Recipes(**columns)


def mixed_recipes(items: int, views: int, frames: int, seed: int, mixing: Mixing = Mixing()) -> Recipes:
    """Recipes of a label bank: items in turn, each with a random partner (mixup, Zhang et al. 2018, arXiv 1710.09412).

    Args:
        items: Number of items, 1 to 65535.
        views: Number of views in all.
        frames: Frames in one item.
        seed: Decides the draw; the drawn integers are what is stored.
        mixing: The ranges to draw in.
    """
    random = np.random.default_rng([seed, 0xB14])
    draw = {name: np.zeros(views, dtype) for name, dtype in DTYPES.items()}
    draw["item"] = (np.arange(views) % items).astype(np.uint16)
    draw["partner"] = random.integers(0, items, views, dtype=np.uint16)
    draw["mode"] = np.where(random.random(views) < mixing.cut_share, CUT, MIX).astype(np.uint8)
    widest = frames // 2 if mixing.shift is None else min(mixing.shift, frames // 2)
    weight = random.beta(mixing.beta, mixing.beta, views) * WEIGHT_UNIT
    draw["weight"] = np.minimum(weight, WEIGHT_UNIT - 1).astype(np.uint8)
    for side in ("", "partner_"):
        draw[f"{side}shift"] = random.integers(-widest, widest + 1, views).astype(np.int16)
        speed = np.exp(random.uniform(-mixing.stretch, mixing.stretch, views))
        draw[f"{side}stretch"] = _whole((speed - 1) * STRETCH_UNIT)
        draw[f"{side}mel_shift"] = random.integers(-mixing.mel_shift, mixing.mel_shift + 1, views).astype(np.int8)
    draw["contrast"] = _whole((np.exp(mixing.contrast * random.standard_normal(views)) - 1) * CONTRAST_UNIT)
    draw["gain"] = _whole(mixing.gain * random.standard_normal(views) * GAIN_UNIT)
    draw["noise"] = np.full(views, round(mixing.noise * NOISE_UNIT), np.uint8)
    return Recipes(**draw)


def render(items: NDArray[np.float32], recipes: Recipes, indices: NDArray[np.integer]) -> NDArray[np.float32]:
    """The chosen views.

    Args:
        items: Normalised log-mels, shape (items, mels, frames), float32.
        recipes: Recipes over these items.
        indices: The views' places among the recipes, shape (batch,).

    Returns:
        Shape (batch, 1, mels, frames), float32.
    """
    _, mels, frames = items.shape
    if frames == 1 and not any(getattr(recipes, name).any() for name in _MOVES):
        out = _render_vectors(items, recipes, indices)
    else:
        out = _render_maps(items, recipes, indices)
    return out + noise_of(recipes, indices, mels, frames) if recipes.noise.any() else out


def _render_maps(items: NDArray[np.float32], recipes: Recipes, indices: NDArray[np.integer]) -> NDArray[np.float32]:
    """The chosen views without their noise, one after the other."""
    _, mels, frames = items.shape
    out = np.empty((len(indices), 1, mels, frames), dtype=np.float32)
    for place, view in enumerate(np.asarray(indices)):
        picture = _moved(items, recipes, view)
        mode = recipes.mode[view]
        if mode != PLAIN:
            partner = _moved(items, recipes, view, of="partner_")
            if mode == MIX:
                share = np.float32(int(recipes.weight[view]) / WEIGHT_UNIT)
                picture = picture * share + partner * (np.float32(1) - share)
            else:
                first = int(recipes.weight[view]) * frames // WEIGHT_UNIT
                picture = np.concatenate((picture[:, :first], partner[:, first:]), axis=1)
        scaled = picture * np.float32((CONTRAST_UNIT + int(recipes.contrast[view])) / CONTRAST_UNIT)
        np.add(scaled, np.float32(int(recipes.gain[view]) / GAIN_UNIT), out=out[place, 0])
    return out


def noise_of(recipes: Recipes, indices: NDArray[np.integer], mels: int, frames: int) -> NDArray[np.float32]:
    """The noise of the chosen views, uniform, float32 (batch, 1, mels, frames).

    A number's random bits are its view and place, mixed as SplitMix64 does (Steele et al. 2014).
    """
    chosen = np.asarray(indices)
    place = np.arange(mels * frames, dtype=np.uint64) + chosen.astype(np.uint64)[:, None] * np.uint64(mels * frames)
    word = (place + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        word = (word ^ (word >> np.uint64(shift))) * np.uint64(factor)
    whole = ((word ^ (word >> np.uint64(31))) >> np.uint64(40)).astype(np.float32) - np.float32(1 << 23)
    scale = (recipes.noise[chosen] * (3**0.5 / (NOISE_UNIT << 23))).astype(np.float32)
    return (whole * scale[:, None]).reshape(-1, 1, mels, frames)


_MOVES = tuple(f"{of}{move}" for of in ("", "partner_") for move in ("shift", "stretch", "mel_shift"))


def _render_vectors(items: NDArray[np.float32], recipes: Recipes, indices: NDArray[np.integer]) -> NDArray[np.float32]:
    """The chosen views, without their noise, of items with one column that are not moved: all of them at once."""

    def column(values: NDArray[np.floating] | NDArray[np.integer]) -> NDArray[np.float32]:
        return values.astype(np.float32)[:, None, None]

    mode, weight = recipes.mode[indices], recipes.weight[indices].astype(np.float64)
    views: NDArray[np.float32] = items[recipes.item[indices]]
    share = column(np.where(mode == MIX, weight / WEIGHT_UNIT, 1.0))
    mixed = views * share + items[recipes.partner[indices]] * (np.float32(1) - share)
    # A cut leaves one column to the partner unless all of it is the item's, which no weight says.
    views = np.where((mode == MIX)[:, None, None], mixed, views)
    views = np.where((mode == CUT)[:, None, None], items[recipes.partner[indices]], views)
    views = views * column((CONTRAST_UNIT + recipes.contrast[indices].astype(np.float64)) / CONTRAST_UNIT)
    return (views + column(recipes.gain[indices].astype(np.float64) / GAIN_UNIT))[:, None]


def _moved(items: NDArray[np.float32], recipes: Recipes, view: int, of: str = "") -> NDArray[np.float32]:
    """One item shifted in mel bands, then read at the positions ((t - T/2) speed + T/2 - shift) modulo T."""
    _, mels, frames = items.shape
    item = (recipes.partner if of else recipes.item)[view]
    shift, stretch, mel_shift = (int(getattr(recipes, f"{of}{n}")[view]) for n in ("shift", "stretch", "mel_shift"))
    bands = np.clip(np.arange(mels) - mel_shift, 0, mels - 1)
    source = items[item].take(bands, axis=0)
    unit = 2 * STRETCH_UNIT
    ticks = (2 * np.arange(frames) - frames) * (STRETCH_UNIT + stretch)
    ticks += frames * STRETCH_UNIT - shift * unit
    before = (ticks // unit) % frames
    earlier: NDArray[np.float32] = source.take(before, axis=1)
    if stretch == 0:
        return earlier
    later = ((ticks % unit) / unit).astype(np.float32)
    following: NDArray[np.float32] = source.take((before + 1) % frames, axis=1)
    return np.asarray(earlier * (np.float32(1) - later) + following * later)


def _whole(values: NDArray[np.float64]) -> NDArray[np.int8]:
    return np.clip(np.rint(values), -127, 127).astype(np.int8)
