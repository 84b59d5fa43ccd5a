"""Trajectory matching: its gradient against finite differences, and what an iteration does to the state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from edgeser.config.values import changed
from edgeser.distill.method import Assignment
from edgeser.distill.methods import mtt
from edgeser.distill.starts import STARTS
from edgeser.errors import DivergedError
from edgeser.models.experts import Trajectory
from edgeser.models.network import batch_norm, forward

KEPT = 0.1
"""Share of the gradient in Adam's first moment after one iteration."""


@pytest.fixture
def assignment(assignment: Assignment) -> Assignment:
    """The shared one with a fixed window, real clips to begin with, and a gate that is open."""
    settings = changed(
        assignment.settings,
        {
            "start": "real",
            "mtt.first_max_start_epoch": 2,
            "mtt.start_epoch_growth": 0.0,
            "mtt.step_size": 0.05,
            "mtt.loss_threshold": 100.0,
        },
    )
    return replace(assignment, settings=settings)


def matching_loss(assignment: Assignment, iteration: int) -> Callable[[np.ndarray, float], float]:
    """The loss of an iteration in float64 as the paper writes it; only the inner gradients are torch's."""
    settings, graph = assignment.settings, assignment.task.graph
    random = np.random.default_rng([settings.seed, iteration, 0x377])
    trajectory = assignment.trajectories[random.integers(len(assignment.trajectories))]
    epoch = int(random.integers(min(settings.mtt.max_start_epoch, trajectory.epochs - settings.mtt.expert_span) + 1))
    shifts = [
        random.integers(-mtt.SHIFT, mtt.SHIFT + 1, len(assignment.classes)) for _ in range(settings.mtt.student_steps)
    ]
    wide = {name: torch.from_numpy(stack.astype(np.float64)) for name, stack in trajectory.snapshots.items()}
    target = {name: stack[epoch + settings.mtt.expert_span] for name, stack in wide.items()}
    classes = torch.from_numpy(assignment.classes)

    def loss(items: np.ndarray, raw_step: float) -> float:
        step = np.log1p(np.exp(raw_step))
        parameters = {name: stack[epoch].clone() for name, stack in wide.items()}
        for each in shifts:
            rolled = np.stack([np.roll(item, shift, axis=1) for item, shift in zip(items, each, strict=True)])
            leaves = {name: value.detach().requires_grad_(True) for name, value in parameters.items()}
            logits = forward(graph, leaves, torch.from_numpy(rolled[:, None]), batch_norm(leaves))
            gradients = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, classes), list(leaves.values()))
            parameters = {name: leaves[name] - step * g for name, g in zip(leaves, gradients, strict=True)}
            parameters = {name: value.detach() for name, value in parameters.items()}
        far = sum(float((parameters[name] - target[name]).square().sum()) for name in target)
        return far / sum(float((wide[name][epoch] - target[name]).square().sum()) for name in target)

    return loss


@pytest.mark.parametrize("iteration", [0, 1])
def test_the_gradient_is_that_of_finite_differences(assignment: Assignment, iteration: int) -> None:
    """The first iteration's moments are a tenth of the gradient; steps small enough stay between the kinks of ReLU."""
    state = mtt.begin(assignment)
    following, values = mtt.improve(assignment, state, iteration)
    loss = matching_loss(assignment, iteration)
    items, raw = state["items"].astype(np.float64), float(state["raw_step"][0])
    assert values["loss"] == pytest.approx(loss(items, raw), rel=1e-4)

    gradient = following["first.items"].astype(np.float64) / KEPT
    small = 1e-6
    raw_slope = (loss(items, raw + small) - loss(items, raw - small)) / (2 * small)
    assert following["first.raw_step"][0] / KEPT == pytest.approx(raw_slope, rel=1e-3)
    random = np.random.default_rng(0)
    directions = [gradient / np.linalg.norm(gradient)]
    for _ in range(2):  # random ones, with a part along the gradient: alone they are nearly at a right angle to it
        noise = random.standard_normal(items.shape)
        directions.append(directions[0] + noise / np.linalg.norm(noise))
    for direction in directions:
        slope = (loss(items + small * direction, raw) - loss(items - small * direction, raw)) / (2 * small)
        assert float((gradient * direction).sum()) == pytest.approx(slope, rel=2e-3)


@pytest.mark.parametrize("start", list(STARTS))
def test_it_begins_as_asked_and_with_the_asked_step_size(assignment: Assignment, start: str) -> None:
    given = replace(assignment, settings=changed(assignment.settings, {"mtt.step_size": 0.03, "start": start}))
    state = mtt.begin(given)
    assert np.log1p(np.exp(state["raw_step"][0])) == pytest.approx(0.03, rel=1e-5)
    assert np.array_equal(state["items"], STARTS[start].make(given))
    assert state["items"].dtype == np.float32
    moments = [name for name in state if name.startswith(("first.", "second."))]
    assert len(moments) == 4
    assert not any(state[name].any() for name in moments)


