"""Where the gradient of a training step is taken: where the parameters are, or at the worst point nearby.

    weights = train(graph, start, batch_of, schedule, slope=slope_nearby(0.05))

Steps by the gradient at theta + r g / |g|, with g the gradient at theta, lead to flat minima (sharpness-aware
minimisation, Foret et al. 2021, arXiv 2010.01412).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

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
    """The gradient at the worst point, to first order, at a distance of ``radius``; costs a second pass."""

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
