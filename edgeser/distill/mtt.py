"""Trajectory matching (Cazenavette et al. 2022, arXiv 2203.11932; for speech: arXiv 2406.15119).

A student starts from a snapshot of an expert and takes Q steps on the items; the items move so that the student ends
near the expert's snapshot P epochs later:

    loss = || theta_Q - theta*_(t+P) ||^2 / || theta*_t - theta*_(t+P) ||^2

The student's step size is learnt too, through softplus, so that it stays positive. Parameters are matched; the batch
normalisations use the statistics of the batch throughout.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from edgeser.distill.coresets import random_items
from edgeser.distill.method import Assignment, State
from edgeser.errors import DivergedError
from edgeser.network import batch_norm, forward, to_tensors
from edgeser.training import roll_each, soft_cross_entropy

SHIFT = 12
"""Largest circular shift of an item inside a match, in frames, as the experts' augmentation."""
STEP_SIZE_RATE = 0.01
"""Learning rate of the raw step size."""
LEARNT = ("items", "raw_step")


def begin(assignment: Assignment) -> State:
    """Real items of each class, the initial step size, and empty moments of Adam."""
    raw = np.log(np.expm1(assignment.settings.step_size))
    state = {"items": random_items(assignment)["items"], "raw_step": np.array([raw], dtype=np.float32)}
    moments = {f"{kind}.{name}": np.zeros_like(state[name]) for name in LEARNT for kind in ("first", "second")}
    return {**state, **moments}


def improve(assignment: Assignment, state: State, iteration: int) -> tuple[State, Mapping[str, float]]:
    """One match and one update of items and step size.

    Raises:
        DivergedError: The loss or its gradient is not finite.
    """
    settings = assignment.settings
    random = np.random.default_rng([settings.seed, iteration, 0x377])
    trajectory = assignment.trajectories[random.integers(len(assignment.trajectories))]
    epoch = int(random.integers(min(settings.start_window, trajectory.epochs - settings.expert_span) + 1))
    start, target = to_tensors(trajectory.at(epoch)), to_tensors(trajectory.at(epoch + settings.expert_span))
    learnt = {name: torch.from_numpy(np.array(state[name])).requires_grad_(True) for name in LEARNT}
    reached = _student(assignment, start, learnt["items"], functional.softplus(learnt["raw_step"]), random)
    loss = _distance(reached, target) / _distance(start, target)
    value = loss.item()
    gradients = torch.autograd.grad(loss, [learnt[name] for name in LEARNT])
    if not np.isfinite(value) or not all(gradient.isfinite().all() for gradient in gradients):
        raise DivergedError(
            f"the matching loss of iteration {iteration + 1} is {value}, or its gradient is not finite",
            f"use --step-size below {settings.step_size:g} or --student-steps below {settings.student_steps}",
        )
    rates = {"items": settings.item_rate, "raw_step": STEP_SIZE_RATE}
    following: dict[str, NDArray[np.float32]] = {}
    for name, gradient in zip(LEARNT, gradients, strict=True):
        following |= _adam(name, state, gradient.numpy(), rates[name], iteration + 1)
    step = float(functional.softplus(torch.from_numpy(following["raw_step"])).item())
    return following, {"loss": value, "start_epoch": epoch, "step_size": step}


def _student(
    assignment: Assignment, start: Mapping[str, Tensor], items: Tensor, step: Tensor, random: np.random.Generator
) -> dict[str, Tensor]:
    """The student's parameters after Q plain gradient steps on the items, as a function of items and step size."""
    graph, batch = assignment.task.graph, assignment.settings.student_batch
    labels = functional.one_hot(torch.from_numpy(assignment.classes), assignment.task.classes).float()
    parameters = {name: tensor.requires_grad_(True) for name, tensor in start.items()}
    for _ in range(assignment.settings.student_steps):
        every = np.arange(len(items))
        chosen = torch.from_numpy(every if len(items) <= batch else np.sort(random.permutation(every)[:batch]))
        x = roll_each(items[chosen, None], random.integers(-SHIFT, SHIFT + 1, len(chosen)))
        loss = soft_cross_entropy(forward(graph, parameters, x, batch_norm(parameters)), labels[chosen])
        gradients = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
        parameters = {
            name: tensor - step * gradient
            for (name, tensor), gradient in zip(parameters.items(), gradients, strict=True)
        }
    return parameters


def _distance(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Tensor:
    # In the order of the names: sums in another order end in other bits, and a resumed run must not.
    return torch.stack([(a[name] - b[name]).square().sum() for name in sorted(b)]).sum()


def _adam(
    name: str, state: State, gradient: NDArray[np.float32], rate: float, count: int
) -> dict[str, NDArray[np.float32]]:
    """Adam (Kingma and Ba 2015) with beta 0.9 and 0.99."""
    first = 0.9 * state[f"first.{name}"] + 0.1 * gradient
    second = 0.99 * state[f"second.{name}"] + 0.01 * gradient**2
    step = (first / (1 - 0.9**count)) / (np.sqrt(second / (1 - 0.99**count)) + 1e-8)
    return {
        name: (state[name] - rate * step).astype(np.float32),
        f"first.{name}": first.astype(np.float32),
        f"second.{name}": second.astype(np.float32),
    }
