"""Distribution matching by characteristic functions (NCFM, Wang et al. 2025, arXiv 2502.20653, random frequencies).

For every class the features of the items should be distributed as those of the real clips are. Two distributions are
equal when their characteristic functions Phi(t) = E exp(i t.f) are; at random frequencies t

    loss = mean over t of a (|Phi_r| - |Phi_s|)^2 + (1 - a) 2 |Phi_r| |Phi_s| (1 - cos(arg Phi_r - arg Phi_s))

The features are those of an expert on its way from its start to its end, start + b (end - start) with a random b: early
features are general, late ones tell emotions apart. The experts' cross-entropy holds each item at its class.

With ``match.dp`` all this is replaced by :mod:`edgeser.distill.methods.noisy_match`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgeser.distill.method import Assignment, State
from edgeser.distill.methods import noisy_match
from edgeser.distill.optimise import adam_step, with_moments
from edgeser.distill.starts import begin_items
from edgeser.errors import DivergedError
from edgeser.models.network import Tensors, as_input, batch_norm, forward, running_norm, to_tensors
from edgeser.models.training import roll_each, soft_cross_entropy
from edgeser_export.graph.op_graph import Linear

SHIFT = 12
"""Largest circular shift of items and clips, in frames, as the experts' augmentation."""
CLIPS = 16
"""Real clips of a class in one iteration."""
FREQUENCIES = 256
"""Random t in one iteration."""
CLASSES = 4
"""Classes in one iteration at most, drawn anew in each."""
AMPLITUDE = 0.5
"""Weight of the amplitudes against the phases, a."""


def begin(assignment: Assignment) -> State:
    """Items as the settings want them to begin, and empty moments of Adam."""
    if assignment.settings.match.dp:
        return noisy_match.begin(assignment)
    return with_moments({"items": begin_items(assignment)}, ["items"])


def improve(assignment: Assignment, state: State, iteration: int) -> tuple[State, Mapping[str, float]]:
    """One step of Adam on the items.

    Raises:
        DivergedError: The loss is not finite.
    """
    if assignment.settings.match.dp:
        return noisy_match.improve(assignment, state, iteration)
    settings = assignment.settings
    random = np.random.default_rng([settings.seed, iteration, 0x3A7C])
    number = int(random.integers(len(assignment.ensemble.members)))
    end = to_tensors(assignment.ensemble.members[number])
    between = _between(to_tensors(assignment.ensemble.starts[number]), end, float(random.random()))
    items = torch.from_numpy(np.array(state["items"])).requires_grad_(True)
    parts = [
        _class_loss(assignment, items, int(each), between, end, random)
        for each in np.sort(random.permutation(assignment.task.classes)[:CLASSES])
    ]
    apart, doubt = (torch.stack(values).mean() for values in zip(*parts, strict=True))
    loss = apart + settings.match.label_weight * doubt
    value = loss.item()
    if not np.isfinite(value):
        raise DivergedError(
            f"the loss of iteration {iteration + 1} is {value}",
            f"set match.item_rate below {settings.match.item_rate:g}",
        )
    gradient = torch.autograd.grad(loss, items)[0].numpy()
    changed = adam_step(state, {"items": gradient}, {"items": settings.match.item_rate}, iteration + 1)
    return {**state, **changed}, {"loss": value, "apart": apart.item(), "doubt": doubt.item()}


def distance(real: Tensor, synthetic: Tensor, frequencies: Tensor) -> Tensor:
    """Mean squared difference of two characteristic functions.

    Args:
        real: Features (clips, features).
        synthetic: Features (items, features).
        frequencies: (features, frequencies).
    """
    ours, theirs = _characteristic(synthetic, frequencies), _characteristic(real, frequencies)
    amplitudes = (ours.abs() - theirs.abs()).square()
    # |a||b|(1 - cos(difference of phases)) without angles, whose gradient is endless at zero
    phases = 2 * (ours.abs() * theirs.abs() - (ours * theirs.conj()).real)
    return (AMPLITUDE * amplitudes + (1 - AMPLITUDE) * phases).mean()


def _class_loss(
    assignment: Assignment, items: Tensor, number: int, between: Tensors, end: Tensors, random: np.random.Generator
) -> tuple[Tensor, Tensor]:
    graph, task = assignment.ensemble.graph, assignment.task
    last = next(op for op in reversed(graph.ops) if isinstance(op, Linear)).source
    mine = torch.from_numpy(np.flatnonzero(assignment.classes == number))
    clips = random.permutation(assignment.clips_of_class(number))[:CLIPS]
    ours = _shifted(as_input(graph, items[mine]).repeat(_views(len(mine)), 1, 1, 1), random)
    theirs = _shifted(torch.from_numpy(task.clips[clips]), random)
    # One batch: the batch normalisations see the items as they see the clips.
    features = forward(graph, between, torch.cat([theirs, ours]), batch_norm(between), last)
    real, synthetic = features[: len(theirs)].detach(), features[len(theirs) :]
    middle, spread = real.mean(0), real.std(0) + 1e-3
    frequencies = random.standard_normal((real.shape[1], FREQUENCIES)) / np.sqrt(real.shape[1])
    apart = distance(
        (real - middle) / spread, (synthetic - middle) / spread, torch.from_numpy(frequencies.astype(np.float32))
    )
    labels = torch.from_numpy(_labels(assignment, number, len(ours)))
    return apart, soft_cross_entropy(forward(graph, end, ours, running_norm(end)), labels)


def _labels(assignment: Assignment, number: int, count: int) -> NDArray[np.float32]:
    return np.repeat(np.eye(assignment.task.classes, dtype=np.float32)[[number]], count, axis=0)


def _views(items: int) -> int:
    """Shifted copies of each item, so that a few items make a distribution."""
    return max(1, CLIPS // (2 * items))


def _shifted(x: Tensor, random: np.random.Generator) -> Tensor:
    return roll_each(x, random.integers(-SHIFT, SHIFT + 1, len(x)))


def _characteristic(features: Tensor, frequencies: Tensor) -> Tensor:
    return torch.exp(1j * (features @ frequencies)).mean(0)


def _between(start: Tensors, end: Tensors, share: float) -> dict[str, Tensor]:
    return {name: start[name] + share * (end[name] - start[name]) for name in end}
