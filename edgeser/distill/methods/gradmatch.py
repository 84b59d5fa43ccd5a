"""Linear gradient matching (Cazenavette et al. 2025, arXiv 2511.16674): random linear heads get the same gradients.

A head with weights W reads a vector x as softmax(x W). The gradient of its cross-entropy by W, over vectors X with
one-hot labels Y, is X^T (softmax(X W) - Y) / n. For a random head in each iteration

    loss = 1 - cosine(gradient over the items, gradient over the clips)
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from edgeser.distill.method import Assignment, State
from edgeser.distill.optimise import adam_step, with_moments
from edgeser.distill.starts import begin_items

LEAST_SPREAD, LARGEST_SPREAD = 0.1, 2.0
"""Bounds of the standard deviation of the logits that a random head gives the clips: from a head that knows nothing to
one that is sure."""


def begin(assignment: Assignment) -> State:
    """Items as the settings want them to begin, and empty moments of Adam."""
    return with_moments({"items": begin_items(assignment)}, ["items"])


def improve(assignment: Assignment, state: State, iteration: int) -> tuple[State, Mapping[str, float]]:
    """One step of Adam on the items, for a head of this iteration's own."""
    settings, task = assignment.settings, assignment.task
    random = np.random.default_rng([settings.seed, iteration, 0x6D47])
    clips = torch.from_numpy(task.maps).flatten(1)
    spread = random.uniform(LEAST_SPREAD, LARGEST_SPREAD) / np.sqrt(clips.shape[1])
    head = torch.from_numpy((random.standard_normal((clips.shape[1], task.classes)) * spread).astype(np.float32))
    items = torch.from_numpy(np.array(state["items"])).requires_grad_(True)
    ones = torch.from_numpy(np.eye(task.classes, dtype=np.float32)[assignment.classes])
    real = slope(head, clips, torch.from_numpy(task.hard_labels))
    made = slope(head, items.flatten(1), ones)
    loss = 1 - functional.cosine_similarity(real.flatten(), made.flatten(), dim=0)
    gradient = torch.autograd.grad(loss, items)[0].numpy()
    changed = adam_step(state, {"items": gradient}, {"items": settings.gradmatch.item_rate}, iteration + 1)
    return {**state, **changed}, {"loss": loss.item()}


def slope(head: Tensor, x: Tensor, labels: Tensor) -> Tensor:
    """The gradient of a linear head's mean cross-entropy by its weights.

    Args:
        head: Weights (numbers, classes).
        x: Vectors (vectors, numbers).
        labels: One-hot labels (vectors, classes).

    Returns:
        Shape (numbers, classes).
    """
    return x.T @ ((x @ head).softmax(1) - labels) / len(x)
