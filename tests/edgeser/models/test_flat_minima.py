"""Gradients nearby: against the formula on a quadratic, and in whole trainings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from edgeser.models.experts import ExpertRecipe, Task, train_expert
from edgeser.models.training import slope_here, slope_nearby
from edgeser_export.graph.initial import initial_weights

RECIPE = ExpertRecipe("plain_sgd", epochs=2, batch=8, peak_rate=0.05)


@pytest.fixture
def quadratic() -> tuple[Tensor, Tensor, Tensor]:
    """A matrix and two parameters of the loss p.A p / 2 of them together."""
    random = torch.Generator().manual_seed(0)
    root = torch.randn(5, 5, dtype=torch.float64, generator=random)
    parts = [torch.randn(n, dtype=torch.float64, generator=random).requires_grad_(True) for n in (2, 3)]
    return root @ root.T, *parts


def test_here_is_what_backward_leaves(quadratic: tuple[Tensor, Tensor, Tensor]) -> None:
    matrix, *parameters = quadratic
    together = torch.cat([parameter.detach() for parameter in parameters])
    loss = slope_here(lambda: torch.cat(parameters) @ matrix @ torch.cat(parameters) / 2, parameters)
    assert loss.item() == pytest.approx(float(together @ matrix @ together / 2))
    torch.testing.assert_close(torch.cat([parameter.grad for parameter in parameters]), matrix @ together)


@pytest.mark.parametrize("radius", [0.01, 0.5])
def test_nearby_is_the_gradient_at_the_worst_point(quadratic: tuple[Tensor, Tensor, Tensor], radius: float) -> None:
    matrix, *parameters = quadratic
    before = [parameter.detach().clone() for parameter in parameters]
    together = torch.cat(before)
    gradient = matrix @ together
    expected = matrix @ (together + radius * gradient / gradient.norm())
    loss = slope_nearby(radius)(lambda: torch.cat(parameters) @ matrix @ torch.cat(parameters) / 2, parameters)
    assert loss.item() == pytest.approx(float(together @ gradient / 2))
    torch.testing.assert_close(torch.cat([parameter.grad for parameter in parameters]), expected)
    assert all(torch.equal(now, then) for now, then in zip(parameters, before, strict=True))


def test_a_gradient_of_zero_stays_zero() -> None:
    parameter = torch.zeros(3, requires_grad=True)
    slope_nearby(0.1)(lambda: parameter.square().sum(), [parameter])
    assert parameter.grad is not None
    assert torch.equal(parameter.grad, torch.zeros(3))


def test_without_a_distance_training_is_as_before_and_with_one_another(task: Task) -> None:
    start = initial_weights(task.graph, 0)
    plain, near, far = (train_expert(task, start, replace(RECIPE, flatness=r), 0) for r in (0.0, 1e-6, 0.5))

    def apart(other: dict[str, np.ndarray]) -> float:
        return max(float(np.abs(plain.final[name] - other[name]).max()) for name in task.graph.parameters)

    assert apart(near.final) < 1e-3
    assert apart(far.final) > 1e-3
    again = train_expert(task, start, replace(RECIPE, flatness=0.5), 0)
    assert all(np.array_equal(again.final[name], far.final[name]) for name in far.final)
