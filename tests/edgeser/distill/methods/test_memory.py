"""Both ways through a student's steps: the same gradients, and those of finite differences."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from edgeser.config.values import changed
from edgeser.distill.method import Assignment
from edgeser.distill.methods import mtt
from edgeser.distill.methods.inner_training import MEMORY, Batch, Student, UnrollSpec
from edgeser.models.network import Tensors, to_tensors
from edgeser.models.students import build
from edgeser.models.training import roll_each
from edgeser_export.graph.initial import initial_weights

DOUBLE = 1e-9
"""Relative difference of the two ways in float64: the same products, summed in another order."""
SINGLE = 1e-4
"""The same in float32; what lies between them is rounding, not a kink, for both make the same steps bit for bit."""
STEPS = 4
GRAPH = build("edgenet", 3, 0.25, (1, 32, 48))


def weights(seed: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    drawn = to_tensors(initial_weights(GRAPH, seed))
    return {name: drawn[name].to(dtype) for name in GRAPH.parameters}


def gradients(memory: str, dtype: torch.dtype, moved: Tensors | None = None) -> tuple[float, dict[str, Tensor]]:
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

    def batch_of(learnt: Tensors, number: int) -> Batch:
        chosen = torch.tensor([number % 3, 3, 4, 5])
        x = roll_each(learnt["items"][chosen, None], shifts[number])
        labels = learnt["label_logits"].softmax(1)[chosen]
        return Batch(x, labels, functional.softplus(learnt["raw_step"])[0])

    start, end = weights(0, dtype), weights(1, dtype)

    def meta_loss(reached: Tensors, _: Tensors) -> Tensor:
        return torch.stack([(reached[name] - end[name]).square().sum() for name in end]).sum()

    spec = UnrollSpec(GRAPH, "plain_sgd", 0.0, batch_of)
    after, loss, found = MEMORY[memory](spec, Student(start, 0), leaves, STEPS, meta_loss)
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
    spec = UnrollSpec(GRAPH, "plain_sgd", 0.0, lambda learnt, _: Batch(learnt["read"], labels, rate))
    start = Student(weights(0), 0)
    _, _, found = MEMORY[memory](spec, start, leaves, 2, lambda reached, _: reached["logits.weight"].square().sum())
    assert torch.equal(found["unread"], torch.zeros(3))


@pytest.mark.parametrize("rate", [0.0, 0.02])
def test_a_run_of_the_method_ends_alike_with_both(assignment: Assignment, rate: float) -> None:
    settings = changed(
        assignment.settings,
        {"mtt.label_rate": rate, "mtt.ema_decay": 0.5, "mtt.loss_threshold": 100.0, "mtt.student_batch": 4},
    )
    states = []
    for memory in MEMORY:
        given = replace(assignment, settings=changed(settings, {"mtt.memory": memory}))
        state = mtt.begin(given)
        for iteration in range(2):
            state, _ = mtt.improve(given, state, iteration)
        states.append(state)
    one, other = states
    assert set(one) == set(other)
    moved = np.abs(one["items"] - mtt.begin(assignment)["items"]).mean()
    assert moved > 0.2 * settings.mtt.item_rate
    # Adam turns rounding into steps where nothing pulls.
    assert np.abs(one["items"] - other["items"]).mean() < 0.01 * moved


PEAKS = """
import torch
from edgeser.distill.methods.inner_training import MEMORY
from edgeser.distill.methods.inner_training import UnrollSpec, Batch, Student
from edgeser.models.network import to_tensors
from edgeser.models.students import build
from edgeser_export.graph.initial import initial_weights

torch.set_num_threads(1)
graph = build("edgenet", 3)
labels, rate = torch.eye(3)[torch.arange(16) % 3], torch.tensor(0.01)
spec = UnrollSpec(graph, "plain_sgd", 0.0, lambda learnt, _: Batch(learnt["items"], labels, rate))
weights = to_tensors(initial_weights(graph, 0))

def peak(memory, steps):
    leaves = {"items": torch.randn(16, 1, 64, 96).requires_grad_(True)}
    start = Student({name: weights[name] for name in graph.parameters}, 0)
    MEMORY[memory](spec, start, leaves, steps, lambda reached, _: reached["logits.weight"].square().sum())
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))

before = peak("lean", 1)
print(before, *(peak(*each) for each in (("lean", 4), ("lean", 24), ("fast", 24))))
"""


def test_the_memory_of_lean_does_not_grow_with_the_steps() -> None:
    """In a process of its own: the growth of its peak, beyond what one step takes, in megabytes."""
    done = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True, timeout=300)
    one, four, many, fast = map(float, done.stdout.split())
    grown, far = many - four, fast - one
    assert far > 200  # 24 graphs of some ten megabytes each
    assert grown < 0.15 * far
