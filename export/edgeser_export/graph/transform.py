"""Transformations of an op graph: a whole recogniser, batch normalisation folded, and the parts that are trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgeser_export.graph.op_graph import (
    INPUT,
    NORM_EPSILON,
    Add,
    BatchNorm,
    Conv,
    Graph,
    Linear,
    Normalise,
    Op,
    Relu,
    Shape,
    Softmax,
    Weights,
    reading,
    sources,
)
from edgeser_export.utilities.errors import GraphError, find_row

NORMALISED, PROBABILITIES = "normalised", "probabilities"
"""The names of what :func:`recogniser` adds to a student: what the student then reads, and the output."""


@dataclass(frozen=True)
class InferenceGraph:
    """A graph as the writers see it.

    Attributes:
        graph: Without batch normalisation. The tensors of a file have the names of its operations.
        weights: The graph's weights in its order, with the numbers of normalisation and temperature as float32 (1,).
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


def recogniser(student: Graph, mean: float, std: float, temperature: float) -> Graph:
    """A student with all that makes it a recogniser: it reads levels in dB and gives probabilities.

    The normalisation is an operation of its own: a convolution pads with zeros behind it, so that it cannot become part
    of the convolution's weights.

    Args:
        student: The op graph, whose output are logits.
        mean: The front-end's mean level in dB.
        std: The front-end's standard deviation in dB, above 0.
        temperature: The logits are divided by it; above 0.

    Raises:
        GraphError: A number is out of its range, or the student has an operation of one of the new names.
    """
    inner = (reading(op, {INPUT: NORMALISED}) for op in student.ops)
    ends = Normalise(NORMALISED, INPUT, mean, std), Softmax(PROBABILITIES, student.output, temperature)
    return Graph(student.input_shape, (ends[0], *inner, ends[1]))


def fold_batchnorm(graph: Graph, weights: Weights) -> tuple[Graph, dict[str, NDArray[np.float32]]]:
    """Merge every batch normalisation into the convolution before it.

    With running mean m and variance v, gain g and shift b: w' = w s and b' = b + (b_conv - m) s; s = g / sqrt(v + eps).

    Returns:
        A graph without batch normalisation, and its weights. Folding is computed in float64.

    Raises:
        GraphError: A normalisation does not follow a convolution that nothing else reads.
    """
    graph.check(weights)
    readers = [source for op in graph.ops for source in sources(op)]
    convs = {op.name: op for op in graph.ops if isinstance(op, Conv)}
    norms = {op.source: op for op in graph.ops if isinstance(op, BatchNorm)}
    for norm in norms.values():
        if norm.source not in convs or readers.count(norm.source) != 1:
            raise GraphError(f"{norm.name!r} does not follow a convolution of its own", "put it right after a Conv")
    renamed = {norm.name: norm.source for norm in norms.values()}
    ops: list[Op] = []
    folded: dict[str, NDArray[np.float32]] = {}
    for op in graph.ops:
        if isinstance(op, BatchNorm):
            continue
        op = reading(op, renamed)
        if isinstance(op, Conv) and op.name in norms:
            weight, bias = _folded(op, norms[op.name].name, weights)
            folded |= {f"{op.name}.weight": weight, f"{op.name}.bias": bias}
            op = Conv(op.name, op.source, op.channels, op.kernel, op.stride, op.padding, bias=True)
        else:
            names = (f"{op.name}.{part}" for part in ("weight", "bias"))
            folded |= {name: weights[name] for name in names if name in graph.parameters}
        ops.append(op)
    return Graph(graph.input_shape, tuple(ops)), folded


def _folded(conv: Conv, norm: str, weights: Weights) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    wide = {
        part: weights[f"{norm}.{part}"].astype(np.float64) for part in ("weight", "bias", "running_mean", "running_var")
    }
    scale = wide["weight"] / np.sqrt(wide["running_var"] + NORM_EPSILON)
    bias = weights[f"{conv.name}.bias"].astype(np.float64) if conv.bias else 0.0
    weight = weights[f"{conv.name}.weight"].astype(np.float64) * scale[:, None, None, None]
    return weight.astype(np.float32), ((bias - wide["running_mean"]) * scale + wide["bias"]).astype(np.float32)


def for_inference(graph: Graph, weights: Weights) -> InferenceGraph:
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


CUTS: Mapping[str, type[Conv | Linear] | None] = {"full": None, "tail": Conv, "head": Linear}
"""The part to train further -> the kind of operation of which one must be above a cut: the whole student, the last
convolution and what follows, or the last dense layer. The cut is made as far up as that allows."""


def cut_for(graph: Graph, part: str) -> str:
    """Name of the tensor below which nothing is trained; the graph's input for "full".

    Args:
        graph: A student.
        part: A row of ``CUTS``.

    Raises:
        GraphError: There is no such part.
    """
    kind, found = find_row(CUTS, part, "part", GraphError), INPUT
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
