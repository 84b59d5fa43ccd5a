"""Adam on plain arrays, its moments kept in a method's state, so that a resumed run goes on with the same bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgeser.distill.method import State

FIRST, SECOND = 0.9, 0.99
"""Decay of the mean and of the mean square of the gradients."""


def with_moments(state: State, learnt: Sequence[str]) -> State:
    """The state with empty moments for the arrays named in ``learnt``."""
    moments = {f"{kind}.{name}": np.zeros_like(state[name]) for name in learnt for kind in ("first", "second")}
    return {**state, **moments}


def adam_step(
    state: State,
    gradients: Mapping[str, NDArray[np.float32]],
    rates: Mapping[str, float],
    count: int,
    decay: tuple[float, float] = (FIRST, SECOND),
) -> dict[str, NDArray[np.float32]]:
    """The changed arrays and moments after one step of Adam (Kingma and Ba 2015, arXiv 1412.6980).

    Args:
        state: Holds each array and its moments.
        gradients: By name of the array.
        rates: Learning rate of each.
        count: Number of this step, from 1.
        decay: Of the mean and of the mean square of the gradients.
    """
    mean, square = decay
    changed: dict[str, NDArray[np.float32]] = {}
    for name, gradient in gradients.items():
        first = mean * state[f"first.{name}"] + (1 - mean) * gradient
        second = square * state[f"second.{name}"] + (1 - square) * gradient**2
        step = (first / (1 - mean**count)) / (np.sqrt(second / (1 - square**count)) + 1e-8)
        changed[name] = (state[name] - rates[name] * step).astype(np.float32)
        changed[f"first.{name}"] = first.astype(np.float32)
        changed[f"second.{name}"] = second.astype(np.float32)
    return changed
