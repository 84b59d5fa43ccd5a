"""Distribution matching: the distance against its definition, and what an iteration does to the items."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgeser.config.values import changed
from edgeser.distill.method import Assignment
from edgeser.distill.methods import match
from edgeser.errors import DivergedError
from edgeser_export.graph.initial import initial_weights


@pytest.fixture
def given(assignment: Assignment) -> Assignment:
    settings = changed(assignment.settings, {"ipc": 2, "match.item_rate": 0.05, "start": "mix"})
    starts = (initial_weights(assignment.ensemble.graph, 9),)
    return replace(assignment, settings=settings, ensemble=replace(assignment.ensemble, starts=starts))


def features(seed: int, count: int, shift: float = 0.0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((count, 5)) + shift)


FREQUENCIES = torch.from_numpy(np.random.default_rng(3).standard_normal((5, 40)))


def test_the_distance_is_that_of_the_paper() -> None:
    """|Phi| and its argument taken with numpy, term by term."""
    one, other = features(0, 20), features(1, 7, 0.3)
    phi = [np.exp(1j * (part.numpy() @ FREQUENCIES.numpy())).mean(0) for part in (one, other)]
    amplitudes = (np.abs(phi[0]) - np.abs(phi[1])) ** 2
    phases = 2 * np.abs(phi[0]) * np.abs(phi[1]) * (1 - np.cos(np.angle(phi[0]) - np.angle(phi[1])))
    expected = (match.AMPLITUDE * amplitudes + (1 - match.AMPLITUDE) * phases).mean()
    assert float(match.distance(one, other, FREQUENCIES)) == pytest.approx(expected, rel=1e-9)


def test_equal_distributions_have_no_distance_and_far_ones_more() -> None:
    one = features(0, 50)
    gaps = [float(match.distance(one, one + shift, FREQUENCIES)) for shift in (0.0, 0.1, 0.5)]
    assert gaps[0] == pytest.approx(0, abs=1e-12)
    assert gaps[0] < gaps[1] < gaps[2]
    assert float(match.distance(one, one[torch.randperm(50)], FREQUENCIES)) == pytest.approx(0, abs=1e-12)


def test_the_gradient_at_equal_features_is_finite() -> None:
    one = features(0, 6).requires_grad_(True)
    match.distance(one.detach(), one, FREQUENCIES).backward()
    assert one.grad is not None
    assert one.grad.isfinite().all()


def test_features_come_nearer_to_those_of_the_clips(given: Assignment) -> None:
    state, gaps = match.begin(given), []
    for iteration in range(40):
        state, values = match.improve(given, state, iteration)
        gaps.append(values["apart"])
    assert np.mean(gaps[-8:]) < np.mean(gaps[:8])


def test_an_iteration_is_pure(given: Assignment) -> None:
    state = match.begin(given)
    before = {name: value.copy() for name, value in state.items()}
    (one, logged), (other, _) = (match.improve(given, state, 3) for _ in range(2))
    assert all(np.array_equal(before[name], state[name]) for name in state)
    assert set(one) == set(state)
    assert all(np.array_equal(one[name], other[name]) and one[name].dtype == np.float32 for name in one)
    assert set(logged) == {"loss", "apart", "doubt"}


def test_a_loss_that_is_not_finite_names_the_setting(given: Assignment) -> None:
    state = match.begin(given)
    broken = {**state, "items": np.full_like(state["items"], np.nan)}
    with pytest.raises(DivergedError, match="iteration 4 is") as caught:
        match.improve(given, broken, 3)
    assert "match.item_rate" in caught.value.hint
