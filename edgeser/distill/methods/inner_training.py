"""Backpropagation through the training steps of a student, one step at a time.

    after, loss, gradients = through_steps(spec, student, learnt, steps=20, meta_loss=loss_of)

Of the way there only the student after each step is kept; on the way back each step is made again with its graph and
gives the product of its Jacobian with what comes from behind. So memory does not grow with the number of steps, and
the cost of one is that of a second derivative and one more forward and backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import torch
from torch import Tensor

from edgeser.models.network import Tensors, forward
from edgeser.models.second_order import TWICE, batch_norm
from edgeser.models.training import soft_cross_entropy
from edgeser_export.graph.op_graph import Graph
from edgeser_export.trainstep.step_state import BETAS, EPSILON, MOMENTUM, optimiser_of

SMALLEST_SQUARE = 1e-12
"""Added to AdamW's mean square under its root, whose derivative has no bound at zero."""


@dataclass(frozen=True)
class Student:
    """A student in training.

    Attributes:
        values: Parameters, and the optimiser's slots as ``first.conv1.weight``, by name.
        done: Steps that it has made.
    """

    values: Tensors
    done: int


@dataclass(frozen=True)
class Batch:
    """One step's batch and learning rate, all of it with a gradient to what is learnt.

    Attributes:
        x: Views (batch, 1, mels, frames).
        labels: Their soft labels (batch, classes).
        rate: Learning rate, a scalar.
    """

    x: Tensor
    labels: Tensor
    rate: Tensor


@dataclass(frozen=True)
class UnrollSpec:
    """The training of a student, as a function of what is learnt.

    Attributes:
        graph: The student.
        optimiser: A row of ``UPDATES``.
        weight_decay: As the optimiser defines it.
        batch_of: (what is learnt, number of the step from 0) to the batch of that step.
    """

    graph: Graph
    optimiser: str
    weight_decay: float
    batch_of: Callable[[Tensors, int], Batch]


MetaLoss: TypeAlias = Callable[[Tensors, Tensors], Tensor]
"""(parameters of the student, what is learnt) to a scalar."""


def fresh(spec: UnrollSpec, start: Tensors) -> Student:
    """The student before its first step: ``start``, and slots of zeros."""
    parameters = {name: start[name] for name in spec.graph.parameters}
    slots = optimiser_of(spec.optimiser).slots
    zeros = {f"{slot}.{name}": torch.zeros_like(value) for slot in slots for name, value in parameters.items()}
    return Student({**parameters, **zeros}, 0)


def step(spec: UnrollSpec, student: Student, learnt: Tensors) -> Student:
    """The student after one more step, as a function of what is learnt and of its values, which need gradients."""
    graph, values = spec.graph, student.values
    batch = spec.batch_of(learnt, student.done)
    logits = forward(graph, values, batch.x, batch_norm(values), operations=TWICE)
    parameters = [values[name] for name in graph.parameters]
    gradients = torch.autograd.grad(soft_cross_entropy(logits, batch.labels), parameters, create_graph=True)
    update = UPDATES[spec.optimiser]
    following: dict[str, Tensor] = {}
    for name, gradient in zip(graph.parameters, gradients, strict=True):
        following |= update(values, name, gradient, batch.rate, spec.weight_decay, student.done + 1)
    return Student(following, student.done + 1)


def without_graph(spec: UnrollSpec, student: Student, learnt: Tensors, steps: int) -> list[Student]:
    """The student now and after each of ``steps`` further steps."""
    fixed = {name: value.detach() for name, value in learnt.items()}
    # Made before the first step: small tensors among the large ones of the steps would keep the heap from shrinking.
    room = [{name: torch.empty_like(value) for name, value in student.values.items()} for _ in range(steps)]
    students = [student]
    for values in room:
        students.append(_without_graph(spec, students[-1], fixed, values))
    return students


def _without_graph(spec: UnrollSpec, student: Student, learnt: Tensors, room: Tensors) -> Student:
    # A function of its own: one step's graph is gone before the next one is made.
    after = step(spec, _leaves(student), learnt)
    for name, value in after.values.items():
        room[name].copy_(value.detach())
    return Student(room, after.done)


def through_steps(
    spec: UnrollSpec, student: Student, learnt: Tensors, steps: int, meta_loss: MetaLoss
) -> tuple[Student, Tensor, dict[str, Tensor]]:
    """Train a student further, and differentiate what it is worth then.

    Args:
        spec: The rules of its training.
        student: The student before.
        learnt: Leaves that need gradients.
        steps: Steps to make, at least 1.
        meta_loss: The loss of the student afterwards.

    Returns:
        The student after the steps, the meta-loss, and the gradient of the loss by each of ``learnt``.
    """
    students = without_graph(spec, student, learnt, steps)
    reached = _leaves(students[-1])
    loss = meta_loss(reached.values, learnt)
    incoming, gradients = _pulled_back([loss], [None], reached, learnt)
    for before in reversed(students[:-1]):
        incoming, more = _through_one(spec, before, learnt, incoming)
        gradients = {name: gradients[name] + more[name] for name in gradients}
    return students[-1], loss.detach(), gradients


