"""Training students and experts in torch: one loop, fed by a function that gives the batch of each step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from edgeser.errors import DivergedError
from edgeser.models.network import as_input, batch_norm, forward, measured_norm, to_arrays, to_tensors
from edgeser.representation.base import Augmentation
from edgeser_device.data.schedule import Schedule, batch_indices, epoch_order, learning_rate, statistics_batches
from edgeser_device.data.stored import StoredSet
from edgeser_device.data.views import render
from edgeser_export.graph.op_graph import Graph, Weights
from edgeser_export.utilities.progress import Advance, ignore_progress

Slope: TypeAlias = Callable[[Callable[[], Tensor], Sequence[Tensor]], Tensor]
"""(loss of the batch, parameters) to that loss; leaves the gradients of the step in ``.grad``."""
SHORTEST = 1e-12
"""Added to the length of a gradient that may be zero."""


def slope_here(loss_of: Callable[[], Tensor], parameters: Sequence[Tensor]) -> Tensor:
    """The gradient where the parameters are."""
    loss = loss_of()
    _leave(torch.autograd.grad(loss, list(parameters)), parameters)
    return loss


def slope_nearby(radius: float) -> Slope:
    """The gradient at the worst point, to first order, at a distance of ``radius``; costs a second pass.

    Steps by it lead to flat minima (sharpness-aware minimisation, Foret et al. 2021, arXiv 2010.01412).
    """

    def slope(loss_of: Callable[[], Tensor], parameters: Sequence[Tensor]) -> Tensor:
        loss = loss_of()
        gradients = torch.autograd.grad(loss, list(parameters))
        length = torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()
        kept = [parameter.detach().clone() for parameter in parameters]
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter += gradient * (radius / (length + SHORTEST))
        _leave(torch.autograd.grad(loss_of(), list(parameters)), parameters)
        with torch.no_grad():
            for parameter, before in zip(parameters, kept, strict=True):
                parameter.copy_(before)  # subtracting would not bring every bit back
        return loss

    return slope


def _leave(gradients: Sequence[Tensor], parameters: Sequence[Tensor]) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient


Arrays: TypeAlias = dict[str, NDArray[np.float32]]
Batch: TypeAlias = tuple[Tensor, Tensor]
"""Inputs (batch, channels, rows, columns) and soft labels (batch, classes), float32."""
BatchOf: TypeAlias = Callable[[int], Batch]
"""The batch of a step counted from 0; a pure function, so that a resumed training sees the same batches."""


LARGEST_LOSS = 100.0
"""A mean cross-entropy above this has diverged: guessing among 255 classes, the most there can be, costs 5.5."""


@contextmanager
def advising(hint: str) -> Iterator[None]:
    """Give what diverges in the block a hint that names the user's own setting."""
    try:
        yield
    except DivergedError as error:
        raise DivergedError(error.message, hint) from error


