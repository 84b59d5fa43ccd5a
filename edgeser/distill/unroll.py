"""Unrolling: items, labels and learning rates through the student's own training, in truncated windows.

The student starts at the fixed initialisation and trains on the views of the label bank as it will on the board. After
a window of W steps, from step t to t + W, it should do well on real clips,

    loss = CE(student_(t+W)(clip), q(clip)),        q = mean over experts of softmax(z / T)

and the gradient goes back through these W steps to the items, to the labels of their views and to the learning rates
(Wang et al. 2018, arXiv 1811.10959; truncated at random windows: RaT-BPTT, Feng et al. 2023, arXiv 2311.04147).
Several students, each at another step of its training, take turns, so that no step is made only to reach a window.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from edgeser.distill.adam import SECOND, adam_step, with_moments
from edgeser.distill.method import Assignment, State
from edgeser.distill.starts import begin_items
from edgeser.distill.unrolling import Course, Lesson, Student, fresh, through_steps, without_graph
from edgeser.distill.view_tensors import views_of
from edgeser.errors import DivergedError
from edgeser.labels import LABELS, BankPlan, bank_recipes
from edgeser.network import Tensors, batch_norm, forward, measured_norm, running_norm, to_arrays, to_tensors
from edgeser.training import Augmentation, augmented_batches, soft_cross_entropy
from edgeser_device.schedule import Schedule, batch_indices, learning_rate, rate_position
from edgeser_device.views import Recipes, render
from edgeser_export.graph import NORM_EPSILON

OPTIMISER = "adamw"
STUDENTS = 8
KNOTS = 10
CLIPS = 256
EARLIEST = 0.5
UNIT = True
CALIBRATED = True
MIXUP, SOFT = 0.2, 0.0
RELABELLED = 64
LEARNT = ("items", "tilt", "raw_rates")
RATES = {"tilt": 0.05, "raw_rates": 0.02}
CLIP = 2.0
OUTER = "views"
DEFAULTS = {"steps": 100, "iterations": 150, "item_rate": 0.02}


def begin(assignment: Assignment) -> State:
    settings = assignment.settings
    items = begin_items(assignment)
    recipes = _recipes(assignment)
    views = len(recipes)
    cycle = Schedule(steps=KNOTS, peak_rate=settings.peak_rate)
    rates = np.array([max(learning_rate(cycle, knot), settings.peak_rate / 50) for knot in range(KNOTS)])
    learnt = {
        "items": items,
        "tilt": np.zeros((views, assignment.task.classes), np.float32),
        "raw_rates": np.log(np.expm1(rates)).astype(np.float32),
    }
    count = min(STUDENTS, -(-settings.steps // settings.unroll_window))
    student = to_arrays(fresh(_course(assignment, {}, 0), to_tensors(assignment.init)).values)
    return {
        **with_moments(learnt, list(learnt)),
        "labels": _labels(assignment, items, recipes, np.arange(views)),
        "at": np.full(count, settings.steps),
        "order": np.zeros(count, np.int64),
        **{f"student.{name}": np.stack([value] * count) for name, value in student.items()},
    }


def improve(assignment: Assignment, state: State, iteration: int) -> tuple[State, Mapping[str, float]]:
    settings = assignment.settings
    random = np.random.default_rng([settings.seed, iteration, 0x0520])
    state = _relabelled(assignment, state, iteration)
    learnt = {name: torch.from_numpy(np.array(state[name])).requires_grad_(True) for name in sorted(LEARNT)}
    number = iteration % len(state["at"])
    state = _restarted(assignment, state, learnt, number, iteration, random)
    course = _course(assignment, state, int(state["order"][number]))
    student = Student(to_tensors(_of(state, number)), int(state["at"][number]))
    steps = min(settings.unroll_window, settings.steps - student.done)
    reached, loss, gradients = through_steps(course, student, learnt, steps, _outer(assignment, state, random))
    value = loss.item()
    if not np.isfinite(value) or not all(gradient.isfinite().all() for gradient in gradients.values()):
        raise DivergedError(f"loss {value}", "lower")
    arrays = {name: gradient.numpy() for name, gradient in gradients.items()}
    norms = {f"norm_{name}": float(np.linalg.norm(array)) for name, array in arrays.items()}
    arrays = {name: _clipped(state, name, array, iteration) for name, array in arrays.items()}
    changed = adam_step(state, arrays, {"items": settings.item_rate, **RATES}, iteration + 1)
    state = {**state, **changed, **_kept(state, number, reached)}
    return state, {"loss": value, "step": reached.done, **norms}


def _clipped(state, name, gradient, iteration):
    if UNIT:
        return gradient / np.float32(max(np.linalg.norm(gradient), 1e-30))
    if iteration == 0:
        return gradient
    usual = float(np.sqrt(state[f"second.{name}"].sum() / (1 - SECOND**iteration)))
    norm = float(np.linalg.norm(gradient))
    return gradient * np.float32(min(1.0, CLIP * usual / max(norm, 1e-30)))


def _recipes(assignment: Assignment) -> Recipes:
    settings = assignment.settings
    plan = BankPlan(settings.views, settings.temperature, settings.seed)
    return bank_recipes(len(assignment.classes), assignment.task.clips.shape[3], plan)


def _labels(assignment, items, recipes, views):
    settings = assignment.settings
    return assignment.ensemble.soft_labels(render(items, recipes, views), settings.temperature)


def _relabelled(assignment, state, iteration):
    views = np.arange(iteration * RELABELLED, (iteration + 1) * RELABELLED) % len(state["labels"])
    labels = np.array(state["labels"])
    labels[views] = _labels(assignment, np.asarray(state["items"]), _recipes(assignment), views)
    return {**state, "labels": labels}


def _of(state, number):
    return {name.removeprefix("student."): state[name][number] for name in sorted(state) if name.startswith("student.")}


def _kept(state, number, student):
    kept = {f"student.{name}": value for name, value in to_arrays(student.values).items()} | {
        "at": np.array(student.done)
    }
    changed = {}
    for name, value in kept.items():
        changed[name] = np.array(state[name])
        changed[name][number] = value
    return changed


def _restarted(assignment, state, learnt, number, iteration, random):
    settings = assignment.settings
    if state["at"][number] < settings.steps:
        return state
    order = np.array(state["order"])
    order[number] = random.integers(2**31)
    course = _course(assignment, state, int(order[number]))
    first = int(EARLIEST * settings.steps)
    skipped = first + int(random.integers(max(1, min(settings.unroll_window, settings.steps - first))))
    student = without_graph(course, fresh(course, to_tensors(assignment.init)), learnt, skipped)[-1]
    return {**state, "order": order, **_kept(state, number, student)}


def _course(assignment: Assignment, state: State, order: int) -> Course:
    settings, recipes = assignment.settings, _recipes(assignment)

    def lesson(learnt: Tensors, step: int) -> Lesson:
        views = batch_indices(len(recipes), settings.batch, order, step)
        before, share = rate_position(KNOTS, step, settings.steps)
        pair = functional.softplus(learnt["raw_rates"][[before, min(before + 1, KNOTS - 1)]])
        given = torch.from_numpy(state["labels"][views]).log() + learnt["tilt"][torch.from_numpy(views)]
        return Lesson(
            views_of(learnt["items"], recipes, views), given.softmax(1), pair[0] * (1 - share) + pair[1] * share
        )

    return Course(assignment.task.graph, OPTIMISER, settings.weight_decay, lesson)


def _outer(assignment, state, random):
    task, recipes, graph = assignment.task, _recipes(assignment), assignment.task.graph
    seed = int(random.integers(2**31))
    x, q = augmented_batches(
        torch.from_numpy(task.clips), torch.from_numpy(task.hard_labels), CLIPS, seed, Augmentation(mixup=MIXUP)
    )(int(random.integers(1000)))
    if SOFT:
        q = torch.from_numpy(assignment.ensemble.soft_labels(x.numpy(), SOFT))
    views = random.permutation(len(recipes))[:64]

    def outer(values, learnt):
        if OUTER == "batch":
            return soft_cross_entropy(forward(graph, values, x, batch_norm(values)), q)
        seen: dict[str, Tensor] = {}
        forward(graph, values, views_of(learnt["items"], recipes, views), measured_norm(values, seen))
        logits = forward(graph, values, x, _norm_by({**values, **seen}))
        return soft_cross_entropy(logits * best_scale(logits.detach(), q), q)

    return outer


def best_scale(z, q):
    if not CALIBRATED:
        return 1.0
    s = 1.0
    for _ in range(20):
        p = (s * z).softmax(1)
        slope = ((p - q) * z).sum(1).mean()
        curve = ((p * z * z).sum(1) - (p * z).sum(1) ** 2).mean()
        s = float(min(max(s - slope / (curve + 1e-9), s / 3), s * 3))
        s = min(max(s, 0.05), 50.0)
    return s


def _norm_by(weights):
    def norm(name, x):
        mean, variance, scale, shift = (
            weights[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        slope = scale * (variance + NORM_EPSILON).rsqrt()
        return x * slope[:, None, None] + (shift - mean * slope)[:, None, None]

    return norm


def shipped_rates(state):
    return tuple(
        float(f"{r:.4g}") for r in functional.softplus(torch.from_numpy(np.array(state["raw_rates"]))).tolist()
    )
