"""A student in two parts: a lower one that stays as it is, and an upper one that is trained further.

    name = cut_for(graph, "tail")                  # where the last convolution begins
    lower, upper = split(graph, name)              # lower(x) is what upper reads
    upper_weights = weights_of(upper, weights)     # the names are the whole student's

What the lower part computes for an item never changes, so it is computed once, and a step of training costs no more
than the upper part does.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edgeser_export.errors import GraphError
from edgeser_export.graph import INPUT, Conv, Graph, Linear, Weights, reading, sources

CUTS: Mapping[str, type[Conv | Linear] | None] = {"full": None, "tail": Conv, "head": Linear}
"""What is trained further -> the kind of operation of which one must be above a cut: the whole student, the last
convolution and what follows, or the last dense layer. The cut is made as far up as that allows."""


def cut_for(graph: Graph, part: str) -> str:
    """Name of the tensor below which nothing is trained; the graph's input for "full".

    Args:
        graph: A student.
        part: A row of ``CUTS``.

    Raises:
        GraphError: There is no such part.
    """
    if part not in CUTS:
        raise GraphError(f"there is no part {part!r} of a student", f"choose one of: {', '.join(CUTS)}")
    kind, found = CUTS[part], INPUT
    for index, op in enumerate(graph.ops[:-1]):
        above = graph.ops[index + 1 :]
        known = {op.name, *(other.name for other in above)}
        alone = all(known.issuperset(sources(other)) for other in above)
        if kind and alone and any(isinstance(op, kind) for op in above):
            found = op.name
    return found


def split(graph: Graph, name: str) -> tuple[Graph | None, Graph]:
    """The operations up to the tensor ``name``, and those that follow, which read it as their input.

    Args:
        graph: A student.
        name: A tensor that :func:`cut_for` names.

    Returns:
        No lower part where ``name`` is the graph's input. Operations keep their names.
    """
    if name == INPUT:
        return None, graph
    place = [op.name for op in graph.ops].index(name) + 1
    above = tuple(reading(op, {name: INPUT}) for op in graph.ops[place:])
    return Graph(graph.input_shape, graph.ops[:place]), Graph(graph.shapes[name], above)


def weights_of(part: Graph, weights: Weights) -> dict[str, NDArray[np.float32]]:
    """The parameters and running statistics of a part, out of the whole student's."""
    return {name: weights[name] for name in (*part.parameters, *part.statistics)}