def soft_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean of -sum q log softmax(z) over the batch."""
    return -(labels * functional.log_softmax(logits, dim=1)).sum(1).mean()


def train(
    graph: Graph,
    start: Weights,
    batch_of: BatchOf,
    schedule: Schedule,
    advance: Advance = ignore_progress,
    after: Callable[[int, dict[str, Tensor]], None] | None = None,
    slope: Slope = slope_here,
) -> dict[str, Tensor]:
    """Train from ``start`` and return the parameters, without running statistics.

    Args:
        graph: The student.
        start: Its initial weights; they are not changed.
        batch_of: Gives the batch of each step.
        schedule: Optimiser, steps and learning rates.
        advance: Told about progress.
        after: Called after each step with the number of steps done and the parameters (to copy, not to keep).
        slope: The function that takes the gradient of a step.

    Raises:
        DivergedError: The loss is not finite, or above ``LARGEST_LOSS``.
    """
    parameters = {name: tensor for name, tensor in to_tensors(start).items() if name in graph.parameters}
    for tensor in parameters.values():
        tensor.requires_grad_(True)
    optimiser = OPTIMISERS[schedule.optimiser](
        list(parameters.values()), lr=schedule.peak_rate, weight_decay=schedule.weight_decay, foreach=True
    )
    for step in range(schedule.steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(schedule, step)
        x, labels = batch_of(step)
        loss = slope(partial(_batch_loss, graph, parameters, x, labels), list(parameters.values()))
        optimiser.step()
        if step % 50 == 0 or step == schedule.steps - 1:
            value = loss.item()
            if not value <= LARGEST_LOSS:
                raise DivergedError(
                    f"the loss of step {step + 1} is {value:.4g}", f"use a learning rate below {schedule.peak_rate:g}"
                )
            advance(step + 1, f"loss {value:.3f}")
        if after is not None:
            after(step + 1, parameters)
    return {name: tensor.detach() for name, tensor in parameters.items()}


def _batch_loss(graph: Graph, parameters: dict[str, Tensor], x: Tensor, labels: Tensor) -> Tensor:
    return soft_cross_entropy(forward(graph, parameters, x, batch_norm(parameters)), labels)


OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "sgd": partial(torch.optim.SGD, momentum=0.9),
    "plain_sgd": torch.optim.SGD,
}
"""sgd has momentum; plain_sgd has none, as the steps that trajectory matching unrolls."""


def with_statistics(graph: Graph, parameters: dict[str, Tensor], batches: Iterable[Tensor]) -> Arrays:
    """Parameters and running statistics, the latter averaged over ``batches`` in one pass in training mode.

    This is what torch keeps with momentum None, and what the board computes: trajectory matching and the training
    step see parameters only, so the statistics belong to the views that the student was trained on.
    """
    total: dict[str, Tensor] = {}
    count = 0
    with torch.no_grad():
        for x in batches:
            seen: dict[str, Tensor] = {}
            forward(graph, parameters, x, measured_norm(parameters, seen))
            total = {name: total[name] + value for name, value in seen.items()} if total else seen
            count += 1
    return to_arrays({**parameters, **{name: value / count for name, value in total.items()}})


def train_on_set(
    graph: Graph, start: Weights, distilled: StoredSet, seed: int, advance: Advance = ignore_progress
) -> Arrays:
    """Train on exactly the views of a distilled set, as the board does; ``seed`` gives their order.

    Raises:
        DivergedError: The loss is not finite or far too large.
    """
    schedule, recipes = distilled.schedule, distilled.recipes
    items = distilled.items()

    def views(indices: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(as_input(graph, render(items, recipes, indices)))

    def batch_of(step: int) -> Batch:
        indices = batch_indices(len(recipes), schedule.batch, seed, step)
        return views(indices), torch.from_numpy(distilled.labels_of(indices))

    with advising(f"set peak_rate below {schedule.peak_rate:g} and distil again"):
        parameters = train(graph, start, batch_of, schedule, advance)
    return with_statistics(graph, parameters, map(views, statistics_batches(len(recipes), schedule.batch)))


def train_on_clips(
    graph: Graph,
    start: Weights,
    clips: Tensor,
    labels: Tensor,
    schedule: Schedule,
    seed: int,
    augmentation: Augmentation,
    advance: Advance = ignore_progress,
    after: Callable[[int, dict[str, Tensor]], None] | None = None,
    slope: Slope = slope_here,
) -> Arrays:
    """Train on real clips with fresh augmentation in every step.

    Args:
        graph: The student.
        start: Its initial weights.
        clips: Normalised clips as the student reads them, float32 (clips, channels, rows, columns).
        labels: Hard or soft labels, float32 (clips, classes).
        schedule: Optimiser, steps and learning rates.
        seed: Seed of the order and the augmentation.
        augmentation: The widths within which clips are varied.
        advance: Told about progress.
        after: Called after each step with the number of steps done and the parameters.
        slope: The function that takes the gradient of a step.
    """
    batch_of = augmented_batches(clips, labels, schedule.batch, seed, augmentation)
    parameters = train(graph, start, batch_of, schedule, advance, after, slope)
    # Neighbours in a corpus share speaker and emotion: batches in that order would understate the variance.
    order = epoch_order(len(clips), seed, epoch=0)
    plain = (clips[torch.from_numpy(order[batch])] for batch in statistics_batches(len(clips), schedule.batch))
    return with_statistics(graph, parameters, plain)


def augmented_batches(clips: Tensor, labels: Tensor, batch: int, seed: int, augmentation: Augmentation) -> BatchOf:
    """Batches of shifted, louder or quieter, mixed clips; the random numbers of a step depend on seed and step only."""

    def batch_of(step: int) -> Batch:
        random = np.random.default_rng([seed, step, 0xA6])
        chosen = torch.from_numpy(batch_indices(len(clips), batch, seed, step))
        x = roll_each(clips[chosen], random.integers(-augmentation.shift, augmentation.shift + 1, batch))
        q = labels[chosen]
        if augmentation.mixup > 0:
            share, partner = float(random.beta(augmentation.mixup, augmentation.mixup)), random.permutation(batch)
            x, q = share * x + (1 - share) * x[partner], share * q + (1 - share) * q[partner]
        gain = torch.from_numpy(random.standard_normal(batch).astype(np.float32)) * augmentation.gain
        return x + gain[:, None, None, None], q

    return batch_of


def roll_each(x: Tensor, shifts: NDArray[np.int64]) -> Tensor:
    """Shift each item of ``x`` (batch, channels, rows, frames) later by its own number of frames, circularly."""
    frames = x.shape[-1]
    sources = (torch.arange(frames)[None] - torch.from_numpy(shifts)[:, None]) % frames
    return x.gather(3, sources[:, None, None, :].expand(-1, x.shape[1], x.shape[2], -1))