def test_an_iteration_is_pure(assignment: Assignment) -> None:
    state = mtt.begin(assignment)
    before = {name: value.copy() for name, value in state.items()}
    (one, logged), (other, _) = (mtt.improve(assignment, state, 3) for _ in range(2))
    assert all(np.array_equal(before[name], state[name]) for name in state)
    assert set(one) == set(state)
    assert all(np.array_equal(one[name], other[name]) for name in one)
    assert all(one[name].dtype == state[name].dtype and one[name].shape == state[name].shape for name in one)
    assert set(logged) == {"loss", "start_epoch", "step_size", "skipped"}


def test_the_order_of_a_trajectorys_arrays_changes_no_bit(assignment: Assignment) -> None:
    def turned(trajectory: Trajectory) -> Trajectory:
        return Trajectory(dict(reversed(trajectory.snapshots.items())), trajectory.final)

    state = mtt.begin(assignment)
    other = replace(assignment, trajectories=tuple(map(turned, assignment.trajectories)))
    (one, logged), (two, again) = (mtt.improve(each, state, 0) for each in (assignment, other))
    assert logged == again
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_the_update_is_adams(assignment: Assignment) -> None:
    """Against torch.optim.Adam with the same betas, fed with the gradients of three iterations."""
    state = mtt.begin(assignment)
    rate = assignment.settings.mtt.item_rate
    items = torch.from_numpy(state["items"].copy()).requires_grad_(True)
    adam = torch.optim.Adam([items], lr=rate, betas=(0.9, 0.99), eps=1e-8)
    for iteration in range(3):
        following, _ = mtt.improve(assignment, state, iteration)
        items.grad = torch.from_numpy((following["first.items"] - 0.9 * state["first.items"]) / np.float32(KEPT))
        adam.step()
        state = following
        # The gradient is recovered from the moments, and loses digits where it is small.
        assert np.abs(items.detach().numpy() - state["items"]).mean() < 1e-3 * rate


def test_the_student_learns_to_follow_a_fixed_match(assignment: Assignment) -> None:
    """One trajectory, one start: only the shifts vary from one iteration to the next."""
    settings = changed(assignment.settings, {"mtt.max_start_epoch": 0, "mtt.step_size": 0.02, "mtt.item_rate": 0.05})
    fixed = replace(assignment, settings=settings, trajectories=assignment.trajectories[:1])
    state, losses, steps = mtt.begin(fixed), [], []
    for iteration in range(30):
        state, values = mtt.improve(fixed, state, iteration)
        losses.append(values["loss"])
        steps.append(values["step_size"])
    assert np.mean(losses[-5:]) < 0.95 * np.mean(losses[:5])
    assert min(steps) > 0
    assert steps[-1] != steps[0]


def test_the_step_size_stays_positive_however_far_it_is_pushed(assignment: Assignment) -> None:
    state = dict(mtt.begin(assignment)) | {"raw_step": np.array([-20.0], dtype=np.float32)}
    _, values = mtt.improve(assignment, state, 0)
    assert 0 < values["step_size"] < 1e-8


def test_starts_stay_inside_the_window_and_the_trajectory(assignment: Assignment) -> None:
    """Three epochs, a span of one: a start may be 0, 1 or 2, and with a window of 1 only 0 or 1."""

    def starts(window: int) -> set[float]:
        settings = changed(
            assignment.settings,
            {"mtt.max_start_epoch": window, "mtt.first_max_start_epoch": window, "mtt.student_steps": 1},
        )
        given = replace(assignment, settings=settings)
        state = mtt.begin(given)
        return {mtt.improve(given, state, iteration)[1]["start_epoch"] for iteration in range(25)}

    assert starts(0) == {0}
    assert starts(1) == {0, 1}
    assert starts(50) == {0, 1, 2}


@pytest.mark.parametrize("where", ["items", "trajectory"])
def test_what_is_not_finite_is_an_error(assignment: Assignment, where: str) -> None:
    state = dict(mtt.begin(assignment))
    if where == "items":
        state["items"] = state["items"] * np.float32("nan")
    else:
        spoilt = {name: np.full_like(stack, np.inf) for name, stack in assignment.trajectories[0].snapshots.items()}
        assignment = replace(assignment, trajectories=(Trajectory(spoilt, {}),))
    with pytest.raises(DivergedError, match="matching loss of iteration 1") as caught:
        mtt.improve(assignment, state, 0)
    assert "mtt.step_size" in caught.value.hint
