"""The inputs and outputs of a training step: their names, the optimisers' state and scalars. It needs numpy alone.

    feeds = {**parameters, **zero_state(graph, "adamw"), **scalars("adamw", 1, learning_rate=0.01)}

A board trains without the package onnx, with which :mod:`edgeser_export.trainstep.step_graph` writes steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeser_export.graph.op_graph import Graph, Shape
from edgeser_export.utilities.errors import GraphError, find_row

ITEMS = "x"
"""Input of a step: float32 [batch, channels, height, width]."""
LABELS = "labels"
"""Input of a step: float32 [batch, classes], each row sums to one."""
LOSS = "loss"
"""Output of a step: float32 scalar, the mean soft cross-entropy before the update."""
NEXT = "next."
"""Prefix of a step's outputs: the new value of the input that follows it."""

BETAS = (0.9, 0.999)
"""Decay of AdamW's two moments, torch's defaults."""
EPSILON = 1e-8
"""Added to AdamW's denominator, torch's default."""
MOMENTUM = 0.9
"""Momentum of stochastic gradient descent."""


@dataclass(frozen=True)
class Optimiser:
    """The state that an optimiser keeps for every trained parameter, and the numbers that it is given at every step.

    Attributes:
        slots: Prefixes of the state, one array of the parameter's shape each: "first" gives "first.conv1.weight".
        scalars: Names of its float32 scalar inputs.
    """

    slots: tuple[str, ...]
    scalars: tuple[str, ...]


OPTIMISERS: Mapping[str, Optimiser] = {
    "adamw": Optimiser(
        slots=("first", "second"), scalars=("learning_rate", "weight_decay", "first_correction", "second_correction")
    ),
    "sgd": Optimiser(slots=("velocity",), scalars=("learning_rate", "weight_decay")),
    "plain_sgd": Optimiser(slots=(), scalars=("learning_rate", "weight_decay")),
}
TRAINED: Mapping[str, bool] = {"full": True, "frozen": False}
"""Whether batch normalisations use the batch's own mean and variance, or running ones, which are inputs then."""


def optimiser_of(name: str) -> Optimiser:
    """The row of ``OPTIMISERS``; GraphError for an unknown name."""
    return find_row(OPTIMISERS, name, "optimiser", GraphError)


def uses_batch_statistics(trained: str) -> bool:
    """The row of ``TRAINED``; GraphError for an unknown name."""
    return find_row(TRAINED, trained, "way of training", GraphError)


def weight_names(graph: Graph, trained: str = "full") -> tuple[str, ...]:
    """The weights that a step reads: every parameter, and the running statistics where the batch's own are not used."""
    return (*graph.parameters, *(() if uses_batch_statistics(trained) else graph.statistics))


def state_shapes(graph: Graph, optimiser: str = "adamw") -> dict[str, Shape]:
    """Names and shapes of the optimiser's state, slot by slot."""
    slots = optimiser_of(optimiser).slots
    return {f"{slot}.{name}": shape for slot in slots for name, shape in graph.parameters.items()}


def zero_state(graph: Graph, optimiser: str = "adamw") -> dict[str, NDArray[np.float32]]:
    """The optimiser's state before the first step."""
    return {name: np.zeros(shape, np.float32) for name, shape in state_shapes(graph, optimiser).items()}


def next_state(outputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """The new parameters and state among a step's outputs, under the names of the inputs they replace.

    They are copies: what onnxruntime returns lies between its own tensors, which would have to be put elsewhere while
    it is held.
    """
    return {name.removeprefix(NEXT): value.copy() for name, value in outputs.items() if name.startswith(NEXT)}


def scalars(
    optimiser: str, step: int, learning_rate: float, weight_decay: float = 0.0
) -> dict[str, NDArray[np.float32]]:
    """The scalar inputs of one step.

    Args:
        optimiser: A row of ``OPTIMISERS``.
        step: Counts from 1, the first step after the state was zero.
        learning_rate: Learning rate of this step.
        weight_decay: Decoupled for AdamW, added to the gradient for stochastic gradient descent.

    Returns:
        Float32 scalars. AdamW's corrections 1 / (1 - beta^step) (Kingma and Ba 2015, arXiv 1412.6980, algorithm 1) are
        computed in float64: 1 - 0.999^step loses three digits in float32.
    """
    if step < 1:
        raise GraphError(f"step {step} is before the first", "count steps from 1")
    known = {"learning_rate": learning_rate, "weight_decay": weight_decay}
    for name, beta in zip(("first_correction", "second_correction"), BETAS, strict=True):
        known[name] = 1.0 / (1.0 - beta**step)
    return {name: np.array(known[name], np.float32) for name in optimiser_of(optimiser).scalars}
