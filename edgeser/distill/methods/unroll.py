"""Unrolling: items, labels and learning rates through the student's own training, in truncated windows.

A student starts at the fixed initialisation and trains on the views of the set as it will on the board: the same
recipes, batches, optimiser and decay. After a window of W steps it should tell real clips apart,

    loss = min over s of CE(s z(clip), label(clip))

z are its logits with the batch statistics of the set's views, as the board computes them at the end; the scale s takes
away what no decision depends on. The gradient goes back through the W steps to the items, to the logits of the views'
labels, and to the learning rates (Wang et al. 2018, arXiv 1811.10959; windows at random places: RaT-BPTT, Feng et al.
2023, arXiv 2311.04147). Windows lie in the second half of the training: in the first, where rates are high, small
changes grow so fast that the gradients of two orders of the same views have nothing in common.

The student is kept from one window to the next and starts anew, on another order, at the end of its training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from edgeser.distill.label_bank import bank_plan, bank_recipes, make_bank
from edgeser.distill.method import Assignment, State
from edgeser.distill.methods.inner_training import MEMORY, Batch, MetaLoss, Student, UnrollSpec, fresh, without_graph
from edgeser.distill.optimise import adam_step, views_of, with_moments
from edgeser.distill.starts import begin_items
from edgeser.errors import DivergedError
from edgeser.models.network import Norm, Tensors, as_input, forward, measured_norm, to_arrays, to_tensors
from edgeser.models.training import augmented_batches, soft_cross_entropy
from edgeser_device.data.schedule import Schedule, batch_indices, learning_rate, rate_position
from edgeser_device.data.views import Recipes
from edgeser_export.graph.op_graph import NORM_EPSILON

OPTIMISER = "adamw"
"""The student's optimiser; gradient descent with momentum learns less in as few steps."""
EARLIEST = 0.5
"""Share of the student's steps before which no window begins."""
KNOTS = 10
"""Learnt rates, spread over the student's steps: more have too little to learn from each."""
LOWEST_RATE = 0.02
"""The least share of the peak rate: a cycle's last rates are nearly zero, where no gradient leads away."""
CLIPS = 256
"""Real clips in one meta-loss."""
VIEWS = 64
"""Views whose statistics the student has there."""
SMALLEST_SHARE = 1e-4
"""The least share of a class in any label at the beginning, so that its logit is finite."""
LABEL_RATE, RATE_RATE = 0.05, 0.03
"""Learning rates of the labels' logits and of the raw learning rates."""
SCALE_STEPS, LEAST_SCALE = 20, 0.02
"""Newton's steps to the best scale, each at most a factor of two; the smallest scale, whose inverse is the largest."""
KEPT = "student."
"""Prefix of what the state keeps of the student."""
LEARNT = ("items", "label_logits", "raw_rates")


def begin(assignment: Assignment) -> State:
    """Items and labels as without this method, the rates of one cycle, empty moments, and a student that is done."""
    settings, items = assignment.settings, begin_items(assignment)
    _, labels = make_bank(items, assignment.classes, assignment.ensemble, bank_plan(assignment))
    cycle = Schedule(steps=KNOTS, peak_rate=settings.peak_rate)
    rates = np.maximum([learning_rate(cycle, knot) for knot in range(KNOTS)], LOWEST_RATE * settings.peak_rate)
    learnt = {
        "items": items,
        "label_logits": np.log(np.maximum(labels.astype(np.float32), SMALLEST_SHARE)),
        "raw_rates": np.log(np.expm1(rates)).astype(np.float32),
    }
    idle = Student(fresh(_unroll_spec(assignment, 0), to_tensors(assignment.init)).values, settings.steps)
    return {**with_moments(learnt, LEARNT), **_kept(idle, 0)}


def improve(assignment: Assignment, state: State, iteration: int) -> tuple[State, Mapping[str, float]]:
    """One window, and one step of Adam on all that is learnt.

    Raises:
        DivergedError: The loss or its gradient is not finite.
    """
    settings = assignment.settings
    window = draw_window(assignment, state, iteration)
    reached, loss, gradients = window_gradients(assignment, state, window)
    lengths = {name: float(np.linalg.norm(gradient)) for name, gradient in gradients.items()}
    if not np.isfinite([loss, *lengths.values()]).all():
        raise DivergedError(
            f"the loss of iteration {iteration + 1} is {loss:.4g}, or its gradient is not finite",
            f"set peak_rate below {settings.peak_rate:g} or unroll.window below {settings.unroll.window}",
        )
    # All windows count the same: now and then one has a gradient a thousand times as long as the others'.
    even = {name: gradient / np.float32(max(lengths[name], 1e-30)) for name, gradient in gradients.items()}
    rates = {"items": settings.unroll.item_rate, "label_logits": LABEL_RATE, "raw_rates": RATE_RATE}
    following = {**state, **adam_step(state, even, rates, iteration + 1), **_kept(reached, window.order)}
    return following, {"loss": loss, "student_step": reached.done, "gradient": lengths["items"]}


@dataclass(frozen=True)
class Window:
    """Some steps of a student's training, and the clips that it is tried on after them.

    Attributes:
        student: The student at the beginning.
        order: Seed of the order of its views.
        steps: Number of steps.
        clips: Number of the batch of real clips, freshly augmented.
        views: Views whose statistics the student has then, int64 (views,).
    """

    student: Student
    order: int
    steps: int
    clips: int
    views: NDArray[np.int64]


