"""Kernel inducing points: the kernel against a wide network, the regression against its definition, and iterations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgeser.config.values import changed
from edgeser.distill.method import Assignment
from edgeser.distill.methods import kip


def vectors(count: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((count, 6)))


def test_the_kernel_is_the_product_of_slopes_of_a_wide_network() -> None:
    """The tangent kernel of f(x) = sqrt(2 / width) v . relu(W x / sqrt(n)), with slopes by v and by W."""
    one, other, width = vectors(4, 0), vectors(3, 1), 200_000
    random = torch.Generator().manual_seed(0)
    hidden = torch.randn((6, width), generator=random, dtype=torch.float64)
    a, b = (x @ hidden / np.sqrt(6) for x in (one, other))
    by_outer = a.relu() @ b.relu().T / width
    by_hidden = (a > 0).double() @ (b > 0).double().T / width * (one @ other.T / 6)
    torch.testing.assert_close(kip.kernel(one, other), 2 * (by_outer + by_hidden), atol=0.02, rtol=0.02)


def test_regression_gives_the_targets_of_its_own_items() -> None:
    items, targets = vectors(5, 0), vectors(5, 1)[:, :3]
    torch.testing.assert_close(kip.regression(items, targets, items, 1e-9), targets, atol=1e-5, rtol=0)
    tamed = kip.regression(items, targets, items, 100.0)
    assert tamed.norm() < 0.1 * targets.norm()


def test_equal_opposite_and_empty_vectors_have_finite_slopes() -> None:
    x = torch.stack([torch.zeros(6), torch.ones(6), torch.ones(6), -torch.ones(6)]).requires_grad_(True)
    kip.kernel(x, x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_items_and_targets_learn_to_tell_clips_apart(of_vectors: Assignment) -> None:
    given = replace(of_vectors, settings=changed(of_vectors.settings, {"start": "mix", "kip.item_rate": 0.05}))
    begun = state = kip.begin(given)
    losses = []
    for iteration in range(40):
        state, values = kip.improve(given, state, iteration)
        losses.append(values["loss"])
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    assert all(not np.array_equal(begun[name], state[name]) for name in kip.LEARNT)
    items, targets = (torch.from_numpy(state[name]) for name in kip.LEARNT)
    clips = torch.from_numpy(given.task.maps).flatten(1)
    said = kip.regression(items.flatten(1), targets, clips, given.settings.kip.ridge).argmax(1)
    assert (said.numpy() == given.task.labels).mean() == 1


@pytest.mark.parametrize("start", ["centroids", "real"])
def test_an_iteration_is_pure(of_vectors: Assignment, start: str) -> None:
    given = replace(of_vectors, settings=changed(of_vectors.settings, {"start": start}))
    state = kip.begin(given)
    before = {name: value.copy() for name, value in state.items()}
    (one, logged), (other, _) = (kip.improve(given, state, 3) for _ in range(2))
    assert all(np.array_equal(before[name], state[name]) for name in state)
    assert set(one) == set(state)
    assert all(np.array_equal(one[name], other[name]) and one[name].dtype == np.float32 for name in one)
    assert set(logged) == {"loss"}
