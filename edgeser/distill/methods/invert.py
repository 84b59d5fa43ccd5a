"""Model inversion (DeepInversion, Yin et al. 2020, arXiv 1912.08795): items that the experts take for their class.

    loss = cross-entropy(expert(item), class)
           + w mean over layers and channels of ((m - m*)^2 / v* + log(v / v*)^2)
           + s mean |item(t+1) - item(t)|^2

m and v are the mean and variance that the items have at the input of a batch normalisation, m* and v* the running
statistics that the expert has of the real clips. One expert is drawn in every iteration. No recording is read here:
what there is of one comes from the start and through the experts.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from edgeser.distill.method import Assignment, State
from edgeser.distill.optimise import adam_step, with_moments
from edgeser.distill.starts import begin_items
from edgeser.errors import DivergedError
from edgeser.models.network import Norm, Tensors, as_input, forward, running_norm, to_tensors
from edgeser.models.training import roll_each, soft_cross_entropy
from edgeser_export.graph.op_graph import Graph

SHIFT = 12
"""Largest circular shift of an item, in frames, as the experts' augmentation."""
BATCH = 128
"""Items in one iteration at most, drawn anew in each."""
SMOOTHNESS = 1e-3
"""Weight of the differences between neighbouring frames."""


def begin(assignment: Assignment) -> State:
    """Items as the settings want them to begin, and empty moments of Adam."""
    return with_moments({"items": begin_items(assignment)}, ["items"])


def improve(assignment: Assignment, state: State, iteration: int) -> tuple[State, Mapping[str, float]]:
    """One step of Adam on the items.

    Raises:
        DivergedError: The loss is not finite.
    """
    settings, ensemble = assignment.settings, assignment.ensemble
    random = np.random.default_rng([settings.seed, iteration, 0x1274])
    weights = to_tensors(ensemble.members[random.integers(len(ensemble.members))])
    items = torch.from_numpy(np.array(state["items"])).requires_grad_(True)
    chosen = np.sort(random.permutation(len(items))[:BATCH])
    labels = torch.from_numpy(np.eye(assignment.task.classes, dtype=np.float32)[assignment.classes[chosen]])
    inputs = as_input(ensemble.graph, items[torch.from_numpy(chosen)])
    x = roll_each(inputs, random.integers(-SHIFT, SHIFT + 1, len(chosen)))
    logits, mismatch = look(ensemble.graph, weights, x)
    doubt = soft_cross_entropy(logits, labels)
    rough = (items[:, :, 1:] - items[:, :, :-1]).square().mean() if items.shape[2] > 1 else torch.zeros(())
    loss = doubt + settings.invert.statistics_weight * mismatch + SMOOTHNESS * rough
    value = loss.item()
    if not np.isfinite(value):
        raise DivergedError(
            f"the loss of iteration {iteration + 1} is {value}",
            f"set invert.item_rate below {settings.invert.item_rate:g}",
        )
    gradient = torch.autograd.grad(loss, items)[0].numpy()
    changed = adam_step(state, {"items": gradient}, {"items": settings.invert.item_rate}, iteration + 1)
    return {**state, **changed}, {"loss": value, "doubt": doubt.item(), "mismatch": mismatch.item()}


def look(graph: Graph, weights: Tensors, x: Tensor) -> tuple[Tensor, Tensor]:
    """The answer of an expert to inputs ``x``, and how far its statistics are from the expert's.

    Returns:
        Logits (batch, classes); the mismatch, a scalar: the mean over the batch normalisations, 0 where there are none.
    """
    seen: list[Tensor] = []
    logits = forward(graph, weights, x, _measuring(weights, seen))
    return logits, torch.stack(seen).mean() if seen else torch.zeros(())


def _measuring(weights: Tensors, seen: list[Tensor]) -> Norm:
    norm = running_norm(weights)

    def measure(name: str, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
        wanted_mean, wanted = weights[f"{name}.running_mean"], weights[f"{name}.running_var"] + 1e-6
        ratio = (variance / wanted).clamp_min(1e-4)
        seen.append(((mean - wanted_mean).square() / wanted).mean() + ratio.log().square().mean())
        return norm(name, x)

    return measure
