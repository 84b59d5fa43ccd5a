"""Both ways through a student's steps: the same gradients, and those of finite differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from edgeser.distill import mtt
from edgeser.distill.memory import MEMORY, find_memory
from edgeser.distill.method import Assignment
from edgeser.distill.unrolling import Course, Lesson, Student
from edgeser.errors import SettingsError
from edgeser.network import to_tensors
from edgeser.students import build, initial_weights
from edgeser.training import roll_each

DOUBLE = 1e-9
"""Relative difference of the two ways in float64: the same products, summed in another order."""
SINGLE = 1e-4
"""The same in float32; what lies between them is rounding, not a kink, for both make the same steps bit for bit."""
STEPS = 4
GRAPH = build("edgenet", 3, 0.25, (1, 32, 48))


def gradients(
    memory: str, dtype: torch.dtype, moved: Mapping[str, Tensor] | None = None
) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients of a match of four steps by items, labels and step size."""
    random = torch.Generator().manual_seed(0)
    learnt = {
        "items": torch.randn(6, 32, 48, generator=random, dtype=torch.float64),
        "label_logits": torch.randn(6, 3, generator=random, dtype=torch.float64),
        "raw_step": torch.tensor([-3.0], dtype=torch.float64),
    }
    learnt = {name: value + (moved or {}).get(name, 0.0) for name, value in learnt.items()}
    leaves = {name: value.to(dtype).requires_grad_(True) for name, value in learnt.items()}
    shifts = np.random.default_rng(0).integers(-9, 10, (STEPS, 4))

    def lesson(learnt: Tensors, number: int) -> Lesson:
        chosen = torch.tensor([number % 3, 3, 4, 5])
        x = roll_each(learnt["items"][chosen, None], shifts[number])
        labels = learnt["label_logits"].softmax(1)[chosen]
        return Lesson(x, labels, functional.softplus(learnt["raw_step"])[0])

    start, end = (
        {
            name: value.to(dtype)
            for name, value in to_tensors(initial_weights(GRAPH, seed)).items()
            if name in GRAPH.parameters
        }
        for seed in (0, 1)
    )

    def outer(reached: Tensors, _: Tensors) -> Tensor:
        return torch.stack([(reached[name] - end[name]).square().sum() for name in end]).sum()

    course = Course(GRAPH, "plain_sgd", 0.0, lesson)
    after, loss, found = MEMORY[memory](course, Student(start, 0), leaves, STEPS, outer)
    assert after.done == STEPS
    assert not loss.requires_grad
    return loss.item(), found


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, DOUBLE), (torch.float32, SINGLE)])
def test_fast_and_lean_give_the_same_gradients(dtype: torch.dtype, tolerance: float) -> None:
    (fast_loss, fast), (lean_loss, lean) = (gradients(memory, dtype) for memory in ("fast", "lean"))
    assert lean_loss == pytest.approx(fast_loss, rel=tolerance)
    assert set(fast) == set(lean) == {"items", "label_logits", "raw_step"}
    for name, gradient in fast.items():
        assert gradient.norm() > 0
        assert (lean[name] - gradient).norm() <= tolerance * gradient.norm()


@pytest.mark.parametrize("memory", list(MEMORY))
@pytest.mark.parametrize("name", ["items", "label_logits", "raw_step"])
def test_the_gradients_are_those_of_finite_differences(memory: str, name: str) -> None:
    """Along the gradient and along a random direction; small enough to stay between the kinks of ReLU."""
    _, found = gradients(memory, torch.float64)
    small, random = 1e-7, torch.Generator().manual_seed(1)
    uphill = found[name] / found[name].norm()
    noise = torch.randn(found[name].shape, generator=random, dtype=torch.float64)
    for direction in (uphill, uphill + noise / noise.norm()):
        there, back = (gradients(memory, torch.float64, {name: sign * small * direction})[0] for sign in (1, -1))
        assert float((found[name] * direction).sum()) == pytest.approx((there - back) / (2 * small), rel=1e-4)


@pytest.mark.parametrize("memory", list(MEMORY))
def test_what_no_step_reads_has_a_gradient_of_zero(memory: str) -> None:
    leaves = {"read": torch.ones(2, 1, 32, 48, requires_grad=True), "unread": torch.ones(3, requires_grad=True)}
    labels, rate = torch.eye(3)[:2], torch.tensor(0.1)
    course = Course(GRAPH, "plain_sgd", 0.0, lambda learnt, _: Lesson(learnt["read"], labels, rate))
    start = Student(
        {name: value for name, value in to_tensors(initial_weights(GRAPH, 0)).items() if name in GRAPH.parameters}, 0
    )
    _, _, found = MEMORY[memory](course, start, leaves, 2, lambda reached, _: reached["logits.weight"].square().sum())
    assert torch.equal(found["unread"], torch.zeros(3))


@pytest.mark.parametrize("rate", [0.0, 0.02])
def test_a_run_of_the_method_ends_alike_with_both(assignment: Assignment, rate: float) -> None:
    settings = replace(assignment.settings, label_rate=rate, item_average=0.5, gate=100.0, student_batch=4)
    states = []
    for memory in MEMORY:
        given = replace(assignment, settings=replace(settings, memory=memory))
        state = mtt.begin(given)
        for iteration in range(2):
            state, _ = mtt.improve(given, state, iteration)
        states.append(state)
    one, other = states
    assert set(one) == set(other)
    moved = np.abs(one["items"] - mtt.begin(assignment)["items"]).mean()
    assert moved > 0.2 * settings.item_rate
    assert (
        np.abs(one["items"] - other["items"]).mean() < 0.01 * moved
    )  # Adam turns rounding into steps where nothing pulls


def test_the_memory_of_lean_does_not_grow_with_the_steps() -> None:
    """Counted as bytes that autograd saves and that are alive at the same time."""
    most: dict[tuple[str, int], int] = {}
    for memory in MEMORY:
        for steps in (2, 8):
            most[memory, steps] = _most_saved(memory, steps)
    assert most["fast", 8] > 3 * most["fast", 2]
    assert most["lean", 8] < 1.1 * most["lean", 2]


def _most_saved(memory: str, steps: int) -> int:
    alive, most = 0, 0

    class Kept:
        def __init__(self, tensor: Tensor) -> None:
            nonlocal alive, most
            self.tensor, self.size = tensor, tensor.numel() * tensor.element_size()
            alive += self.size
            most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= self.size

    leaves = {"items": torch.randn(4, 1, 32, 48, requires_grad=True)}
    labels, rate = torch.eye(3)[[0, 1, 2, 0]], torch.tensor(0.1)
    course = Course(GRAPH, "plain_sgd", 0.0, lambda learnt, _: Lesson(learnt["items"], labels, rate))
    start = Student(
        {name: value for name, value in to_tensors(initial_weights(GRAPH, 0)).items() if name in GRAPH.parameters}, 0
    )
    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        MEMORY[memory](course, start, leaves, steps, lambda reached, _: reached["logits.weight"].square().sum())
    return most


def test_a_name_that_does_not_exist_is_refused() -> None:
    with pytest.raises(SettingsError, match="no --memory 'fats'") as caught:
        find_memory("fats")
    assert "fast" in caught.value.hint
