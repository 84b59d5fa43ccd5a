"""Several log-mels in one item: what is stored, and what views are rendered from."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from device.kits import synthetic_set
from hypothesis import given
from hypothesis import strategies as st

from edgeser_device.distilled import DistilledSet, quantise
from edgeser_device.errors import DistilledSetError
from edgeser_device.formations import blur, fold, unfold
from edgeser_device.views import plain_recipes, render

DIVISORS = (1, 2, 3, 4, 6, 8)


def noise(count: int, seed: int = 0, frames: int = 96) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 5, frames)).astype(np.float32)


@pytest.mark.parametrize("formations", DIVISORS)
def test_unfolding_interpolates_between_the_middles_of_coarse_frames(formations: int) -> None:
    items = noise(3)
    coarse = items.reshape(3, 5, formations, -1)
    middles = (np.arange(96 // formations) + 0.5) * formations - 0.5
    expected = [
        [np.interp(np.arange(96), middles, coarse[item, band, part]) for band in range(5)]
        for item in range(3)
        for part in range(formations)
    ]
    np.testing.assert_allclose(unfold(items, formations), expected, atol=1e-6)


@given(st.sampled_from(DIVISORS), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_folding_is_the_least_squares_inverse_of_unfolding(formations: int, count: int, seed: int) -> None:
    log_mels = noise(count * formations, seed)
    folded = fold(log_mels, formations)
    assert (folded.shape, folded.dtype) == ((count, 5, 96), np.float32)
    np.testing.assert_allclose(fold(unfold(folded, formations), formations), folded, atol=1e-4)
    left = log_mels - blur(log_mels, formations)
    np.testing.assert_allclose(blur(left, formations), 0, atol=1e-4)  # what is lost is orthogonal to what can be kept


@pytest.mark.parametrize("formations", DIVISORS)
def test_blurring_twice_changes_nothing_more(formations: int) -> None:
    once = blur(noise(2 * formations), formations)
    np.testing.assert_allclose(blur(once, formations), once, atol=1e-5)


def test_a_slow_curve_survives_folding() -> None:
    curve = np.sin(np.arange(96) / 96 * 2 * np.pi).astype(np.float32)
    slow = np.broadcast_to(curve, (2, 5, 96)).copy()
    assert np.abs(blur(slow, 2) - slow).max() < 0.02


def folded_set(formations: int) -> DistilledSet:
    """A set whose views are its log-mels as they are."""
    made = synthetic_set()
    count, mels, frames = made.levels.shape
    log_mels = np.random.default_rng(1).normal(size=(count * formations, mels, frames)).astype(np.float32)
    levels, scale, offset = quantise(fold(log_mels, formations))
    labels = np.full((count * formations, len(made.names)), 1 / len(made.names), np.float16)
    recipes = plain_recipes(count * formations)
    return replace(
        made, levels=levels, scale=scale, offset=offset, recipes=recipes, soft_labels=labels, formations=formations
    )


@pytest.mark.parametrize("formations", [2, 3])
def test_a_set_keeps_its_formations_in_its_bytes(formations: int) -> None:
    made = folded_set(formations)
    read = DistilledSet.from_bytes(made.to_bytes())
    assert read.formations == formations
    assert len(read.items()) == len(read) * formations == len(read.item_classes())
    np.testing.assert_array_equal(read.items(), made.items())
    np.testing.assert_array_equal(read.item_classes()[::formations], read.classes)
    views = render(read.items(), read.recipes, np.arange(len(read.recipes)))
    np.testing.assert_array_equal(views[:, 0], read.items())


def test_sets_of_one_log_mel_an_item_are_the_same_file_as_before_there_were_more() -> None:
    header = description_of(synthetic_set().to_bytes())
    assert header["schema"] == 1
    assert "formations" not in header
    assert description_of(folded_set(2).to_bytes())["schema"] == 2


@pytest.mark.parametrize("formations", [0, 5, 9, -1, 2.0, True, "2", None])
def test_impossible_formations_are_refused(formations: object) -> None:
    data = folded_set(2).to_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    description = json.loads(header["__metadata__"]["edgeser"]) | {"formations": formations}
    header["__metadata__"]["edgeser"] = json.dumps(description)
    changed = json.dumps(header).encode()
    with pytest.raises(DistilledSetError):
        DistilledSet.from_bytes(len(changed).to_bytes(8, "little") + changed + data[8 + length :])


def description_of(data: bytes) -> dict[str, object]:
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    found: dict[str, object] = json.loads(header["__metadata__"]["edgeser"])
    return found
