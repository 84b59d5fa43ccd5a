"""Kernel inducing points (Nguyen et al. 2021, arXiv 2011.00050): items from which kernel regression tells clips apart.

The kernel is that of an endlessly wide network with one hidden layer (arc-cosine kernel, Cho and Saul 2009). Regression
on the items with learnt targets Q has a closed form, so an iteration needs no training:

    outputs = K(clips, items) (K(items, items) + ridge)^-1 Q
    loss = cross-entropy(softmax(outputs / temperature), labels)

The targets only serve the regression; the set's labels are those that the settings ask for.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from edgeser.distill.method import Assignment, State
from edgeser.distill.optimise import adam_step, with_moments
from edgeser.distill.starts import begin_items
from edgeser.models.training import soft_cross_entropy

CLIPS = 256
"""Real clips in one iteration at most, drawn anew in each."""
NOISE = 0.3
"""Standard deviation of the noise on these clips, in those of the corpus, so that none is learnt by heart."""
TARGETS, TEMPERATURE = (-0.5, 1.5), 0.25
"""Targets of the other classes and of an item's own at the beginning; temperature of the outputs."""
TARGET_RATE = 0.02
"""Learning rate of the targets."""
LEARNT = ("items", "targets")


def begin(assignment: Assignment) -> State:
    """Items as the settings want them to begin, their targets, and empty moments of Adam."""
    other, own = TARGETS
    ones = np.eye(assignment.task.classes, dtype=np.float32)[assignment.classes]
    return with_moments({"items": begin_items(assignment), "targets": other + (own - other) * ones}, LEARNT)


def improve(assignment: Assignment, state: State, iteration: int) -> tuple[State, Mapping[str, float]]:
    """One step of Adam on the items and their targets, for clips of this iteration's own."""
    settings, task = assignment.settings, assignment.task
    random = np.random.default_rng([settings.seed, iteration, 0x4B19])
    chosen = random.permutation(len(task.clips))[:CLIPS]
    real = task.maps[chosen].reshape(len(chosen), -1)
    clips = torch.from_numpy(real + NOISE * random.standard_normal(real.shape).astype(np.float32))
    items, targets = (torch.from_numpy(np.array(state[name])).requires_grad_(True) for name in LEARNT)
    outputs = regression(items.flatten(1), targets, clips, settings.kip.ridge)
    loss = soft_cross_entropy(outputs / TEMPERATURE, torch.from_numpy(task.hard_labels[chosen]))
    found = torch.autograd.grad(loss, (items, targets))
    gradients = {name: gradient.numpy() for name, gradient in zip(LEARNT, found, strict=True)}
    rates = {"items": settings.kip.item_rate, "targets": TARGET_RATE}
    return {**state, **adam_step(state, gradients, rates, iteration + 1)}, {"loss": loss.item()}


def regression(items: Tensor, targets: Tensor, x: Tensor, ridge: float) -> Tensor:
    """The outputs of kernel ridge regression on the items for ``x``.

    Args:
        items: Vectors (items, numbers).
        targets: The targets of the items (items, classes).
        x: Vectors (vectors, numbers).
        ridge: Added to the kernel's diagonal, in its mean.

    Returns:
        Outputs (vectors, classes).
    """
    own = kernel(items, items)
    steady = own + ridge * own.diagonal().mean() * torch.eye(len(items), dtype=own.dtype)
    outputs: Tensor = kernel(x, items) @ torch.linalg.solve(steady, targets)
    return outputs


def kernel(one: Tensor, other: Tensor) -> Tensor:
    """The tangent kernel of a ReLU network with one hidden layer, (a, b), of vectors (a, numbers) and (b, numbers)."""
    lengths = one.norm(dim=1, keepdim=True) * other.norm(dim=1, keepdim=True).T + 1e-12
    products = one @ other.T
    cosine = (products / lengths).clamp(-1 + 1e-5, 1 - 1e-5)  # the angle has no finite slope at its ends
    angle = cosine.acos()
    away = np.pi - angle
    found: Tensor = (lengths * (angle.sin() + away * cosine) + products * away) / (np.pi * one.shape[1])
    return found
