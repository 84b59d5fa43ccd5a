"""Unrolling: its gradients against finite differences, what a window is, and what is shipped in the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from edgeser.config.settings import Settings
from edgeser.config.values import changed
from edgeser.distill.budget import resolve
from edgeser.distill.label_bank import assemble, bank_plan, bank_recipes, build_set
from edgeser.distill.loop import run_method
from edgeser.distill.method import Assignment, State
from edgeser.distill.methods import unroll
from edgeser.distill.optimise import views_of
from edgeser.distill.pipeline import distill
from edgeser.distill.registry import METHODS
from edgeser.distill.starts import begin_items
from edgeser.errors import DivergedError
from edgeser.models.experts import Ensemble
from edgeser.models.network import batch_norm, forward
from edgeser.models.training import Augmentation, augmented_batches, soft_cross_entropy, train, train_on_set
from edgeser.run import open_run
from edgeser.workers import Workers
from edgeser_device.data.schedule import Schedule, batch_indices, learning_rate
from edgeser_export.utilities.progress import ignore_progress

UNROLL = METHODS["unroll"]
STEPS, WINDOW = 12, 4


@pytest.fixture(scope="module")
def given(assignment: Assignment) -> Assignment:
    """Two items a class with four views each, a student of twelve steps, windows of four."""
    small = changed(
        assignment.settings,
        {
            "method": "unroll",
            "steps": STEPS,
            "batch": 8,
            "unroll.window": WINDOW,
            "unroll.iterations": 5,
            "unroll.item_rate": 0.02,
            "peak_rate": 0.01,
        },
    )
    return replace(assignment, settings=small, method=UNROLL)


def same(one: State, other: State) -> bool:
    return set(one) == set(other) and all(np.array_equal(one[name], other[name]) for name in one)


def iterated(given: Assignment, count: int) -> tuple[State, list[Mapping[str, float]]]:
    state, logged = unroll.begin(given), []
    for iteration in range(count):
        state, values = unroll.improve(given, state, iteration)
        logged.append(values)
    return state, logged


# The gradient --------------------------------------------------------------------------------------------------------


def outer_loss(given: Assignment, window: unroll.Window) -> Callable[[Mapping[str, np.ndarray]], float]:
    """The loss of a window in float64, with torch's AdamW."""
    settings, graph = given.settings, given.task.graph
    recipes = bank_recipes((len(given.classes), *given.task.maps.shape[1:]), bank_plan(given))
    begun = {name: value.double() for name, value in window.student.values.items()}
    clips, hard = torch.from_numpy(given.task.clips), torch.from_numpy(given.task.hard_labels)
    x, targets = (part.double() for part in augmented_batches(clips, hard, len(clips), window.clips, Augmentation())(0))

    def views(items: np.ndarray, chosen: np.ndarray) -> Tensor:
        return views_of(torch.from_numpy(items), recipes, chosen)

    def loss(learnt: Mapping[str, np.ndarray]) -> float:
        values = {name: begun[name].clone().requires_grad_(True) for name in graph.parameters}
        optimiser = torch.optim.AdamW(list(values.values()), weight_decay=settings.weight_decay)
        for name, value in values.items():
            count = torch.tensor(float(window.student.done))
            optimiser.state[value] = {
                "step": count, "exp_avg": begun[f"first.{name}"].clone(), "exp_avg_sq": begun[f"second.{name}"].clone(),
            }  # fmt: skip
        rates = np.log1p(np.exp(learnt["raw_rates"]))
        for step in range(window.student.done, window.student.done + window.steps):
            chosen = batch_indices(len(recipes), settings.batch, window.order, step)
            place = step * (len(rates) - 1) / (settings.steps - 1)
            optimiser.param_groups[0]["lr"] = float(np.interp(place, np.arange(len(rates)), rates))
            labels = torch.from_numpy(learnt["label_logits"][chosen]).softmax(1)
            optimiser.zero_grad()
            soft_cross_entropy(
                forward(graph, values, views(learnt["items"], chosen), batch_norm(values)), labels
            ).backward()
            optimiser.step()
        statistics: dict[str, Tensor] = {}

        def measure(name: str, x: Tensor) -> Tensor:
            statistics[name] = torch.stack(torch.var_mean(x, dim=(0, 2, 3)))
            return batch_norm(values)(name, x)

        def by_views(name: str, x: Tensor) -> Tensor:
            variance, mean = (value[:, None, None] for value in statistics[name])
            weight, bias = (values[f"{name}.{part}"][:, None, None] for part in ("weight", "bias"))
            return (x - mean) / (variance + 1e-5).sqrt() * weight + bias

        with torch.no_grad():
            forward(graph, values, views(learnt["items"], window.views), measure)
            logits = forward(graph, values, x, by_views)
            return soft_cross_entropy(unroll.best_scale(logits, targets) * logits, targets).item()

    return loss


