"""Two ways to differentiate through the steps of a student: all steps in memory, or one.

    after, loss, gradients = MEMORY["lean"](course, student, learnt, steps=10, outer=loss_of)

Both give the same gradients up to rounding; the settings ``mtt.memory`` and ``unroll.memory`` name a
row of ``MEMORY``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import torch
from torch import Tensor

from edgeser.distill.unrolling import Course, Outer, Student, step, through_steps
from edgeser.network import Tensors

Through: TypeAlias = Callable[[Course, Student, Tensors, int, Outer], tuple[Student, Tensor, dict[str, Tensor]]]
"""(course, student, what is learnt, steps, what the student is worth) to student, loss, gradients; all as
:func:`edgeser.distill.unrolling.through_steps`."""


def through_all_steps(
    course: Course, student: Student, learnt: Tensors, steps: int, outer: Outer
) -> tuple[Student, Tensor, dict[str, Tensor]]:
    """As :func:`edgeser.distill.unrolling.through_steps`, with the graph of all steps: no step is made twice."""
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
