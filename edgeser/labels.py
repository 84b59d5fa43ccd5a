"""Label banks: which views of the items a student sees, and their soft labels.

    recipes, labels = make_bank(items, classes, ensemble, BankPlan("bank", views=64, temperature=2.0, seed=0))

The kinds differ in where the labels come from, and in how widely views vary: what the experts are asked about may be
far from its item, but a label that belongs to an item holds only near it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from edgeser.experts import Ensemble
from edgeser.training import Augmentation
from edgeser_device.views import PLAIN, WEIGHT_UNIT, Mixing, Recipes, mixed_recipes, plain_recipes, render

AS_CLIPS = Mixing(
    beta=Augmentation.mixup,
    cut_share=0.0,
    stretch=0.0,
    mel_shift=0,
    contrast=0.0,
    gain=Augmentation.gain,
    shift=Augmentation.shift,
)
"""Views that vary as much as real clips do when a student learns them."""
MIXING: Mapping[str, Mixing] = MappingProxyType({"hard": AS_CLIPS, "soft": AS_CLIPS, "bank": Mixing()})
"""How widely the views of each kind of labels vary."""


@dataclass(frozen=True)
class BankPlan:
    """How a bank is made.

    Attributes:
        kind: A row of ``LABELS`` and of ``MIXING``.
        views: Views for each item; 1 is the plain case, one untouched view an item.
        temperature: Of the experts' soft labels.
        seed: Of the recipes.
    """

    kind: str
    views: int
    temperature: float
    seed: int


Labels = NDArray[np.float32]
Labeller = Callable[[NDArray[np.float32], NDArray[np.int64], Recipes, Ensemble, float], Labels]
"""(items, class of each, recipes, experts, temperature) to soft labels, float32 (views, classes)."""


def make_bank(
    items: NDArray[np.float32], classes: NDArray[np.int64], ensemble: Ensemble, plan: BankPlan
) -> tuple[Recipes, NDArray[np.float16]]:
    """Recipes of all views and their labels, float16 (views, classes).

    Args:
        items: As they are stored, dequantised: float32 (items, mels, frames).
        classes: Class of each item.
        ensemble: The experts.
        plan: How many views, and how they are drawn and labelled.
    """
    count, _, frames = items.shape
    recipes = bank_recipes(count, frames, plan)
    labels = LABELS[plan.kind](items, classes, recipes, ensemble, plan.temperature)
    return recipes, labels.astype(np.float16)


def bank_recipes(items: int, frames: int, plan: BankPlan) -> Recipes:
    """The recipes of a bank over ``items`` items of ``frames`` frames."""
    if plan.views == 1:
        return plain_recipes(items)
    return mixed_recipes(items, plan.views * items, frames, plan.seed, MIXING[plan.kind])


def _hard(
    _items: NDArray[np.float32], classes: NDArray[np.int64], recipes: Recipes, ensemble: Ensemble, _temperature: float
) -> Labels:
    width = ensemble.graph.shapes[ensemble.graph.output][0]
    return _mixed(np.eye(width, dtype=np.float32)[classes], recipes)


def _soft(
    items: NDArray[np.float32], _classes: NDArray[np.int64], recipes: Recipes, ensemble: Ensemble, temperature: float
) -> Labels:
    return _mixed(ensemble.soft_labels(items[:, None], temperature), recipes)


def _bank(
    items: NDArray[np.float32], _classes: NDArray[np.int64], recipes: Recipes, ensemble: Ensemble, temperature: float
) -> Labels:
    pieces = np.array_split(np.arange(len(recipes)), max(1, len(recipes) // 512))
    return np.concatenate([ensemble.soft_labels(render(items, recipes, piece), temperature) for piece in pieces])


LABELS: Mapping[str, Labeller] = MappingProxyType({"hard": _hard, "soft": _soft, "bank": _bank})
"""hard: the items' classes, mixed as the views are; soft: one expert label an item, mixed; bank: one a view."""


def _mixed(labels: Labels, recipes: Recipes) -> Labels:
    share = np.where(recipes.mode != PLAIN, recipes.weight / WEIGHT_UNIT, 1.0).astype(np.float32)[:, None]
    return share * labels[recipes.item] + (1 - share) * labels[recipes.partner]