SMALL = 1e-6


@pytest.mark.parametrize("iteration", [0, 1])
@pytest.mark.parametrize("name", unroll.LEARNT)
def test_the_gradient_is_that_of_finite_differences(given: Assignment, name: str, iteration: int) -> None:
    """Along the gradient; a step small enough to stay between the kinks of ReLU. The second window goes on."""
    state = iterated(given, iteration)[0]
    window = unroll.draw_window(given, state, iteration)
    _, value, gradients = unroll.window_gradients(given, state, window)
    loss = outer_loss(given, window)
    wide = {key: state[key].astype(np.float64) for key in unroll.LEARNT}
    assert value == pytest.approx(loss(wide), rel=1e-3)
    gradient = gradients[name].astype(np.float64)
    length = float(np.linalg.norm(gradient))
    step = SMALL * gradient / length
    slope = (loss(wide | {name: wide[name] + step}) - loss(wide | {name: wide[name] - step})) / (2 * SMALL)
    assert length == pytest.approx(slope, rel=1e-3)


def test_the_best_scale_is_that_of_a_search() -> None:
    random = torch.Generator().manual_seed(0)
    for size in (0.1, 1.0, 8.0):
        logits = size * torch.randn(40, 3, generator=random)
        targets = functional.one_hot((logits + size * torch.randn(40, 3, generator=random)).argmax(1), 3).float()
        losses = [soft_cross_entropy(float(scale) * logits, targets).item() for scale in np.geomspace(0.02, 50, 20_001)]
        found = unroll.best_scale(logits, targets)
        assert soft_cross_entropy(found * logits, targets).item() == pytest.approx(min(losses), rel=1e-5)


def test_the_best_scale_of_logits_that_know_everything_or_nothing_is_bounded() -> None:
    targets = torch.eye(3)
    assert 1 < unroll.best_scale(targets, targets) <= 1 / unroll.LEAST_SCALE
    assert unroll.LEAST_SCALE <= unroll.best_scale(-targets, targets) < 1
    assert np.isfinite(unroll.best_scale(torch.zeros(3, 3), targets))


# Windows -------------------------------------------------------------------------------------------------------------


def test_it_begins_with_the_set_as_it_is_without_the_method(given: Assignment) -> None:
    """Labels to float16; the rates are those of the cycle that the settings ask for, but never nearly zero."""
    state = unroll.begin(given)
    assert np.array_equal(state["items"], begin_items(given))
    np.testing.assert_allclose(unroll.labels(given, state), build_set(given, state["items"]).soft_labels, atol=5e-3)
    learnt, cycle = unroll.schedule(given, state), Schedule(steps=unroll.KNOTS, peak_rate=given.settings.peak_rate)
    expected = [max(learning_rate(cycle, knot), 0.02 * cycle.peak_rate) for knot in range(unroll.KNOTS)]
    assert learnt.rates == pytest.approx(expected, rel=1e-3)
    assert not any(state[f"{kind}.{name}"].any() for name in unroll.LEARNT for kind in ("first", "second"))


