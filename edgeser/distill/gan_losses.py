"""What the generator is taught by: the features that an expert sees, and the losses on them.

For one expert, f(x) are the mean and standard deviation over the map of every channel before each of its
normalisations, and its last features, all in standard deviations of the real clips; p(x) is the softmax of its logits.

    L_GP   = E (|grad_f D(f, y)| - 1)^2                              between real and generated f (arXiv 1704.00028)
    L_FM   = mean over classes of |mean f(x) - mean f(G)|^2 + |sd f(x) - sd f(G)|^2
    L_SML  = mean over classes c of E CE(mean of p(x) over the clips of c, p(G))
    L_DIV  = mean over classes of max(0, 1 - E |f(G) - f(G')| / E |f(x) - f(x')|)^2
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from edgeser.network import Norm, Tensors, forward, running_norm
from edgeser_export.graph import NORM_EPSILON, Graph, Linear

SPREAD = 1e-3
"""Least standard deviation of a feature, and least distance of two items."""


class Look(NamedTuple):
    """What an expert makes of a batch.

    Attributes:
        features: float32 (batch, features).
        logits: float32 (batch, classes).
    """

    features: Tensor
    logits: Tensor


def look(graph: Graph, weights: Tensors, x: Tensor) -> Look:
    """Projected features and logits of ``x`` (batch, 1, mels, frames), the expert in inference."""
    seen: list[Tensor] = []
    last = next(op for op in reversed(graph.ops) if isinstance(op, Linear))
    features = forward(graph, weights, x, _noting(weights, seen), last.source)
    logits = functional.linear(features, weights[f"{last.name}.weight"], weights[f"{last.name}.bias"])
    return Look(torch.cat([*seen, features], 1), logits)


def _noting(weights: Tensors, seen: list[Tensor]) -> Norm:
    norm = running_norm(weights)

    def note(name: str, x: Tensor) -> Tensor:
        mean, variance = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
        spread, middle = torch.var_mean(x, dim=(2, 3), correction=0)
        unit = torch.rsqrt(variance + NORM_EPSILON)
        seen.extend(((middle - mean) * unit, torch.sqrt(spread + NORM_EPSILON) * unit))
        return norm(name, x)

    return note


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], real: Tensor, made: Tensor, share: Tensor
) -> tuple[Tensor, Tensor]:
    """L_GP, and the mean length of the critic's gradient, which it pulls to 1.

    Args:
        critic: Features to scores (batch,).
        real: Features of clips, (batch, features).
        made: Features of items.
        share: Where between the two, (batch, 1) in 0 to 1.
    """
    between = (share * real + (1 - share) * made).detach().requires_grad_(True)
    slope = torch.autograd.grad(critic(between).sum(), between, create_graph=True)[0].norm(dim=1)
    return (slope - 1).square().mean(), slope.mean()


def feature_matching(real: Tensor, made: Tensor) -> Tensor:
    """L_FM of one class: features of its clips and of its items."""
    centre = (real.mean(0) - made.mean(0)).square().mean()
    return centre + (real.std(0) - made.std(0)).square().mean()


def probability_matching(real: Tensor, made: Tensor) -> Tensor:
    """L_SML of one class: logits of its clips and of its items."""
    target = real.softmax(1).mean(0)
    return -(target * functional.log_softmax(made, dim=1)).sum(1).mean()


def lack_of_diversity(real: Tensor, made: Tensor) -> Tensor:
    """L_DIV of one class: features of its clips and of its items."""
    return (1 - _mean_distance(made) / _mean_distance(real)).clamp_min(0).square()


def _mean_distance(features: Tensor) -> Tensor:
    first, second = torch.triu_indices(len(features), len(features), 1)
    squared = (features[first] - features[second]).square().mean(1)
    return torch.sqrt(squared + SPREAD**2).mean()  # the square root of 0 has no gradient
