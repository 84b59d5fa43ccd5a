"""Model inversion: its gradient against finite differences, and what it does to the items."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgeser.config.values import changed
from edgeser.distill.method import Assignment
from edgeser.distill.methods import invert
from edgeser.errors import DivergedError
from edgeser.models.network import forward, infer, running_norm


@pytest.fixture
def given(assignment: Assignment) -> Assignment:
    return replace(
        assignment, settings=changed(assignment.settings, {"ipc": 3, "invert.item_rate": 0.05, "start": "mix"})
    )


def loss_of(given: Assignment, items: np.ndarray, iteration: int) -> float:
    """The loss of an iteration in float64, written out."""
    random = np.random.default_rng([given.settings.seed, iteration, 0x1274])
    member = given.ensemble.members[random.integers(len(given.ensemble.members))]
    weights = {name: torch.from_numpy(value.astype(np.float64)) for name, value in member.items()}
    chosen = np.sort(random.permutation(len(items))[: invert.BATCH])
    shifts = random.integers(-invert.SHIFT, invert.SHIFT + 1, len(chosen))
    x = torch.from_numpy(np.stack([np.roll(items[at], by, axis=1) for at, by in zip(chosen, shifts, strict=True)]))
    inputs: dict[str, torch.Tensor] = {}

    def norm(name: str, value: torch.Tensor) -> torch.Tensor:
        inputs[name] = value
        return running_norm(weights)(name, value)

    logits = forward(given.ensemble.graph, weights, x[:, None], norm)
    doubt = torch.nn.functional.cross_entropy(logits, torch.from_numpy(given.classes[chosen]))
    mismatches = []
    for name, value in inputs.items():
        mean, variance = value.mean((0, 2, 3)), value.var((0, 2, 3), correction=0)
        there, wide = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
        mismatches.append(float(((mean - there) ** 2 / wide).mean() + ((variance / wide).log() ** 2).mean()))
    rough = np.square(np.diff(items, axis=2)).mean()
    weight = given.settings.invert.statistics_weight
    return float(doubt) + weight * float(np.mean(mismatches)) + invert.SMOOTHNESS * float(rough)


@pytest.mark.parametrize("iteration", [0, 5])
def test_the_gradient_is_that_of_finite_differences(given: Assignment, iteration: int) -> None:
    state = invert.begin(given)
    following, values = invert.improve(given, state, iteration)
    items = state["items"].astype(np.float64)
    assert values["loss"] == pytest.approx(loss_of(given, items, iteration), rel=1e-4)
    gradient = following["first.items"].astype(np.float64) / 0.1  # a tenth of it is in Adam's first moment
    direction, small = gradient / np.linalg.norm(gradient), 1e-5
    ahead, behind = (loss_of(given, items + sign * small * direction, iteration) for sign in (1, -1))
    assert (ahead - behind) / (2 * small) == pytest.approx(np.linalg.norm(gradient), rel=5e-3)


def test_the_experts_come_to_see_the_classes(given: Assignment) -> None:
    """From noise, whose class the expert does not know."""
    noisy = replace(given, settings=changed(given.settings, {"start": "noise"}))
    state = invert.begin(noisy)

    def confidence(items: np.ndarray) -> float:
        logits = torch.from_numpy(infer(noisy.ensemble.graph, noisy.ensemble.members[0], items[:, None]))
        return float(logits.softmax(1)[np.arange(len(items)), noisy.classes].mean())

    before = confidence(state["items"])
    losses = []
    for iteration in range(40):
        state, values = invert.improve(noisy, state, iteration)
        losses.append(values["mismatch"])
    assert confidence(state["items"]) > before
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


def test_an_iteration_is_pure(given: Assignment) -> None:
    state = invert.begin(given)
    before = {name: value.copy() for name, value in state.items()}
    (one, logged), (other, _) = (invert.improve(given, state, 3) for _ in range(2))
    assert all(np.array_equal(before[name], state[name]) for name in state)
    assert set(one) == set(state)
    assert all(np.array_equal(one[name], other[name]) and one[name].dtype == np.float32 for name in one)
    assert set(logged) == {"loss", "doubt", "mismatch"}


def test_a_loss_that_is_not_finite_names_the_setting(given: Assignment) -> None:
    state = invert.begin(given)
    broken = {**state, "items": np.full_like(state["items"], np.inf)}
    with pytest.raises(DivergedError, match="iteration 4 is") as caught:
        invert.improve(given, broken, 3)
    assert "invert.item_rate" in caught.value.hint
