"""What a training step reads and writes besides a student's parameters; numbers and names only, nothing to load.

The program that trains needs the names and shapes of the optimiser's state and the scalars of each step, but must not
load an exporter. The graph of the step itself is written by :mod:`edgeser_export.trainstep`.

    state = zero_state(graph, "adamw", "full")
    feeds = {**weights, **state, "x": items, "labels": labels, **scalars("adamw", step=1, learning_rate=1e-3)}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from edgeser_export.errors import GraphError
from edgeser_export.graph import Graph, Linear, Shape

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
    """What an optimiser keeps for every trained parameter, and what it is told at every step.

    Attributes:
        slots: Prefixes of the state, one array of the parameter's shape each: "first" gives "first.conv1.weight".
        scalars: Names of its float32 scalar inputs.
    """

    slots: tuple[str, ...]
    scalars: tuple[str, ...]


@dataclass(frozen=True)
class Trained:
    """Which parameters a step changes, and where its batch normalisations take their statistics from.

    Attributes:
        parameters: From a graph to the names it trains.
        batch_statistics: Normalise by the batch's own mean and variance; otherwise by running ones, given as inputs.
    """

    parameters: Callable[[Graph], tuple[str, ...]]
    batch_statistics: bool


def _all(graph: Graph) -> tuple[str, ...]:
    return tuple(graph.parameters)


def _head(graph: Graph) -> tuple[str, ...]:
    last = graph.ops[-1]
    if not isinstance(last, Linear):
        raise GraphError(f"the last operation {last.name!r} is not a dense layer", "train all parameters instead")
    return tuple(name for name in graph.parameters if name.rsplit(".", 1)[0] == last.name)


OPTIMISERS: Mapping[str, Optimiser] = MappingProxyType(
    {
        "adamw": Optimiser(
            slots=("first", "second"),
            scalars=("learning_rate", "weight_decay", "first_correction", "second_correction"),
        ),
        "sgd": Optimiser(slots=("velocity",), scalars=("learning_rate", "weight_decay")),
    }
)
TRAINED: Mapping[str, Trained] = MappingProxyType(
    {
        "full": Trained(_all, batch_statistics=True),
        "frozen": Trained(_all, batch_statistics=False),
        "head": Trained(_head, batch_statistics=False),
    }
)


def optimiser_of(name: str) -> Optimiser:
    """The row of ``OPTIMISERS``; GraphError for an unknown name."""
    if name not in OPTIMISERS:
        raise GraphError(f"there is no optimiser {name!r}", f"choose one of: {', '.join(OPTIMISERS)}")
    return OPTIMISERS[name]


def trained_of(name: str) -> Trained:
    """The row of ``TRAINED``; GraphError for an unknown name."""
    if name not in TRAINED:
        raise GraphError(f"there is no way of training {name!r}", f"choose one of: {', '.join(TRAINED)}")
    return TRAINED[name]


def trained_parameters(graph: Graph, trained: str = "full") -> dict[str, Shape]:
    """Names and shapes of the parameters that a step changes, in the order of the ops."""
    return {name: graph.parameters[name] for name in trained_of(trained).parameters(graph)}


def weight_names(graph: Graph, trained: str = "full") -> tuple[str, ...]:
    """The weights that a step reads: every parameter, and the running statistics where the batch's own are not used."""
    statistics = () if trained_of(trained).batch_statistics else tuple(graph.statistics)
    return (*graph.parameters, *statistics)


def state_shapes(graph: Graph, optimiser: str = "adamw", trained: str = "full") -> dict[str, Shape]:
    """Names and shapes of the optimiser's state, slot by slot."""
    parameters = trained_parameters(graph, trained)
    return {f"{slot}.{name}": parameters[name] for slot in optimiser_of(optimiser).slots for name in parameters}


def state_names(graph: Graph, optimiser: str = "adamw", trained: str = "full") -> tuple[str, ...]:
    """Names of the optimiser's state."""
    return tuple(state_shapes(graph, optimiser, trained))


def zero_state(graph: Graph, optimiser: str = "adamw", trained: str = "full") -> dict[str, NDArray[np.float32]]:
    """The optimiser's state before the first step."""
    return {name: np.zeros(shape, np.float32) for name, shape in state_shapes(graph, optimiser, trained).items()}


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
        learning_rate: Of this step.
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