def draw_window(assignment: Assignment, state: State, iteration: int) -> Window:
    """The window of an iteration: on from where the last one ended, or a new student's first."""
    settings = assignment.settings
    first = int(EARLIEST * settings.steps)
    late = min(settings.unroll.window, settings.steps - first)
    random = np.random.default_rng([settings.seed, iteration, 0x0420])
    clips, order, ahead = (int(random.integers(most)) for most in (2**31, 2**31, late))
    views = np.sort(random.permutation(bank_plan(assignment).views * len(assignment.classes))[:VIEWS])
    student = _kept_student(state)
    if student.done < settings.steps:
        order = int(state["order"][0])
    else:
        student = _new_student(assignment, state, order, first + ahead)
    return Window(student, order, min(settings.unroll.window, settings.steps - student.done), clips, views)


def window_gradients(
    assignment: Assignment, state: State, window: Window
) -> tuple[Student, float, dict[str, NDArray[np.float32]]]:
    """The student after a window, the meta-loss, and its gradient by each array of the state that is learnt."""
    learnt = {name: torch.from_numpy(np.array(state[name])).requires_grad_(True) for name in LEARNT}
    through, spec = MEMORY[assignment.settings.unroll.memory], _unroll_spec(assignment, window.order)
    reached, loss, found = through(spec, window.student, learnt, window.steps, _meta_loss(assignment, window))
    return reached, loss.item(), {name: found[name].numpy() for name in LEARNT}


def schedule(assignment: Assignment, state: State) -> Schedule:
    """The learnt training schedule; rates are rounded to four digits, which take less room."""
    settings = assignment.settings
    rates = functional.softplus(torch.from_numpy(np.array(state["raw_rates"], dtype=np.float64))).tolist()
    return Schedule(
        optimiser=OPTIMISER,
        steps=settings.steps,
        batch=settings.batch,
        peak_rate=settings.peak_rate,
        weight_decay=settings.weight_decay,
        rates=tuple(float(f"{rate:.4g}") for rate in rates),
    )


def labels(_assignment: Assignment, state: State) -> NDArray[np.float32]:
    """The learnt labels of the bank's views, float32 (views, classes)."""
    return torch.from_numpy(np.array(state["label_logits"])).softmax(1).numpy()


def best_scale(logits: Tensor, targets: Tensor) -> float:
    """The factor on logits (batch, classes) with the least cross-entropy to ``targets``, by Newton's method.

    The loss at the best factor has the gradient that it has with this factor held.
    """
    scale = 1.0
    for _ in range(SCALE_STEPS):
        p = (scale * logits).softmax(1)
        slope = ((p - targets) * logits).sum(1).mean().item()
        curve = ((p * logits.square()).sum(1) - (p * logits).sum(1).square()).mean().item()
        following = scale - slope / max(curve, 1e-9)
        scale = min(max(following, scale / 2, LEAST_SCALE), scale * 2, 1 / LEAST_SCALE)
    return scale


def _new_student(assignment: Assignment, state: State, order: int, steps: int) -> Student:
    """A student that has been trained on the set as it is now for some steps."""
    spec, learnt = _unroll_spec(assignment, order), {name: torch.from_numpy(np.array(state[name])) for name in LEARNT}
    return without_graph(spec, fresh(spec, to_tensors(assignment.init)), learnt, steps)[-1]


def _kept_student(state: State) -> Student:
    values = {name.removeprefix(KEPT): state[name] for name in sorted(state) if name.startswith(KEPT)}
    return Student(to_tensors(values), int(state["done"][0]))


def _kept(student: Student, order: int) -> State:
    values = {KEPT + name: value for name, value in to_arrays(student.values).items()}
    return {**values, "done": np.array([student.done]), "order": np.array([order])}


def _recipes(assignment: Assignment) -> Recipes:
    return bank_recipes((len(assignment.classes), *assignment.task.maps.shape[1:]), bank_plan(assignment))


def _unroll_spec(assignment: Assignment, order: int) -> UnrollSpec:
    """The student's training on the set, as a function of what is learnt."""
    settings, graph, recipes = assignment.settings, assignment.task.graph, _recipes(assignment)

    def batch_of(learnt: Tensors, step: int) -> Batch:
        views = batch_indices(len(recipes), settings.batch, order, step)
        rates = functional.softplus(learnt["raw_rates"])
        before, share = rate_position(len(rates), step, settings.steps)
        rate = rates[before] if share == 0 else rates[before] * (1 - share) + rates[before + 1] * share
        targets = learnt["label_logits"][torch.from_numpy(views)].softmax(1)
        return Batch(as_input(graph, views_of(learnt["items"], recipes, views)), targets, rate)

    return UnrollSpec(graph, OPTIMISER, settings.weight_decay, batch_of)


def _meta_loss(assignment: Assignment, window: Window) -> MetaLoss:
    """The loss with which a student tells freshly augmented real clips apart."""
    task, recipes = assignment.task, _recipes(assignment)
    clips, hard = torch.from_numpy(task.clips), torch.from_numpy(task.hard_labels)
    augmentation = task.representation.augmentation
    x, targets = augmented_batches(clips, hard, min(CLIPS, len(clips)), window.clips, augmentation)(0)

    def meta_loss(values: Tensors, learnt: Tensors) -> Tensor:
        seen: dict[str, Tensor] = {}
        views = as_input(task.graph, views_of(learnt["items"], recipes, window.views))
        forward(task.graph, values, views, measured_norm(values, seen))
        logits = forward(task.graph, values, x, _norm_by({**values, **seen}))
        return soft_cross_entropy(logits * best_scale(logits.detach(), targets), targets)

    return meta_loss


def _norm_by(weights: Tensors) -> Norm:
    """As :func:`edgeser.models.network.running_norm`, which has no gradient to the statistics."""

    def norm(name: str, x: Tensor) -> Tensor:
        mean, variance, scale, shift = (
            weights[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        slope = scale * (variance + NORM_EPSILON).rsqrt()
        return x * slope[:, None, None] + (shift - mean * slope)[:, None, None]

    return norm
