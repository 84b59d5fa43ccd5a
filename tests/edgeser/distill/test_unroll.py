"""Unrolling: its gradients against finite differences, what a window is, and what is shipped in the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from edgeser.distill import unroll
from edgeser.distill.loop import run_method
from edgeser.distill.method import Assignment, State
from edgeser.distill.pipeline import distill
from edgeser.distill.shipping import finish, ship
from edgeser.distill.starts import begin_items
from edgeser.distill.table import METHODS, settings_for
from edgeser.errors import DivergedError
from edgeser.experts import Ensemble
from edgeser.labels import BankPlan, bank_recipes
from edgeser.network import batch_norm, forward, to_tensors
from edgeser.run import open_run
from edgeser.settings import Settings
from edgeser.training import Augmentation, augmented_batches, soft_cross_entropy, train_on_set
from edgeser.workers import Workers
from edgeser_device.frontend import FrontendSpec
from edgeser_device.progress import ignore_progress
from edgeser_device.schedule import Schedule, batch_indices, learning_rate
from edgeser_device.views import render

UNROLL = METHODS["unroll"]
SPEC = FrontendSpec(mean=-40.0, std=15.0)
STEPS, WINDOW = 12, 4


@pytest.fixture(scope="module")
def given(assignment: Assignment) -> Assignment:
    """Two items a class with four views each, a student of twelve steps, windows of four."""
    small = replace(
        assignment.settings,
        method="unroll",
        steps=STEPS,
        batch=8,
        unroll_window=WINDOW,
        iterations=5,
        item_rate=0.02,
        peak_rate=0.01,
    )
    return replace(assignment, settings=small)


def same(one: State, other: State) -> bool:
    return set(one) == set(other) and all(np.array_equal(one[name], other[name]) for name in one)


def iterated(given: Assignment, count: int) -> tuple[State, list[Mapping[str, float]]]:
    state, logged = unroll.begin(given), []
    for iteration in range(count):
        state, values = unroll.improve(given, state, iteration)
        logged.append(values)
    return state, logged


# The gradient --------------------------------------------------------------------------------------------------------


def outer_loss(given: Assignment, window: unroll.Window) -> Callable[[Mapping[str, np.ndarray]], float]:
    """The loss of a window in float64, with views of ``render``, torch's AdamW and a search for the best scale."""
    settings, graph = given.settings, given.task.graph
    plan = BankPlan(settings.views, settings.temperature, settings.seed)
    recipes = bank_recipes(len(given.classes), given.task.clips.shape[3], plan)
    begun = {name: value.double() for name, value in window.student.values.items()}
    clips, hard = torch.from_numpy(given.task.clips), torch.from_numpy(given.task.hard_labels)
    x, targets = (
        part.double() for part in augmented_batches(clips, hard, len(clips), window.clips, Augmentation())(0)
    )

    def views(items: np.ndarray, chosen: np.ndarray) -> Tensor:
        """Rendering is linear: what is beyond float32 is rendered by itself, thousandfold."""
        coarse = items.astype(np.float32)
        fine = ((items - coarse) * 1e6).astype(np.float32)
        nothing = render(np.zeros_like(coarse), recipes, chosen)
        small = (render(fine, recipes, chosen) - nothing).astype(np.float64) / 1e6
        return torch.from_numpy(render(coarse, recipes, chosen) + small)

    def loss(learnt: Mapping[str, np.ndarray]) -> float:
        values = {name: begun[name].clone().requires_grad_(True) for name in graph.parameters}
        optimiser = torch.optim.AdamW(list(values.values()), weight_decay=settings.weight_decay)
        for name, value in values.items():
            count = torch.tensor(float(window.student.done))
            optimiser.state[value] = {
                "step": count, "exp_avg": begun[f"first.{name}"].clone(), "exp_avg_sq": begun[f"second.{name}"].clone(),
            }  # fmt: skip
        rates = np.log1p(np.exp(learnt["raw_rates"]))
        for step in range(window.student.done, window.student.done + window.steps):
            chosen = batch_indices(len(recipes), settings.batch, window.order, step)
            place = step * (len(rates) - 1) / (settings.steps - 1)
            optimiser.param_groups[0]["lr"] = float(np.interp(place, np.arange(len(rates)), rates))
            labels = torch.from_numpy(learnt["label_logits"][chosen]).softmax(1)
            optimiser.zero_grad()
            soft_cross_entropy(
                forward(graph, values, views(learnt["items"], chosen), batch_norm(values)), labels
            ).backward()
            optimiser.step()
        statistics: dict[str, Tensor] = {}

        def measure(name: str, x: Tensor) -> Tensor:
            statistics[name] = torch.stack(torch.var_mean(x, dim=(0, 2, 3)))
            return batch_norm(values)(name, x)

        def by_views(name: str, x: Tensor) -> Tensor:
            variance, mean = (value[:, None, None] for value in statistics[name])
            weight, bias = (values[f"{name}.{part}"][:, None, None] for part in ("weight", "bias"))
            return (x - mean) / (variance + 1e-5).sqrt() * weight + bias

        with torch.no_grad():
            forward(graph, values, views(learnt["items"], window.views), measure)
            logits = forward(graph, values, x, by_views)
            return min(soft_cross_entropy(float(scale) * logits, targets).item() for scale in SCALES)

    return loss


SCALES = np.geomspace(0.2, 20, 4001)


@pytest.mark.parametrize("iteration", [0, 1])
@pytest.mark.parametrize("name", unroll.LEARNT)
def test_the_gradient_is_that_of_finite_differences(given: Assignment, name: str, iteration: int) -> None:
    """Along the gradient; a step small enough to stay between the kinks of ReLU. The second window goes on."""
    state = iterated(given, iteration)[0]
    window = unroll.draw_window(given, state, iteration)
    _, value, gradients = unroll.window_gradients(given, state, window)
    loss = outer_loss(given, window)
    wide = {key: state[key].astype(np.float64) for key in unroll.LEARNT}
    assert value == pytest.approx(loss(wide), rel=1e-3)
    gradient = gradients[name].astype(np.float64)
    length = float(np.linalg.norm(gradient))
    step = SMALL[name] * gradient / length
    slope = (loss(wide | {name: wide[name] + step}) - loss(wide | {name: wide[name] - step})) / (2 * SMALL[name])
    assert length == pytest.approx(slope, rel=0.05)


SMALL = {"items": 1e-3, "label_logits": 1e-3, "raw_rates": 1e-3}
