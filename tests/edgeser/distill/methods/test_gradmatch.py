"""Linear gradient matching: the gradient in closed form, and what the iterations do to the items."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from edgeser.config.values import changed
from edgeser.distill.method import Assignment, State
from edgeser.distill.methods import gradmatch
from edgeser.distill.registry import METHODS


@pytest.fixture
def given(of_vectors: Assignment) -> Assignment:
    settings = changed(of_vectors.settings, {"method": "gradmatch", "start": "mix", "gradmatch.item_rate": 0.05})
    return replace(of_vectors, settings=settings, method=METHODS["gradmatch"])


def test_the_slope_is_that_of_a_linear_head() -> None:
    random = torch.Generator().manual_seed(0)
    head, x = (torch.randn(shape, generator=random, dtype=torch.float64) for shape in ((5, 3), (8, 5)))
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 0])
    head.requires_grad_(True)
    functional.cross_entropy(x @ head, labels).backward()
    found = gradmatch.slope(head.detach(), x, functional.one_hot(labels, 3).double())
    torch.testing.assert_close(found, head.grad)


def losses(given: Assignment, state: State, count: int) -> tuple[State, list[float]]:
    found = []
    for iteration in range(count):
        state, values = gradmatch.improve(given, state, iteration)
        found.append(values["loss"])
    return state, found


def test_gradients_of_heads_come_nearer(given: Assignment) -> None:
    """On heads that no iteration drew, too."""
    begun = gradmatch.begin(given)
    made, found = losses(given, begun, 60)
    assert np.mean(found[-10:]) < 0.5 * np.mean(found[:10])
    other = replace(given, settings=changed(given.settings, {"seed": 77, "gradmatch.item_rate": 1e-6}))
    assert np.mean(losses(other, made, 10)[1]) < 0.5 * np.mean(losses(other, begun, 10)[1])


def test_the_clips_themselves_have_no_loss(given: Assignment) -> None:
    whole = replace(given, settings=changed(given.settings, {"ipc": 12}))
    state = {**gradmatch.begin(whole), "items": whole.task.maps.copy()}
    assert gradmatch.improve(whole, state, 0)[1]["loss"] == pytest.approx(0, abs=1e-6)


def test_an_iteration_is_pure(given: Assignment) -> None:
    state = gradmatch.begin(given)
    before = {name: value.copy() for name, value in state.items()}
    (one, logged), (other, _) = (gradmatch.improve(given, state, 3) for _ in range(2))
    assert all(np.array_equal(before[name], state[name]) for name in state)
    assert set(one) == set(state)
    assert all(np.array_equal(one[name], other[name]) and one[name].dtype == np.float32 for name in one)
    assert set(logged) == {"loss"}