def _through_one(
    spec: UnrollSpec, before: Student, learnt: Tensors, incoming: Tensors
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    leaves = _leaves(before)
    after = step(spec, leaves, learnt).values
    return _pulled_back(list(after.values()), [incoming[name] for name in after], leaves, learnt)


def _pulled_back(
    outputs: Sequence[Tensor], weights: Sequence[Tensor | None], student: Student, learnt: Tensors
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The products of ``weights`` with the outputs' Jacobians by the student and by what is learnt."""
    inputs = {**{("student", name): value for name, value in student.values.items()}}
    inputs |= {("learnt", name): value for name, value in learnt.items()}
    wanted = list(inputs.values())
    products = torch.autograd.grad(outputs, wanted, weights, allow_unused=True, materialize_grads=True)
    parts: dict[str, dict[str, Tensor]] = {"student": {}, "learnt": {}}
    for (kind, name), product in zip(inputs, products, strict=True):
        parts[kind][name] = product
    return parts["student"], parts["learnt"]


def _leaves(student: Student) -> Student:
    values = {name: value.detach().requires_grad_(True) for name, value in student.values.items()}
    return Student(values, student.done)


Update: TypeAlias = Callable[[Tensors, str, Tensor, Tensor, float, int], dict[str, Tensor]]
"""(values, name of a parameter, its gradient, rate, weight decay, number of the step from 1) to its new values."""


def _adamw(values: Tensors, name: str, gradient: Tensor, rate: Tensor, decay: float, count: int) -> dict[str, Tensor]:
    first = BETAS[0] * values[f"first.{name}"] + (1 - BETAS[0]) * gradient
    second = BETAS[1] * values[f"second.{name}"] + (1 - BETAS[1]) * gradient.square()
    size = (second / (1 - BETAS[1] ** count) + SMALLEST_SQUARE).sqrt() + EPSILON
    value = values[name] * (1 - rate * decay) - rate * (first / (1 - BETAS[0] ** count)) / size
    return {name: value, f"first.{name}": first, f"second.{name}": second}


def _sgd(values: Tensors, name: str, gradient: Tensor, rate: Tensor, decay: float, _count: int) -> dict[str, Tensor]:
    velocity = MOMENTUM * values[f"velocity.{name}"] + gradient + decay * values[name]
    return {name: values[name] - rate * velocity, f"velocity.{name}": velocity}


def _plain_sgd(
    values: Tensors, name: str, gradient: Tensor, rate: Tensor, decay: float, _count: int
) -> dict[str, Tensor]:
    return {name: values[name] * (1 - rate * decay) - rate * gradient if decay else values[name] - rate * gradient}


UPDATES: Mapping[str, Update] = MappingProxyType({"adamw": _adamw, "sgd": _sgd, "plain_sgd": _plain_sgd})
"""The optimisers of :mod:`edgeser_export.trainstep.step_graph`, to be differentiated, and steps without slots."""


Through: TypeAlias = Callable[[UnrollSpec, Student, Tensors, int, MetaLoss], tuple[Student, Tensor, dict[str, Tensor]]]
"""(spec, student, what is learnt, steps, what the student is worth) to student, loss, gradients; all as
:func:`edgeser.distill.methods.inner_training.through_steps`."""


def through_all_steps(
    spec: UnrollSpec, student: Student, learnt: Tensors, steps: int, meta_loss: MetaLoss
) -> tuple[Student, Tensor, dict[str, Tensor]]:
    """It does what :func:`through_steps` does, with the graph of all steps: no step is made twice."""
    reached = Student(
        {name: value.detach().requires_grad_(True) for name, value in student.values.items()}, student.done
    )
    for _ in range(steps):
        reached = step(spec, reached, learnt)
    loss = meta_loss(reached.values, learnt)
    found = torch.autograd.grad(loss, list(learnt.values()), allow_unused=True, materialize_grads=True)
    gradients = dict(zip(learnt, found, strict=True))
    values = {name: value.detach() for name, value in reached.values.items()}
    return Student(values, reached.done), loss.detach(), gradients


MEMORY: Mapping[str, Through] = MappingProxyType({"fast": through_all_steps, "lean": through_steps})
"""fast keeps every step's graph; lean keeps the parameters after each and makes every step a second time."""
