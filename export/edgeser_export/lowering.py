"""What every writer needs before the first byte: a graph without batch normalisation, and the names of its tensors."""

from __future__ import annotations

from dataclasses import dataclass

from edgeser_export.errors import GraphError
from edgeser_export.graph import INPUT, Add, Conv, Graph, Linear, Relu, Shape, Weights, fold_batchnorm, sources

LOGITS = "logits"
PROBABILITIES = "probabilities"
OUTPUTS = (LOGITS, PROBABILITIES)
"""Names of the outputs of every written file, in their order; ``probabilities`` is the softmax of ``logits``."""


@dataclass(frozen=True)
class InferenceGraph:
    """A graph as the writers see it.

    Attributes:
        graph: Without batch normalisation.
        weights: Of that graph.
        names: Name in the file for the input and for the output of every operation: its own name, and
            ``logits`` for the last one.
    """

    graph: Graph
    weights: Weights
    names: dict[str, str]

    @property
    def classes(self) -> int:
        """Number of logits."""
        return self.graph.shapes[self.graph.output][0]


def lower(graph: Graph, weights: Weights) -> InferenceGraph:
    """Fold the batch normalisations and name the tensors.

    Raises:
        GraphError: The weights do not fit, the input is no (channels, height, width), the output no vector, or a name
            is taken by the files' own tensors.
    """
    plain, folded = fold_batchnorm(graph, weights)
    _require_shape(plain.input_shape, 3, "input")
    _require_shape(plain.shapes[plain.output], 1, "output")
    names = {INPUT: INPUT} | {op.name: op.name for op in plain.ops} | {plain.output: LOGITS}
    taken = [*names.values(), PROBABILITIES, *plain.parameters]
    twice = sorted({name for name in taken if taken.count(name) > 1})
    if twice:
        raise GraphError(f"two tensors of the file would be named {twice[0]!r}", "give that operation another name")
    return InferenceGraph(plain, folded, names)


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
