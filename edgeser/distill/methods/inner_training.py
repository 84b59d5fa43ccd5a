"""Backpropagation through the training steps of a student, one step at a time.

    after, loss, gradients = through_steps(course, student, learnt, steps=20, outer=loss_of)

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
class Lesson:
    """What a student is taught in one step, all of it with a gradient to what is learnt.

    Attributes:
        x: Views (batch, 1, mels, frames).
        labels: Their soft labels (batch, classes).
        rate: Learning rate, a scalar.
    """

    x: Tensor
    labels: Tensor
    rate: Tensor


@dataclass(frozen=True)
class Course:
    """How a student is trained, as a function of what is learnt.

    Attributes:
        graph: The student.
        optimiser: A row of ``UPDATES``.
        weight_decay: As the optimiser defines it.
        lesson: (what is learnt, number of the step from 0) to the lesson of that step.
    """

    graph: Graph
    optimiser: str
    weight_decay: float
    lesson: Callable[[Tensors, int], Lesson]


Outer: TypeAlias = Callable[[Tensors, Tensors], Tensor]
"""(parameters of the student, what is learnt) to a scalar."""


def fresh(course: Course, start: Tensors) -> Student:
    """The student before its first step: ``start``, and slots of zeros."""
    parameters = {name: start[name] for name in course.graph.parameters}
    slots = optimiser_of(course.optimiser).slots
    zeros = {f"{slot}.{name}": torch.zeros_like(value) for slot in slots for name, value in parameters.items()}
    return Student({**parameters, **zeros}, 0)


def step(course: Course, student: Student, learnt: Tensors) -> Student:
    """The student after one more step, as a function of what is learnt and of its values, which need gradients."""
    graph, values = course.graph, student.values
    lesson = course.lesson(learnt, student.done)
    logits = forward(graph, values, lesson.x, batch_norm(values), operations=TWICE)
    parameters = [values[name] for name in graph.parameters]
    gradients = torch.autograd.grad(soft_cross_entropy(logits, lesson.labels), parameters, create_graph=True)
    update = UPDATES[course.optimiser]
    following: dict[str, Tensor] = {}
    for name, gradient in zip(graph.parameters, gradients, strict=True):
        following |= update(values, name, gradient, lesson.rate, course.weight_decay, student.done + 1)
    return Student(following, student.done + 1)


def without_graph(course: Course, student: Student, learnt: Tensors, steps: int) -> list[Student]:
    """The student now and after each of ``steps`` further steps."""
    fixed = {name: value.detach() for name, value in learnt.items()}
    # Made before the first step: small tensors among the large ones of the steps would keep the heap from shrinking.
    room = [{name: torch.empty_like(value) for name, value in student.values.items()} for _ in range(steps)]
    students = [student]
    for values in room:
        students.append(_without_graph(course, students[-1], fixed, values))
    return students


def _without_graph(course: Course, student: Student, learnt: Tensors, room: Tensors) -> Student:
    # A function of its own: one step's graph is gone before the next one is made.
    after = step(course, _leaves(student), learnt)
    for name, value in after.values.items():
        room[name].copy_(value.detach())
    return Student(room, after.done)


def through_steps(
    course: Course, student: Student, learnt: Tensors, steps: int, outer: Outer
) -> tuple[Student, Tensor, dict[str, Tensor]]:
    """Train a student further, and differentiate what it is worth then.

    Args:
        course: How it is trained.
        student: Where it stands.
        learnt: Leaves that need gradients.
        steps: Steps to make, at least 1.
        outer: What the student is worth afterwards.

    Returns:
        The student after the steps, the outer loss, and the gradient of the loss by each of ``learnt``.
    """
    students = without_graph(course, student, learnt, steps)
    reached = _leaves(students[-1])
    loss = outer(reached.values, learnt)
    incoming, gradients = _pulled_back([loss], [None], reached, learnt)
    for before in reversed(students[:-1]):
        incoming, more = _through_one(course, before, learnt, incoming)
        gradients = {name: gradients[name] + more[name] for name in gradients}
    return students[-1], loss.detach(), gradients


def _through_one(
    course: Course, before: Student, learnt: Tensors, incoming: Tensors
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    leaves = _leaves(before)
    after = step(course, leaves, learnt).values
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


Through: TypeAlias = Callable[[Course, Student, Tensors, int, Outer], tuple[Student, Tensor, dict[str, Tensor]]]
"""(course, student, what is learnt, steps, what the student is worth) to student, loss, gradients; all as
:func:`edgeser.distill.methods.inner_training.through_steps`."""


def through_all_steps(
    course: Course, student: Student, learnt: Tensors, steps: int, outer: Outer
) -> tuple[Student, Tensor, dict[str, Tensor]]:
    """It does what :func:`through_steps` does, with the graph of all steps: no step is made twice."""
    reached = Student(
        {name: value.detach().requires_grad_(True) for name, value in student.values.items()}, student.done
    )
    for _ in range(steps):
        reached = step(course, reached, learnt)
    loss = outer(reached.values, learnt)
    found = torch.autograd.grad(loss, list(learnt.values()), allow_unused=True, materialize_grads=True)
    gradients = dict(zip(learnt, found, strict=True))
    values = {name: value.detach() for name, value in reached.values.items()}
    return Student(values, reached.done), loss.detach(), gradients


MEMORY: Mapping[str, Through] = MappingProxyType({"fast": through_all_steps, "lean": through_steps})
"""fast keeps every step's graph; lean keeps the parameters after each and makes every step a second time."""