def test_windows_follow_one_another_in_the_second_half(given: Assignment) -> None:
    state, windows = unroll.begin(given), []
    for iteration in range(8):
        windows.append(unroll.draw_window(given, state, iteration))
        state, _ = unroll.improve(given, state, iteration)
    starts, ends = ([window.student.done + more * window.steps for window in windows] for more in (0, 1))
    assert all(STEPS // 2 <= start < end <= STEPS for start, end in zip(starts, ends, strict=True))
    assert all(window.steps == WINDOW or end == STEPS for window, end in zip(windows, ends, strict=True))
    for before, after, end in zip(windows[:-1], windows[1:], ends[:-1], strict=True):
        goes_on = end < STEPS
        assert (after.student.done == end) == goes_on
        assert (after.order == before.order) == goes_on
    assert len({window.clips for window in windows}) == 8


def test_a_student_reaches_its_window_as_on_the_host(given: Assignment) -> None:
    """Against the training of students: the same views in the same order at the same rates."""
    state = unroll.begin(given)
    window = unroll.draw_window(given, state, 0)
    whole = assemble(given, state)
    shorter = []

    def keep(done: int, parameters: dict[str, Tensor]) -> None:
        if done == window.student.done:
            shorter.append({name: value.detach().clone() for name, value in parameters.items()})

    labels = torch.from_numpy(unroll.labels(given, state))
    items, settings = torch.from_numpy(state["items"]), given.settings

    def batch_of(step: int) -> tuple[Tensor, Tensor]:
        chosen = batch_indices(len(whole.recipes), settings.batch, window.order, step)
        return views_of(items, whole.recipes, chosen), labels[chosen]

    train(given.task.graph, given.init, batch_of, whole.schedule, after=keep)
    for name, value in shorter[0].items():
        moved = float((value - torch.from_numpy(given.init[name])).norm())
        assert float((value - window.student.values[name]).norm()) < 0.02 * moved


# The state -----------------------------------------------------------------------------------------------------------


def test_an_iteration_is_pure(given: Assignment) -> None:
    state = iterated(given, 1)[0]
    before = {name: value.copy() for name, value in state.items()}
    (one, logged), (other, _) = (unroll.improve(given, state, 1) for _ in range(2))
    assert same(before, state)
    assert same(one, other)
    assert {name: (value.dtype, value.shape) for name, value in one.items()} == {
        name: (value.dtype, value.shape) for name, value in state.items()
    }
    assert set(logged) == {"loss", "student_step", "gradient"}


@pytest.mark.parametrize("number", [1, 2, 3])
def test_an_interrupted_run_ends_with_the_same_bits(given: Assignment, tmp_path: Path, number: int) -> None:
    """Interrupted between two windows of one student, and between two students."""

    def improve(assignment: Assignment, state: State, iteration: int) -> tuple[State, Mapping[str, float]]:
        if iteration == number:
            raise KeyboardInterrupt
        return unroll.improve(assignment, state, iteration)

    whole = run_method(open_run(tmp_path / "whole", given.settings, resume=False), given, ignore_progress)
    run = open_run(tmp_path / "run", given.settings, resume=False)
    with pytest.raises(KeyboardInterrupt):
        run_method(run, replace(given, method=replace(UNROLL, improve=improve)), ignore_progress)
    assert same(run_method(run, given, ignore_progress), whole)


def test_everything_is_learnt_and_by_no_more_than_its_rate_a_step(given: Assignment) -> None:
    begun, state = unroll.begin(given), iterated(given, 3)[0]
    most = {"items": given.settings.unroll.item_rate, "label_logits": unroll.LABEL_RATE, "raw_rates": unroll.RATE_RATE}
    for name, rate in most.items():
        moved = np.abs(state[name] - begun[name]).max()
        assert 0 < moved < 3 * 1.5 * rate


def test_the_loss_falls(given: Assignment) -> None:
    """With windows up to the end of the training, which are the most alike."""
    short = replace(given, settings=changed(given.settings, {"steps": 8, "unroll.item_rate": 0.05}))
    losses = [values["loss"] for values in iterated(short, 24)[1]]
    assert np.mean(losses[-6:]) < 0.97 * np.mean(losses[:6])


@pytest.mark.parametrize("where", ["items", "label_logits", "raw_rates", "clips"])
def test_what_is_not_finite_is_an_error(given: Assignment, where: str) -> None:
    state = dict(unroll.begin(given))
    if where == "clips":
        given = replace(given, task=replace(given.task, clips=np.full_like(given.task.clips, np.nan)))
    else:
        state[where] = np.full_like(state[where], np.nan)
    with pytest.raises(DivergedError, match="the loss of iteration 1") as caught:
        unroll.improve(given, state, 0)
    assert "peak_rate below 0.01" in caught.value.hint


# What is shipped -----------------------------------------------------------------------------------------------------


def test_labels_and_rates_are_shipped_as_they_were_learnt(given: Assignment) -> None:
    state = iterated(given, 3)[0]
    shipped = assemble(given, state)
    assert np.array_equal(shipped.soft_labels, unroll.labels(given, state).astype(np.float16))
    assert np.abs(shipped.soft_labels.astype(np.float32).sum(1) - 1).max() < 1e-2
    assert np.abs(shipped.items() - state["items"]).max() < 0.03
    rates = np.log1p(np.exp(state["raw_rates"].astype(np.float64)))
    assert shipped.schedule.rates == pytest.approx(rates.tolist(), rel=1e-3)
    assert (shipped.schedule.optimiser, shipped.schedule.steps) == ("adamw", STEPS)
    weights = train_on_set(given.task.graph, given.init, shipped, seed=0)
    assert all(np.isfinite(value).all() for value in weights.values())


def test_the_rates_do_not_grow_the_set(given: Assignment) -> None:
    state = unroll.begin(given)
    shipped = assemble(given, state)
    plain = replace(shipped, schedule=replace(shipped.schedule, rates=()))
    assert len(shipped.to_bytes()) < len(plain.to_bytes()) + 200


def test_hard_labels_need_no_experts(given: Assignment) -> None:
    alone = replace(given, settings=replace(given.settings, labels="hard"), ensemble=Ensemble(given.ensemble.graph, ()))
    state = iterated(alone, 2)[0]
    assert np.isfinite(state["label_logits"]).all()


def test_a_method_that_learns_no_labels_ships_those_of_the_bank(given: Assignment) -> None:
    plain = replace(given, method=METHODS["random"])
    items = begin_items(given)
    shipped, bank = assemble(plain, {"items": items}), build_set(plain, items)
    assert shipped.to_bytes() == bank.to_bytes()
    assert shipped.schedule.rates == ()


def test_a_whole_run_is_distilled_and_repeats(tiny: Settings, tmp_path: Path) -> None:
    small = changed(tiny, {"method": "unroll", "steps": 8, "unroll.window": 3, "unroll.iterations": 3})
    one, other = (distill(small, tmp_path / name, Workers(1), False, lambda _: None) for name in ("one", "other"))
    path = "distilled.safetensors"
    assert (one.folder / path).read_bytes() == (other.folder / path).read_bytes()
    assert len(one.distilled().schedule.rates) == unroll.KNOTS
    assert [event["number"] for event in one.events("iteration")] == [1, 2, 3]


def test_the_methods_own_defaults_are_a_short_training() -> None:
    settings = Settings(corpus="demo", ipc=1, method="unroll")
    assert resolve(settings, 100, 3, 9).steps == 100 < resolve(replace(settings, method="match"), 100, 3, 9).steps
    assert resolve(replace(settings, steps=7), 100, 3, 9).steps == 7
