"""Steps of a student as functions: the optimisers against torch's own, their derivatives against finite differences."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pytest
import torch
from torch import Tensor

from edgeser.distill.methods.inner_training import MEMORY, Batch, Student, UnrollSpec, fresh, without_graph
from edgeser.models.network import Tensors, batch_norm, forward
from edgeser.models.students import build
from edgeser.models.training import soft_cross_entropy
from edgeser_export.graph.initial import initial_weights

GRAPH = build("edgenet", 3, 0.25, (1, 16, 24))
DECAY = 0.1
STEPS = 4
NEARLY = 2e-5
"""A thousandth of the largest rate: as far as a parameter with hardly a gradient may be from torch's."""
TORCHS: dict[str, Callable[[Iterable[Tensor]], torch.optim.Optimizer]] = {
    "adamw": lambda values: torch.optim.AdamW(values, weight_decay=DECAY),
    "sgd": lambda values: torch.optim.SGD(values, momentum=0.9, weight_decay=DECAY),
}


def learnt() -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    return {
        "items": torch.randn(6, 1, 16, 24, generator=random, dtype=torch.float64),
        "logits": torch.randn(6, 3, generator=random, dtype=torch.float64),
        "rates": torch.tensor([0.003, 0.02, 0.01, 0.005, 0.001, 0.002], dtype=torch.float64),
    }


def spec(optimiser: str) -> UnrollSpec:
    def batch_of(learnt: Tensors, step: int) -> Batch:
        chosen = torch.tensor([step % 3, 3, 4, 5])
        return Batch(learnt["items"][chosen], learnt["logits"][chosen].softmax(1), learnt["rates"][step])

    return UnrollSpec(GRAPH, optimiser, DECAY, batch_of)


def start(optimiser: str) -> Student:
    weights = {name: torch.from_numpy(array).double() for name, array in initial_weights(GRAPH, 0).items()}
    return fresh(spec(optimiser), weights)


@pytest.mark.parametrize("optimiser", list(TORCHS))
def test_the_steps_are_torchs(optimiser: str) -> None:
    """AdamW's differ where a gradient is nearly zero: its root is made differentiable there."""
    given, teaching = learnt(), spec(optimiser)
    students = without_graph(teaching, start(optimiser), given, STEPS)
    assert [student.done for student in students] == list(range(STEPS + 1))
    values = {name: start(optimiser).values[name].clone().requires_grad_(True) for name in GRAPH.parameters}
    oracle = TORCHS[optimiser](list(values.values()))
    for step in range(STEPS):
        taught = teaching.batch_of(given, step)
        oracle.param_groups[0]["lr"] = float(taught.rate)
        oracle.zero_grad()
        soft_cross_entropy(forward(GRAPH, values, taught.x, batch_norm(values)), taught.labels).backward()
        oracle.step()
    for name, value in values.items():
        np.testing.assert_allclose(students[-1].values[name].numpy(), value.detach().numpy(), rtol=1e-4, atol=NEARLY)


@pytest.mark.parametrize("memory", list(MEMORY))
@pytest.mark.parametrize("optimiser", list(TORCHS))
def test_the_gradients_are_those_of_finite_differences(optimiser: str, memory: str) -> None:
    """In float64, from a student that has made two steps: by what is learnt, with the optimiser's slots in between."""
    teaching, given = spec(optimiser), learnt()
    student = without_graph(teaching, start(optimiser), given, 2)[-1]
    clips = torch.randn(8, 1, 16, 24, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    targets = torch.eye(3, dtype=torch.float64)[torch.arange(8) % 3]

    def meta_loss(values: Tensors, _: Tensors) -> Tensor:
        return soft_cross_entropy(forward(GRAPH, values, clips, batch_norm(values)), targets)

    def loss(moved: dict[str, Tensor]) -> float:
        return meta_loss(without_graph(teaching, student, moved, STEPS)[-1].values, moved).item()

    leaves = {name: value.clone().requires_grad_(True) for name, value in given.items()}
    reached, value, found = MEMORY[memory](teaching, student, leaves, STEPS, meta_loss)
    assert reached.done == 2 + STEPS
    assert value.item() == pytest.approx(loss(given), rel=1e-9)
    for name, gradient in found.items():
        small, uphill = 1e-7, gradient / gradient.norm()
        there, back = (loss(given | {name: given[name] + sign * small * uphill}) for sign in (1, -1))
        assert float(gradient.norm()) == pytest.approx((there - back) / (2 * small), rel=1e-3)


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_the_way_may_be_cut_anywhere(optimiser: str) -> None:
    """A student with its slots is all that the rest of its training depends on."""
    teaching, given = spec(optimiser), learnt()
    whole = without_graph(teaching, start(optimiser), given, STEPS)
    rest = without_graph(teaching, whole[1], given, STEPS - 1)
    assert all(torch.equal(whole[-1].values[name], value) for name, value in rest[-1].values.items())
