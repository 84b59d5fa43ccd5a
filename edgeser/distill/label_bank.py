"""The label bank: stored views of the items, each with a soft label, and the distilled set that holds them.

    distilled = assemble(assignment, state)             # whatever the method learnt
    distilled = build_set(assignment, items)            # items alone
    recipes, labels = make_bank(items, classes, ensemble, bank_plan(assignment))

The kinds of labels differ in where labels come from, and in how widely views vary, see
:meth:`edgeser.representation.base.Representation.mixing`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from edgeser.config.settings import Settings
from edgeser.distill.method import Assignment, State
from edgeser.models.experts import Ensemble
from edgeser.representation.base import Maps
from edgeser_device.data.schedule import Schedule
from edgeser_device.data.stored import StoredSet
from edgeser_device.data.views import PLAIN, WEIGHT_UNIT, Mixing, Recipes, mixed_recipes, plain_recipes, render


@dataclass(frozen=True)
class BankPlan:
    """The rules by which a bank is made.

    Attributes:
        kind: A row of ``LABELS``.
        views: Views for each item; 1 is the plain case, one untouched view an item.
        temperature: Temperature of the experts' soft labels.
        seed: Seed of the recipes.
        mixing: The spread of the views.
    """

    kind: str
    views: int
    temperature: float
    seed: int
    mixing: Mixing


Labels = NDArray[np.float32]
Labeller = Callable[[Maps, NDArray[np.int64], Recipes, Ensemble, float], Labels]
"""(items, class of each, recipes, experts, temperature) to soft labels, float32 (views, classes)."""


def assemble(assignment: Assignment, state: State) -> StoredSet:
    """The distilled set of a method's state, with the labels and the schedule that the method learnt, if it did."""
    method = assignment.method
    items = method.items(assignment, state) if method.items is not None else state["items"]
    labels = method.labels(assignment, state) if method.labels is not None else None
    schedule = method.schedule(assignment, state) if method.schedule is not None else None
    return build_set(assignment, np.asarray(items, dtype=np.float32), labels, schedule)


def build_set(
    assignment: Assignment,
    items: Maps,
    labels: Labels | None = None,
    schedule: Schedule | None = None,
) -> StoredSet:
    """Store the items, draw and label their views.

    Args:
        assignment: The assignment, which says of how many maps of which classes the items are.
        items: Float32 (items x formations, rows, columns), in the order of ``assignment.classes``.
        labels: Labels of the views, float32 (views, classes), where the method learnt them.
        schedule: The student's schedule, where the method learnt it.
    """
    representation, formations = assignment.representation, assignment.formations
    stored = representation.quantise(items, formations)
    plan, maps = bank_plan(assignment), representation.dequantise(stored, formations)
    if labels is None:
        recipes, soft = make_bank(maps, assignment.classes, assignment.ensemble, plan)
    else:
        recipes, soft = bank_recipes(maps.shape, plan), labels.astype(np.float16)
    return representation.make_set(
        stored,
        formations,
        classes=assignment.classes[::formations].astype(np.uint8),
        recipes=recipes,
        soft_labels=soft,
        names=assignment.names,
        schedule=schedule or student_schedule(assignment.settings),
    )


def bank_plan(assignment: Assignment) -> BankPlan:
    """The rules of the bank; an item's views are shared out among its maps."""
    settings = assignment.settings
    views = max(1, settings.views // assignment.formations)
    mixing = assignment.representation.mixing(settings.labels)
    return BankPlan(settings.labels, views, settings.experts.temperature, settings.seed, mixing)


def student_schedule(settings: Settings) -> Schedule:
    """The student's schedule."""
    return Schedule(
        steps=settings.steps,
        batch=settings.batch,
        peak_rate=settings.peak_rate,
        weight_decay=settings.weight_decay,
    )


def make_bank(
    items: Maps, classes: NDArray[np.int64], ensemble: Ensemble, plan: BankPlan
) -> tuple[Recipes, NDArray[np.float16]]:
    """Recipes of all views and their labels, float16 (views, classes).

    Args:
        items: Items as they are stored, dequantised: float32 (items, rows, columns).
        classes: Class of each item.
        ensemble: The experts.
        plan: The number of views, and how they are drawn and labelled.
    """
    recipes = bank_recipes(items.shape, plan)
    labels = LABELS[plan.kind](items, classes, recipes, ensemble, plan.temperature)
    return recipes, labels.astype(np.float16)


def bank_recipes(shape: tuple[int, ...], plan: BankPlan) -> Recipes:
    """The recipes of a bank over items of such a shape, (items, rows, columns)."""
    count, _, columns = shape
    if plan.views == 1:
        return plain_recipes(count)
    return mixed_recipes(count, plan.views * count, columns, plan.seed, plan.mixing)


def _hard(
    _items: Maps, classes: NDArray[np.int64], recipes: Recipes, ensemble: Ensemble, _temperature: float
) -> Labels:
    width = ensemble.graph.shapes[ensemble.graph.output][0]
    return _mixed(np.eye(width, dtype=np.float32)[classes], recipes)


def _soft(items: Maps, _classes: NDArray[np.int64], recipes: Recipes, ensemble: Ensemble, temperature: float) -> Labels:
    return _mixed(ensemble.soft_labels(items, temperature), recipes)


def _bank(items: Maps, _classes: NDArray[np.int64], recipes: Recipes, ensemble: Ensemble, temperature: float) -> Labels:
    pieces = np.array_split(np.arange(len(recipes)), max(1, len(recipes) // 512))
    return np.concatenate([ensemble.soft_labels(render(items, recipes, piece), temperature) for piece in pieces])


LABELS: Mapping[str, Labeller] = MappingProxyType({"hard": _hard, "soft": _soft, "bank": _bank})
"""hard: the items' classes, mixed as the views are; soft: one expert label an item, mixed; bank: one a view."""


def _mixed(labels: Labels, recipes: Recipes) -> Labels:
    share = np.where(recipes.mode != PLAIN, recipes.weight / WEIGHT_UNIT, 1.0).astype(np.float32)[:, None]
    return share * labels[recipes.item] + (1 - share) * labels[recipes.partner]
