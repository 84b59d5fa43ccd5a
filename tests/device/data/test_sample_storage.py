"""Several log-mels in one item: what is stored, and what views are rendered from."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from device.kits import synthetic_set
from hypothesis import given
from hypothesis import strategies as st

from edgeser_device.data.distilled import DistilledSet
from edgeser_device.data.sample_storage import FORMATS, blur, fold, quantise, unfold
from edgeser_device.data.views import plain_recipes, render
from edgeser_device.errors import DistilledSetError

COUNTS = tuple(FORMATS)


def noise(count: int, seed: int = 0, mels: int = 8, frames: int = 96) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, mels, frames)).astype(np.float32)


def middles(count: int, factor: int) -> np.ndarray:
    """Where coarse places lie among ``count`` fine ones."""
    return (np.arange(count // factor) + 0.5) * factor - 0.5


@pytest.mark.parametrize("formations", COUNTS)
def test_together_they_take_the_bytes_of_one_log_mel(formations: int) -> None:
    form = FORMATS[formations]
    assert formations * form.bits == 8 * form.time * form.bands
    levels, scale, offset = fold(noise(3 * formations), formations)
    assert (levels.shape, levels.dtype) == ((3, 8, 96), np.uint8)
    assert scale.shape == offset.shape == (3 * formations,)
    assert scale.dtype == offset.dtype == np.float32


@pytest.mark.parametrize("formations", COUNTS)
def test_unfolding_interpolates_between_the_middles_of_coarse_values(formations: int) -> None:
    form = FORMATS[formations]
    random = np.random.default_rng(0)
    values = random.integers(0, 2**form.bits, (2 * formations, 8 // form.bands, 96 // form.time))
    flat = values.reshape(2, -1)
    levels = flat if form.bits == 8 else flat[:, 0::2] + 16 * flat[:, 1::2]
    scale, offset = random.uniform(0.1, 1, 2 * formations), random.normal(size=2 * formations)
    expected = []
    for number, coarse in enumerate(values * scale[:, None, None] + offset[:, None, None]):
        rows = [np.interp(np.arange(96), middles(96, form.time), row) for row in coarse]
        columns = [np.interp(np.arange(8), middles(8, form.bands), column) for column in np.transpose(rows)]
        expected.append(np.transpose(columns))
        assert number < 2 * formations
    found = unfold(
        levels.reshape(2, 8, 96).astype(np.uint8), scale.astype(np.float32), offset.astype(np.float32), formations
    )
    np.testing.assert_allclose(found, expected, atol=1e-4)


@given(st.sampled_from(COUNTS), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_what_was_stored_is_stored_again_without_further_loss(formations: int, count: int, seed: int) -> None:
    once = unfold(*fold(noise(count * formations, seed), formations), formations)
    twice = unfold(*fold(once, formations), formations)
    step = np.ptp(once, axis=(1, 2)).max() / (2 ** FORMATS[formations].bits - 1)
    assert np.abs(twice - once).max() <= 1.5 * step


@pytest.mark.parametrize("formations", COUNTS)
def test_blur_is_the_least_squares_projection(formations: int) -> None:
    log_mels = noise(2, seed=1)
    once = blur(log_mels, formations)
    np.testing.assert_allclose(blur(once, formations), once, atol=1e-5)
    np.testing.assert_allclose(blur(log_mels - once, formations), 0, atol=1e-5)  # nothing that could be kept is lost


def test_speech_like_log_mels_lose_little_with_fewer_bits_and_more_with_fewer_bands() -> None:
    """Smooth in both directions, as log-mels are."""
    coarse = np.random.default_rng(2).normal(size=(16, 16, 24))
    places = [np.linspace(0, count - 1, count * 4) for count in (16, 24)]
    rows = np.stack([[np.interp(places[1], np.arange(24), row) for row in each] for each in coarse])
    smooth = np.stack([[np.interp(places[0], np.arange(16), column) for column in each.T] for each in rows])
    log_mels = np.ascontiguousarray(smooth.swapaxes(1, 2), dtype=np.float32)
    errors = [float(np.sqrt(np.square(unfold(*fold(log_mels, n), n) - log_mels).mean())) for n in COUNTS]
    assert errors[0] < 0.01
    assert max(errors) < 0.2


def test_clipping_a_single_loud_value_makes_the_others_finer() -> None:
    log_mels = noise(2, seed=3)
    log_mels[:, 0, 0] = 12.0
    levels, scale, offset = quantise(log_mels, largest=15)
    whole = levels * scale[:, None, None] + offset[:, None, None]
    clipped = unfold(*fold(log_mels, 2), 2)
    assert np.square(clipped - log_mels).sum() < np.square(whole - log_mels).sum()


def folded_set(formations: int) -> DistilledSet:
    """A set whose views are its log-mels as they are."""
    made = synthetic_set()
    count, mels, frames = made.levels.shape
    log_mels = np.random.default_rng(1).normal(size=(count * formations, mels, frames)).astype(np.float32)
    levels, scale, offset = fold(log_mels, formations)
    labels = np.full((count * formations, len(made.names)), 1 / len(made.names), np.float16)
    recipes = plain_recipes(count * formations)
    return replace(
        made,
        levels=levels,
        scale=scale,
        offset=offset,
        recipes=recipes,
        soft_labels=labels,
        samples_per_item=formations,
    )


@pytest.mark.parametrize("formations", [2, 4, 8])
def test_a_set_keeps_its_formations_in_its_bytes(formations: int) -> None:
    made = folded_set(formations)
    read = DistilledSet.from_bytes(made.to_bytes())
    assert read.samples_per_item == formations
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


@pytest.mark.parametrize("formations", [0, 3, 16, -1, 2.0, True, "2", None])
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
