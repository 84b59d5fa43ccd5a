"""Views in torch: the bits of ``render``, and a gradient to the items."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgeser.distill.optimise import views_of
from edgeser_device.data.views import Mixing, Recipes, mixed_recipes, plain_recipes, render

ITEMS = np.random.default_rng(0).standard_normal((5, 12, 20)).astype(np.float32)
WIDE = Mixing(cut_share=0.5, stretch=0.6, mel_shift=11, contrast=0.8, gain=1.5, noise=0.7)


@pytest.mark.parametrize(
    "recipes",
    [
        plain_recipes(5),
        mixed_recipes(5, 200, 20, seed=0),
        mixed_recipes(5, 200, 20, seed=1, mixing=WIDE),
        mixed_recipes(5, 200, 20, seed=2, mixing=Mixing(cut_share=1.0)),
        mixed_recipes(5, 200, 20, seed=3, mixing=Mixing(cut_share=0.0, stretch=0.0)),
    ],
    ids=["plain", "mixed", "wide", "cut", "without stretch"],
)
def test_views_have_the_bits_of_render(recipes: Recipes) -> None:
    indices = np.random.default_rng(1).integers(0, len(recipes), 150)
    found = views_of(torch.from_numpy(ITEMS), recipes, indices)
    assert found.dtype == torch.float32
    assert np.array_equal(found.numpy(), render(ITEMS, recipes, indices))


def test_the_gradient_is_that_of_finite_differences() -> None:
    """A view is linear in its items, so finite differences are exact up to rounding."""
    recipes = mixed_recipes(3, 40, 8, seed=0, mixing=WIDE)
    items = torch.from_numpy(np.random.default_rng(2).standard_normal((3, 6, 8))).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: views_of(x, recipes, np.arange(40)), items)
