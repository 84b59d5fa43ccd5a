"""Weights rounded by what they do to a layer's sums."""

from __future__ import annotations

import numpy as np
import pytest

from edgeser_export.graph.op_graph import Conv, Linear
from edgeser_export.writers.rounding import nearest_weights, round_weights, summed_rows


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def test_inputs_that_do_not_correlate_leave_the_nearest_numbers(random):
    weight, scales = random.normal(size=(5, 3, 3, 3)), np.full(5, 0.02)
    assert (round_weights(weight, scales, np.eye(27)) == nearest_weights(weight, scales)).all()


@pytest.mark.parametrize("shape", [(8, 40), (8, 4, 3, 3)])
def test_sums_of_correlated_inputs_change_less(shape, random):
    weight, inputs = random.normal(size=shape), int(np.prod(shape[1:]))
    rows = np.abs(random.normal(size=(2000, 6)) @ random.normal(size=(6, inputs))) + 0.1 * random.normal(
        size=(2000, inputs)
    )
    scales = np.abs(weight).max(axis=tuple(range(1, len(shape)))) / 31

    def loss(steps):
        change = (steps * scales.reshape(-1, *[1] * (len(shape) - 1)) - weight).reshape(len(weight), -1)
        return ((rows @ change.T) ** 2).mean()

    found = round_weights(weight, scales, rows.T @ rows)
    assert found.dtype == np.int8
    assert loss(found) < 0.3 * loss(nearest_weights(weight, scales))


def test_inputs_that_are_always_zero_do_no_harm(random):
    weight, rows = random.normal(size=(3, 10)), random.normal(size=(50, 10))
    rows[:, 4] = 0
    found = round_weights(weight, np.array([0.05]), rows.T @ rows)
    assert np.abs(found * 0.05 - weight).max() < 0.5
    assert (round_weights(weight, np.array([0.05]), np.zeros((10, 10))) == nearest_weights(weight, 0.05)).all()


def test_rows_are_what_a_convolution_sums(random):
    op = Conv("conv", "x", 4, kernel=3, stride=2, padding=1)
    items, weight = random.normal(size=(2, 3, 9, 11)).astype(np.float32), random.normal(size=(4, 3, 3, 3))
    rows = summed_rows(op, items)
    assert rows.shape == (2 * 5 * 6, 27)
    sums = (rows @ weight.reshape(4, -1).T).reshape(2, 5, 6, 4)
    padded = np.pad(items, ((0, 0), (0, 0), (1, 1), (1, 1)))
    expected = (padded[1, :, 4:7, 6:9] * weight[2]).sum()
    assert sums[1, 2, 3, 2] == pytest.approx(expected, rel=1e-5)


def test_large_maps_give_a_part_of_their_places(random):
    op = Conv("conv", "x", 4, kernel=3, padding=1)
    assert len(summed_rows(op, random.normal(size=(2, 1, 64, 96)).astype(np.float32))) == 2 * 13 * 20
    dense = random.normal(size=(7, 5)).astype(np.float32)
    assert summed_rows(Linear("dense", "x", 3), dense) is dense
