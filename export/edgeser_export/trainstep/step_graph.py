"""A whole training step of a student as one ordinary ONNX file that any onnxruntime runs.

    step = training_step(graph, batch=32)                  # bytes
    session = onnxruntime.InferenceSession(step)
    outputs = dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds)))
    feeds |= next_state(outputs)

The file computes forward pass, soft cross-entropy, every gradient and the optimiser's update: inputs are parameters,
the optimiser's state, a batch and scalars; outputs are "next." and the name of what it replaces, and "loss". Gradient
rules are in :mod:`edgeser_export.trainstep.gradients`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

import onnx

from edgeser_export.graph.op_graph import INPUT, BatchNorm, Graph, Shape, sources
from edgeser_export.trainstep.forward_ops import Flow, write_forward
from edgeser_export.trainstep.gradients import Gradient, accumulated, write_backward, write_loss
from edgeser_export.trainstep.step_state import (
    BETAS,
    EPSILON,
    ITEMS,
    LABELS,
    LOSS,
    MOMENTUM,
    NEXT,
    optimiser_of,
    state_shapes,
    uses_batch_statistics,
    weight_names,
)
from edgeser_export.utilities.errors import GraphError
from edgeser_export.writers.onnx_nodes import Nodes, floats, model_bytes


def training_step(
    graph: Graph, batch: int, optimiser: str = "adamw", trained: str = "full", plain: bool = False
) -> bytes:
    """One training step as a serialised ONNX model.

    Args:
        graph: The student; its output is a vector of logits.
        batch: Items a step, fixed in the file.
        optimiser: A row of ``OPTIMISERS``: "adamw", "sgd" with momentum, or "plain_sgd" without.
        trained: A row of ``TRAINED``: "full" or "frozen".
        plain: Only operators that every runtime computes alike; slower, for where the others go wrong.

    Returns:
        Bytes that are the same whenever they are written by the same version of ``onnx``.

    Raises:
        GraphError: The output is no vector, nothing is trained, a name is taken, or an argument is unknown.
    """
    if len(graph.shapes[graph.output]) != 1:
        raise GraphError(f"the output {graph.output!r} is no vector of logits", "end the graph in a Linear")
    settings, state = optimiser_of(optimiser), state_shapes(graph, optimiser)
    flow = _forward(graph, batch, uses_batch_statistics(trained), plain)
    UPDATES[optimiser](flow.nodes, _backward(flow), graph.parameters)
    weights = {**graph.parameters, **graph.statistics}
    inputs = [(name, weights[name]) for name in weight_names(graph, trained)]
    inputs += [*state.items(), (ITEMS, flow.shape(INPUT)), (LABELS, flow.shape(graph.output))]
    inputs += [(name, ()) for name in settings.scalars]
    outputs = [(f"{NEXT}{name}", shape) for name, shape in {**graph.parameters, **state}.items()]
    own: Mapping[str, Mapping[str, object]] = {
        "adamw": {"betas": BETAS, "epsilon": EPSILON},
        "sgd": {"momentum": MOMENTUM},
    }
    constants = own.get(optimiser, {})
    about = {"optimiser": optimiser, "trained": trained, "batch": batch, **constants, **({"plain": 1} if plain else {})}
    return _model(flow.nodes, inputs, [*outputs, (LOSS, ())], about)


def statistics_step(graph: Graph, batch: int) -> bytes:
    """The statistics of every batch normalisation on one batch, as a serialised ONNX model.

    Inputs are the parameters and "x"; outputs are named after the running statistics: the batch's mean, and its
    variance with the divisor n - 1 that torch writes into ``running_var``. Their average over all batches of a set is
    what torch's BatchNorm keeps with ``momentum=None``.

    Raises:
        GraphError: The graph has no batch normalisation, or a normalisation sees a single number a channel.
    """
    if not graph.statistics:
        raise GraphError("the graph has no batch normalisation", "there are no statistics to compute")
    flow = _forward(graph, batch, batch_statistics=True)
    nodes = flow.nodes
    for op in graph.ops:
        if isinstance(op, BatchNorm):
            shape = flow.shape(op.name)
            count = prod(shape) // shape[1]
            unbiased = nodes.number(count / (count - 1))
            nodes.add("Mul", flow.tensors[f"{op.name}.variance"], unbiased, into=f"{op.name}.running_var")
            nodes.add("Identity", flow.tensors[f"{op.name}.mean"], into=f"{op.name}.running_mean")
    inputs = [*graph.parameters.items(), (ITEMS, flow.shape(INPUT))]
    return _model(nodes, inputs, list(graph.statistics.items()), {"batch": batch})


def forward_pass(graph: Graph, batch: int) -> bytes:
    """The output of a student, or of a part of one, on a batch, as a serialised ONNX model.

    Inputs are "x", the parameters and the running statistics, which normalise; the output is named after the last
    operation.

    Raises:
        GraphError: The batch is not positive.
    """
    flow = _forward(graph, batch, batch_statistics=False)
    flow.nodes.add("Identity", flow.tensors[graph.output], into=graph.output)
    inputs = [*graph.parameters.items(), *graph.statistics.items(), (ITEMS, flow.shape(INPUT))]
    return _model(flow.nodes, inputs, [(graph.output, flow.shape(graph.output))], {"batch": batch})


def _forward(graph: Graph, batch: int, batch_statistics: bool, plain: bool = False) -> Flow:
    if batch < 1:
        raise GraphError(f"a batch of {batch} items", "use at least one item a step")
    flow = Flow(Nodes(), graph, batch, batch_statistics, plain=plain)
    for op in graph.ops:
        if isinstance(op, BatchNorm) and batch_statistics and prod(flow.shape(op.name)) == flow.shape(op.name)[1]:
            raise GraphError(f"{op.name!r} sees one number a channel, which has no variance", "use a larger batch")
        write_forward(flow, op)
    return flow


def _backward(flow: Flow) -> dict[str, str]:
    """Write loss and gradients; names of the gradients by parameter."""
    parameters = flow.graph.parameters
    if not parameters:
        raise GraphError("the graph has no parameters to be trained", "add a Conv or a Linear")
    waiting: dict[str, list[Gradient]] = {flow.graph.output: [write_loss(flow, LABELS, LOSS)]}
    lowest = min(index for index, op in enumerate(flow.graph.ops) if f"{op.name}.weight" in parameters)
    above = _above(flow.graph, parameters)
    found: dict[str, str] = {}
    for op in reversed(flow.graph.ops[lowest:]):
        if op.name not in waiting:
            continue
        gradient = accumulated(flow, op.name, waiting.pop(op.name))
        below = any(source in above for source in sources(op))
        result = write_backward(flow, op, gradient, below)
        found |= result.parameters
        for source, part in zip(sources(op), result.sources, strict=False):
            if source in above:
                waiting.setdefault(source, []).append(part)
    lost = [name for name in parameters if name not in found]
    if lost:
        raise GraphError(f"the loss does not depend on {lost[0]!r}", "remove the operation that nothing reads")
    return {name: found[name] for name in parameters}


def _above(graph: Graph, parameters: Mapping[str, Shape]) -> set[str]:
    """Names of the tensors that depend on a trained parameter."""
    names: set[str] = set()
    for op in graph.ops:
        if f"{op.name}.weight" in parameters or names.intersection(sources(op)):
            names.add(op.name)
    return names


def _beside(nodes: Nodes, shape: Shape) -> Callable[[str], str]:
    """The operation that makes a scalar an operand beside tensors of ``shape``.

    Where the last axis has one place, onnxruntime takes 20 times as long for a scalar without axes as for one with as
    many.
    """
    if len(shape) > 1 and shape[-1] == 1:
        return lambda scalar: nodes.reshape(scalar, (1,) * len(shape))
    return lambda scalar: scalar


def _adamw(nodes: Nodes, gradients: Mapping[str, str], shapes: Mapping[str, Shape]) -> None:
    """Loshchilov and Hutter 2019 (arXiv 1711.05101), algorithm 2, as torch.optim.AdamW has it.

    m' = b1 m + (1 - b1) g, v' = b2 v + (1 - b2) g^2, p' = (1 - lr wd) p - lr c1 m' / (sqrt(c2 v') + eps).
    """
    kept, rest = [nodes.number(beta) for beta in BETAS], [nodes.number(1 - beta) for beta in BETAS]
    shrink = nodes.add("Sub", nodes.number(1.0), nodes.add("Mul", "learning_rate", "weight_decay"))
    rate = nodes.add("Mul", "learning_rate", "first_correction")
    for name, gradient in gradients.items():
        beside = _beside(nodes, shapes[name])
        squared = nodes.add("Mul", gradient, gradient)
        moments = [
            nodes.add(
                "Add",
                nodes.add("Mul", f"{slot}.{name}", beside(kept[index])),
                nodes.add("Mul", value, beside(rest[index])),
                into=f"{NEXT}{slot}.{name}",
            )
            for index, (slot, value) in enumerate((("first", gradient), ("second", squared)))
        ]
        root = nodes.add("Sqrt", nodes.add("Mul", moments[1], beside("second_correction")))
        change = nodes.add(
            "Div", nodes.add("Mul", moments[0], beside(rate)), nodes.add("Add", root, beside(nodes.number(EPSILON)))
        )
        nodes.add("Sub", nodes.add("Mul", name, beside(shrink)), change, into=f"{NEXT}{name}")


def _sgd(nodes: Nodes, gradients: Mapping[str, str], shapes: Mapping[str, Shape]) -> None:
    """The update of torch.optim.SGD: u' = momentum u + g + wd p, p' = p - lr u'."""
    for name, gradient in gradients.items():
        beside = _beside(nodes, shapes[name])
        decayed = nodes.add("Add", gradient, nodes.add("Mul", name, beside("weight_decay")))
        moved = nodes.add("Mul", f"velocity.{name}", beside(nodes.number(MOMENTUM)))
        velocity = nodes.add("Add", moved, decayed, into=f"{NEXT}velocity.{name}")
        nodes.add("Sub", name, nodes.add("Mul", velocity, beside("learning_rate")), into=f"{NEXT}{name}")


def _plain_sgd(nodes: Nodes, gradients: Mapping[str, str], shapes: Mapping[str, Shape]) -> None:
    """The update of torch.optim.SGD without momentum: p' = p - lr (g + wd p)."""
    for name, gradient in gradients.items():
        beside = _beside(nodes, shapes[name])
        decayed = nodes.add("Add", gradient, nodes.add("Mul", name, beside("weight_decay")))
        nodes.add("Sub", name, nodes.add("Mul", decayed, beside("learning_rate")), into=f"{NEXT}{name}")


UPDATES: Mapping[str, Callable[[Nodes, Mapping[str, str], Mapping[str, Shape]], None]] = {
    "adamw": _adamw,
    "sgd": _sgd,
    "plain_sgd": _plain_sgd,
}


def _model(
    nodes: Nodes, inputs: list[tuple[str, Shape]], outputs: list[tuple[str, Shape]], about: Mapping[str, object]
) -> bytes:
    names = [name for name, _ in [*inputs, *outputs]]
    clash = next((name for name in names if names.count(name) > 1), None)
    if clash:
        raise GraphError(f"two tensors are called {clash!r}", "rename an operation")
    written = _needed(nodes.written, {name for name, _ in outputs})
    read = {name for node in written for name in node.input}
    constants = [constant for constant in nodes.constants if constant.name in read]
    return model_bytes("training step", written, floats(inputs), floats(outputs), constants, about)


def _needed(written: list[onnx.NodeProto], outputs: set[str]) -> list[onnx.NodeProto]:
    """The nodes that ``outputs`` depend on, in their order."""
    needed, kept = set(outputs), []
    for node in reversed(written):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    return kept[::-1]
