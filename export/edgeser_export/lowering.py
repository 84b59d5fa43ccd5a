"""What every writer needs before the first byte: a graph without batch normalisation, and every constant of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edgeser_export.errors import GraphError
from edgeser_export.graph import (
    INPUT,
    Add,
    Conv,
    Graph,
    Linear,
    Normalise,
    Op,
    Relu,
    Shape,
    Softmax,
    Weights,
    fold_batchnorm,
    sources,
)


@dataclass(frozen=True)
class InferenceGraph:
    """A graph as the writers see it.

    Attributes:
        graph: Without batch normalisation. The tensors of a file have the names of its operations.
        weights: Of that graph in its order, with the numbers of normalisation and temperature as float32 (1,).
    """

    graph: Graph
    weights: Weights

    @property
    def classes(self) -> int:
        """Number of the outputs."""
        return self.graph.shapes[self.graph.output][0]

    @property
    def scores(self) -> InferenceGraph:
        """The same graph up to the logits: without the softmax, where it has one."""
        ops = self.graph.ops[:-1] if isinstance(self.graph.ops[-1], Softmax) else self.graph.ops
        return replace(self, graph=Graph(self.graph.input_shape, ops))


def lower(graph: Graph, weights: Weights) -> InferenceGraph:
    """Fold the batch normalisations and name the constants.

    Raises:
        GraphError: The weights do not fit, the input is no (channels, height, width), the output no vector, or two
            tensors of the file would have one name.
    """
    plain, folded = fold_batchnorm(graph, weights)
    _require_shape(plain.input_shape, 3, "input")
    _require_shape(plain.shapes[plain.output], 1, "output")
    for op in plain.ops:
        folded |= {f"{op.name}.{part}": np.array([value], np.float32) for part, value in numbers_of(op).items()}
    taken = [INPUT, *(op.name for op in plain.ops), *folded]
    twice = sorted({name for name in taken if taken.count(name) > 1})
    if twice:
        raise GraphError(f"two tensors of the file would be named {twice[0]!r}", "give that operation another name")
    return InferenceGraph(plain, folded)


def numbers_of(op: Op) -> dict[str, float]:
    """The numbers that an operation itself holds, by what they are called in a file."""
    match op:
        case Normalise():
            return {"mean": op.mean, "std": op.std}
        case Softmax():
            return {"temperature": op.temperature}
        case _:
            return {}


def merged_relus(graph: Graph) -> dict[str, str]:
    """Operation -> the ReLU that becomes part of it: nothing else reads the operation's output."""
    readers = [source for op in graph.ops for source in sources(op)]
    can_carry = {op.name for op in graph.ops if isinstance(op, Conv | Linear | Add)}
    return {
        op.source: op.name
        for op in graph.ops
        if isinstance(op, Relu) and op.source in can_carry and readers.count(op.source) == 1
    }


def _require_shape(shape: Shape, rank: int, what: str) -> None:
    if len(shape) != rank:
        wanted = {3: "(channels, height, width)", 1: "a vector of logits"}[rank]
        raise GraphError(f"the {what} has the shape {shape}, not {wanted}", "correct the architecture")
