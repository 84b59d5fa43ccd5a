"""What the generator is taught by: the features that an expert sees, and the losses on them.

For one expert, f(x) are the mean and standard deviation over the map of every channel before each of its
normalisations, its last features, and the texture of x: every band's mean, standard deviation and root mean square
differences to 1, 2 and 4 frames later and to the next band. All are in standard deviations of the real clips; p(x) is
the softmax of the logits. Without the texture, stripes that no clip has serve an expert as well as speech does.
Of a vector, a map of one by one, f(x) has the vector itself instead, and spreads over the map are zero.

    L_GP   = E (|grad_f D(f, y)| - 1)^2                              between real and generated f (arXiv 1704.00028)
    L_FM   = mean over classes of |mean f(x) - mean f(G)|^2 + |sd f(x) - sd f(G)|^2
    L_SML  = mean over classes c of E CE(mean of p(x) over the clips of c, p(G))
    L_DIV  = mean over classes of max(0, 1 - E |f(G) - f(G')| / E |f(x) - f(x')|)^2
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
    seen = list(texture(x[:, 0])) if x.shape[3] > 1 else [x[:, :, 0, 0]]
    last = next(op for op in reversed(graph.ops) if isinstance(op, Linear))
    features = forward(graph, weights, x, _noting(weights, seen), last.source)
    logits = functional.linear(features, weights[f"{last.name}.weight"], weights[f"{last.name}.bias"])
    return Look(torch.cat([*seen, features], 1), logits)


LAGS = (1, 2, 4)
"""Frames between which differences are taken."""


def texture(x: Tensor) -> Iterator[Tensor]:
    """Statistics of every band of ``x`` (batch, mels, frames): (batch, mels) each, one band less for the last."""
    spread, middle = torch.var_mean(x, dim=2, correction=0)
    yield middle
    yield torch.sqrt(spread + SPREAD**2)
    for lag in LAGS:
        yield torch.sqrt((x[:, :, lag:] - x[:, :, :-lag]).square().mean(2) + SPREAD**2)
    yield torch.sqrt((x[:, 1:] - x[:, :-1]).square().mean(2) + SPREAD**2)


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
