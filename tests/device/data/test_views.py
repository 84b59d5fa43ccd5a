"""Views: fixed bits on every machine, and what each recipe means."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from edgeser_device.data.views import CUT, DTYPES, MIX, Mixing, Recipes, mixed_recipes, noise_of, plain_recipes, render
from edgeser_device.errors import DistilledSetError

ITEMS = (np.arange(3 * 8 * 12, dtype=np.int64) * 2654435761 % 1000).astype(np.float32).reshape(3, 8, 12) / np.float32(
    250
) - 2
"""Three items of 8 bands and 12 frames, from integers, so that no random stream is trusted."""


def one(**values: int) -> Recipes:
    """The recipes of one view; everything that is not given is 0."""
    return Recipes(**{name: np.array([values.get(name, 0)], dtype) for name, dtype in DTYPES.items()})


def view(**values: int) -> np.ndarray:
    return render(ITEMS, one(**values), np.array([0]))[0, 0]


def test_golden_bytes() -> None:
    """Rendered once on x86-64 with numpy 2; every other machine must produce the same bits."""
    columns: dict[str, Any] = {name: np.zeros(24, dtype) for name, dtype in DTYPES.items()}
    number = np.arange(24)
    columns |= {
        "item": (number % 3).astype(np.uint16),
        "partner": (number * 7 % 3).astype(np.uint16),
        "mode": (number % 3).astype(np.uint8),
        "weight": (number * 37 % 256).astype(np.uint8),
        "shift": (number * 5 % 13 - 6).astype(np.int16),
        "partner_shift": (number * 3 % 13 - 6).astype(np.int16),
        "stretch": (number * 11 % 101 - 50).astype(np.int8),
        "partner_stretch": (number * 17 % 101 - 50).astype(np.int8),
        "mel_shift": (number % 7 - 3).astype(np.int8),
        "partner_mel_shift": (number * 2 % 7 - 3).astype(np.int8),
        "contrast": (number * 5 % 41 - 20).astype(np.int8),
        "gain": (number * 9 % 61 - 30).astype(np.int8),
    }
    rendered = render(ITEMS, Recipes(**columns), number)
    assert rendered.shape == (24, 1, 8, 12)
    assert sha256(rendered.astype("<f4").tobytes()).hexdigest() == GOLDEN


def test_noise_is_uniform_and_decided_by_the_number_of_the_view() -> None:
    recipes = mixed_recipes(3, 64, 12, seed=0, mixing=Mixing(noise=0.5))
    plain = replace(recipes, noise=np.zeros(64, np.uint8))
    every = np.arange(64)
    noise = render(ITEMS, recipes, every) - render(ITEMS, plain, every)
    assert noise.std() == pytest.approx(0.5, rel=0.02)
    assert np.abs(noise).max() == pytest.approx(0.5 * 3**0.5, rel=0.01)
    assert np.abs(np.corrcoef(noise.reshape(64, -1)) - np.eye(64)).max() < 0.45  # of 96 numbers each
    assert np.array_equal(render(ITEMS, recipes, every[[7, 3]]), render(ITEMS, recipes, every)[[7, 3]])
    assert sha256(noise_of(recipes, every, 8, 12).astype("<f4").tobytes()).hexdigest() == GOLDEN_NOISE
    assert Recipes.from_columns(recipes.columns(), items=3).noise.tolist() == [32] * 64
    assert "noise" not in plain.columns()


GOLDEN_NOISE = "6f621014c7cd6833c7f4045de6b6aa1ac9836be4be646dbdb4275ce1c903939e"
GOLDEN = "b17606974ae887ae87544439aea40e7404e296b5fbb45f543d6482972b7599a8"


def test_a_plain_view_is_the_item() -> None:
    rendered = render(ITEMS, plain_recipes(3), np.array([2, 0]))
    assert rendered.dtype == np.float32
    assert np.array_equal(rendered[:, 0], ITEMS[[2, 0]])


@pytest.mark.parametrize("times", [-2, -1, 1, 2])
def test_a_shift_by_the_whole_length_changes_nothing(times: int) -> None:
    assert np.array_equal(view(item=1, shift=12 * times), ITEMS[1])


@given(shift=st.integers(-100, 100))
def test_a_shift_is_circular(shift: int) -> None:
    assert np.array_equal(view(item=1, shift=shift), np.roll(ITEMS[1], shift, axis=1))


@given(weight=st.integers(0, 255), shift=st.integers(-12, 12), stretch=st.integers(-50, 50))
def test_an_item_mixed_with_itself_is_the_item(weight: int, shift: int, stretch: int) -> None:
    moved = {"shift": shift, "stretch": stretch}
    both = moved | {f"partner_{name}": value for name, value in moved.items()}
    alone = view(item=1, **moved)
    np.testing.assert_allclose(view(item=1, partner=1, mode=MIX, weight=weight, **both), alone, atol=1e-6)
    assert np.array_equal(view(item=1, partner=1, mode=CUT, weight=weight, **both), alone)


def test_a_mixture_of_nothing_is_the_partner() -> None:
    assert np.array_equal(view(item=0, partner=1, mode=MIX, weight=0), ITEMS[1])


@pytest.mark.parametrize(("weight", "frames"), [(0, 0), (64, 3), (128, 6), (255, 11)])
def test_a_cut_joins_two_items_in_time(weight: int, frames: int) -> None:
    found = view(item=0, partner=2, mode=CUT, weight=weight)
    assert np.array_equal(found[:, :frames], ITEMS[0][:, :frames])
    assert np.array_equal(found[:, frames:], ITEMS[2][:, frames:])


def test_a_mel_shift_repeats_the_edge() -> None:
    up, down = view(item=0, mel_shift=2), view(item=0, mel_shift=-2)
    assert np.array_equal(up[2:], ITEMS[0][:-2])
    assert np.array_equal(up[:2], np.repeat(ITEMS[0][:1], 2, axis=0))
    assert np.array_equal(down[:-2], ITEMS[0][2:])


def test_contrast_and_gain() -> None:
    assert np.array_equal(view(item=0, contrast=64, gain=32), ITEMS[0] * np.float32(1.5) + np.float32(0.5))


def test_a_stretch_keeps_a_constant() -> None:
    flat = np.full((1, 8, 12), 0.7, np.float32)
    recipes = one(stretch=37)
    np.testing.assert_allclose(render(flat, recipes, np.array([0]))[0, 0], flat[0], atol=1e-6)


@given(seed=st.integers(0, 1000), views=st.integers(1, 60))
def test_drawn_recipes_are_valid_and_finite(seed: int, views: int) -> None:
    recipes = mixed_recipes(3, views, 12, seed)
    assert {*Recipes.from_columns(recipes.columns(), items=3).columns(), "noise"} == DTYPES.keys()
    assert np.isfinite(render(ITEMS, recipes, np.arange(views))).all()


def test_drawing_depends_on_the_seed_only() -> None:
    first, again, other = (mixed_recipes(3, 50, 12, seed).columns() for seed in (1, 1, 2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert any(not np.array_equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize(("shift", "widest"), [(None, 6), (2, 2), (40, 6), (0, 0)])
def test_shifts_reach_as_far_as_was_asked_and_no_further_than_half_way_round(shift: int | None, widest: int) -> None:
    recipes = mixed_recipes(3, 300, 12, seed=0, mixing=Mixing(shift=shift))
    for drawn in (recipes.shift, recipes.partner_shift):
        assert (drawn.min(), drawn.max()) == (-widest, widest)


def columns_with(**changes: Any) -> dict[str, Any]:
    return {**plain_recipes(3).columns(), **changes}


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"item": np.zeros(3, np.uint16)},
        columns_with(weight=np.zeros(2, np.uint8)),
        columns_with(weight=np.zeros(3, np.float32)),
        columns_with(shift=np.zeros((3, 1), np.int16)),
        columns_with(item=np.array([0, 1, 3], np.uint16)),
        columns_with(partner=np.array([0, 1, 9], np.uint16)),
        columns_with(mode=np.array([0, 1, 3], np.uint8)),
        {name: column[:0] for name, column in plain_recipes(3).columns().items()},
    ],
)
def test_malformed_recipes_are_refused(columns: dict[str, Any]) -> None:
    with pytest.raises(DistilledSetError):
        Recipes.from_columns(columns, items=3)


def test_rendering_does_not_change_the_items() -> None:
    before = ITEMS.copy()
    recipes = replace(mixed_recipes(3, 9, 12, 0))
    render(ITEMS, recipes, np.arange(9))
    assert np.array_equal(ITEMS, before)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.3, 1.0]))
def test_items_of_one_column_are_rendered_together_as_one_by_one(seed: int, cut_share: float) -> None:
    """A second column makes every view be rendered on its own."""
    random = np.random.default_rng(seed)
    items = random.standard_normal((4, 5, 1)).astype(np.float32)
    mixing = Mixing(cut_share=cut_share, stretch=0.0, mel_shift=0, contrast=0.2, gain=0.3, shift=0)
    recipes = mixed_recipes(4, 12, 1, seed, mixing)
    recipes = replace(recipes, mode=random.integers(0, 3, 12).astype(np.uint8))
    together = render(items, recipes, np.arange(12))
    wide = render(
        np.repeat(items, 2, axis=2), replace(recipes, weight=recipes.weight * (recipes.mode != CUT)), np.arange(12)
    )
    assert together.dtype == np.float32
    np.testing.assert_array_equal(together[..., 0], wide[..., 1])
