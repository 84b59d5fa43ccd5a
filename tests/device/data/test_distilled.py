"""The distilled set: the same after a round trip, the same bytes, nothing malformed gets in."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from device.kits import synthetic_items, synthetic_set
from hypothesis import given
from safetensors.numpy import load, save

from edgeser_device.data.distilled import DistilledSet
from edgeser_device.data.sample_storage import quantise
from edgeser_device.data.views import render
from edgeser_device.errors import DistilledSetError
from edgeser_export.utilities.errors import EdgeserError

GOOD = synthetic_set(per_class=2, views=3)


def test_round_trip() -> None:
    data = GOOD.to_bytes()
    again = DistilledSet.from_bytes(data)
    assert again.to_bytes() == data
    assert np.array_equal(again.items(), GOOD.items())
    assert (again.names, again.schedule, again.frontend) == (GOOD.names, GOOD.schedule, GOOD.frontend)
    assert again.per_class == 2
    assert len(again) == 6
    assert again.labels_of(np.array([0, 5])).dtype == np.float32


def test_quantising_is_close() -> None:
    items, _ = synthetic_items(2)
    levels, scale, offset = quantise(items)
    restored = levels.astype(np.float32) * scale[:, None, None] + offset[:, None, None]
    assert (np.abs(restored - items).max(axis=(1, 2)) <= scale * 0.51).all()


def test_a_constant_item_can_be_stored() -> None:
    levels, scale, offset = quantise(np.full((1, 64, 96), 0.25, np.float32))
    assert np.allclose(levels * scale[0] + offset[0], 0.25)


def rewritten(tensors: Callable[[dict[str, Any]], None] = lambda _: None, **description: Any) -> bytes:
    """The good set with some tensors and parts of the description exchanged."""
    data = GOOD.to_bytes()
    arrays = load(data)
    tensors(arrays)
    stored = json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["edgeser"])
    kept = {key: value for key, value in (stored | description).items() if value is not ...}
    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, {"edgeser": json.dumps(kept)})


def without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda arrays: arrays.pop(name)


def having(name: str, array: Any) -> Callable[[dict[str, Any]], None]:
    return lambda arrays: arrays.update({name: np.asarray(array)})


MALFORMED = {
    "empty": b"",
    "short": b"abc",
    "garbage": b"\x10\0\0\0\0\0\0\0{not json at all",
    "truncated": GOOD.to_bytes()[:-10],
    "without a description": save({"levels": GOOD.levels}),
    "schema": rewritten(schema=99),
    "no schedule": rewritten(schedule=...),
    "no front-end": rewritten(frontend=...),
    "half a schedule": rewritten(schedule={"steps": 3}),
    "names are numbers": rewritten(names=[1, 2, 3]),
    "names are text": rewritten(names="abc"),
    "one name too many": rewritten(names=["a", "b", "c", "d"]),
    "a name twice": rewritten(names=["a", "b", "b"]),
    "no labels": rewritten(without("soft_labels")),
    "no levels": rewritten(without("levels")),
    "no recipes": rewritten(without("view.item")),
    "levels as floats": rewritten(having("levels", GOOD.levels.astype(np.float32))),
    "other size": rewritten(having("levels", GOOD.levels[:, :32])),
    "fewer items than recipes name": rewritten(having("levels", GOOD.levels[:2])),
    "labels for other views": rewritten(having("soft_labels", GOOD.soft_labels[:3])),
    "labels not finite": rewritten(having("soft_labels", np.full_like(GOOD.soft_labels, np.nan))),
    "labels below zero": rewritten(having("soft_labels", -GOOD.soft_labels)),
    "scale of zero": rewritten(having("scale", np.zeros_like(GOOD.scale))),
    "scale not finite": rewritten(having("scale", np.full_like(GOOD.scale, np.inf))),
    "an unknown class": rewritten(having("classes", np.full_like(GOOD.classes, 7))),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_what_is_malformed_is_refused(data: bytes) -> None:
    with pytest.raises(DistilledSetError) as caught:
        DistilledSet.from_bytes(data)
    assert caught.value.hint


@given(place=st.integers(0, 4000), value=st.integers(0, 255))
def test_a_flipped_byte_is_an_error_or_a_set(place: int, value: int) -> None:
    """What is taken for a set can be rendered, and is written as it was read."""
    data = bytearray(GOOD.to_bytes())
    data[place] = value
    try:
        found = DistilledSet.from_bytes(bytes(data))
    except EdgeserError:
        return
    assert DistilledSet.from_bytes(found.to_bytes()).to_bytes() == found.to_bytes()
    with np.errstate(over="ignore", invalid="ignore"):  # levels may be any numbers
        views = render(found.items(), found.recipes, np.arange(len(found.recipes)))
    assert views.shape == (len(found.soft_labels), 1, found.frontend.mels, found.frontend.frames)


def test_labels_must_fit() -> None:
    with pytest.raises(DistilledSetError, match="soft_labels"):
        replace(GOOD, soft_labels=GOOD.soft_labels[:, :2])
