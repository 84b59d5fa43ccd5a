"""What trajectory matching can do beside matching: learnt labels, moving windows, a gate, an average, a first step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeser.config.settings import SETTINGS
from edgeser.config.values import changed
from edgeser.distill.expert_jobs import needed_experts, trajectory_jobs
from edgeser.distill.loop import run_method
from edgeser.distill.method import Assignment, State
from edgeser.distill.methods import mtt
from edgeser.distill.methods.mtt import epochs_used
from edgeser.distill.registry import METHODS
from edgeser.errors import DivergedError
from edgeser.models.experts import Ensemble, Trajectory
from edgeser.run import open_run
from edgeser_export.graph.initial import initial_weights
from edgeser_export.graph.reference import softmax
from edgeser_export.utilities.progress import ignore_progress

ALL = {
    "label_rate": 0.05,
    "ema_decay": 0.5,
    "loss_threshold": 0.5,
    "first_max_start_epoch": 0,
    "student_batch": 4,
    "memory": "lean",
}
"""Every option at once; some matches of the small task are worse than the gate, some better."""


def having(assignment: Assignment, **changes: Any) -> Assignment:
    """The shared assignment with a fixed window, an open gate and a given step, and with ``changes``."""
    fixed = {
        "mtt.first_max_start_epoch": 2,
        "mtt.start_epoch_growth": 0.0,
        "mtt.step_size": 0.02,
        "mtt.loss_threshold": 100.0,
        "start": "real",
    }
    own = {key if key in SETTINGS else f"mtt.{key}": value for key, value in changes.items()}
    return replace(assignment, settings=changed(assignment.settings, {**fixed, **own}))


def after(assignment: Assignment, iterations: int) -> tuple[list[State], list[Mapping[str, float]]]:
    """The states from the first on, and what was logged."""
    states, logged = [mtt.begin(assignment)], []
    for iteration in range(iterations):
        state, values = mtt.improve(assignment, states[-1], iteration)
        states.append(state)
        logged.append(values)
    return states, logged


# Labels --------------------------------------------------------------------------------------------------------------


def test_labels_begin_as_the_experts_say_where_they_know_the_class(assignment: Assignment) -> None:
    given = having(assignment, label_rate=0.1)
    state = mtt.begin(given)
    found = assignment.ensemble.soft_labels(state["items"][:, None], given.settings.experts.temperature)
    knows = found.argmax(1) == given.classes
    assert knows.sum() > 0
    labels = softmax(state["label_logits"])
    np.testing.assert_allclose(labels[knows], found[knows], atol=1e-3)
    assert np.array_equal(labels.argmax(1), given.classes)


def test_labels_of_items_that_the_experts_deny_begin_nearly_sure(assignment: Assignment) -> None:
    """Experts whose last bias names the first class, whatever they hear."""
    member = dict(assignment.ensemble.members[0])
    member["logits.bias"] = np.array([50, 0, 0], dtype=np.float32)
    fooled = replace(having(assignment, label_rate=0.1), ensemble=Ensemble(assignment.task.graph, (member,)))
    labels = softmax(mtt.begin(fooled)["label_logits"])
    for row, number in zip(labels[2:], fooled.classes[2:], strict=True):
        assert row[number] == pytest.approx(mtt.NEARLY_SURE, rel=1e-5)
    alone = replace(fooled, ensemble=Ensemble(assignment.task.graph, ()))
    sure = softmax(mtt.begin(alone)["label_logits"])[np.arange(6), alone.classes]
    assert sure == pytest.approx(mtt.NEARLY_SURE, rel=1e-5)


def test_the_gradient_of_the_labels_is_that_of_finite_differences(assignment: Assignment) -> None:
    given = having(assignment, label_rate=0.1)
    state, small = mtt.begin(given), 1e-2
    match = mtt.draw_match(given, 0)
    _, gradients = mtt.match_gradients(given, state, match)
    direction = gradients["label_logits"] / np.linalg.norm(gradients["label_logits"])
    moved = [{**state, "label_logits": state["label_logits"] + way * small * direction} for way in (1, -1)]
    there, back = (mtt.match_gradients(given, each, match)[0] for each in moved)
    slope = float((gradients["label_logits"] * direction).sum())
    assert slope == pytest.approx((there - back) / (2 * small), rel=0.02)


def test_labels_move_at_their_rate_and_hard_ones_are_not_in_the_state(assignment: Assignment) -> None:
    (first, second), _ = after(having(assignment, label_rate=0.07), 1)
    moved = np.abs(second["label_logits"] - first["label_logits"])
    assert moved.max() == pytest.approx(0.07, rel=1e-3)
    assert not [name for name in mtt.begin(having(assignment)) if "label" in name]


def test_logits_of_hard_labels_match_as_hard_labels_do(assignment: Assignment) -> None:
    given = having(assignment)
    match, state = mtt.draw_match(given, 0), mtt.begin(given)
    sure = np.where(np.eye(3)[given.classes] > 0, 100.0, 0.0).astype(np.float32)
    loss, gradients = mtt.match_gradients(given, state, match)
    soft, others = mtt.match_gradients(having(assignment, label_rate=0.1), {**state, "label_logits": sure}, match)
    assert soft == pytest.approx(loss, rel=1e-6)
    np.testing.assert_allclose(others["items"], gradients["items"], atol=1e-5 * np.abs(gradients["items"]).max())


# The gate and the bound ----------------------------------------------------------------------------------------------


def test_a_match_worse_than_the_gate_changes_nothing_and_is_counted(assignment: Assignment) -> None:
    states, logged = after(having(assignment, loss_threshold=1e-3), 3)
    assert [values["skipped"] for values in logged] == [1, 2, 3]
    for name in states[0]:
        if name not in ("skipped", "run"):
            assert np.array_equal(states[-1][name], states[0][name]), name
    assert logged[-1]["step_size"] == pytest.approx(0.02, rel=1e-5)


def test_updates_after_a_skipped_one_are_those_that_come_first(assignment: Assignment) -> None:
    """Adam corrects its moments by the number of its steps, not by that of the iterations."""
    given = having(assignment)
    begun = dict(mtt.begin(given))
    waited = {**begun, "skipped": np.array([2])}
    loss, gradients = mtt.match_gradients(given, begun, mtt.draw_match(given, 2))
    following, values = mtt.improve(given, waited, 2)
    assert values["loss"] == loss
    moved = following["items"] - begun["items"]
    pulled = np.abs(gradients["items"]) > 1e-5
    expected = -given.settings.mtt.item_rate * np.sign(gradients["items"])
    np.testing.assert_allclose(moved[pulled], expected[pulled], rtol=1e-2)


def test_losses_that_stay_above_the_bound_are_an_error(assignment: Assignment) -> None:
    given = having(assignment, loss_threshold=1e-3)
    states, _ = after(given, 1)
    assert states[-1]["run"].tolist() == [1]
    hopeless = {**states[-1], "run": np.array([mtt.LONGEST_RUN - 1])}
    with pytest.raises(DivergedError, match=r"above 0\.001 in 50 iterations in a row") as caught:
        mtt.improve(given, hopeless, 60)
    assert "mtt.step_size below 0.02 or mtt.student_steps below 3" in caught.value.hint


def test_one_good_match_ends_a_run_of_bad_ones(assignment: Assignment) -> None:
    given = having(assignment)
    state = {**mtt.begin(given), "run": np.array([mtt.LONGEST_RUN - 1])}
    following, values = mtt.improve(given, state, 0)
    assert values["loss"] < mtt.BOUND
    assert following["run"].tolist() == [0]


def test_a_gate_wide_open_still_has_a_bound(assignment: Assignment) -> None:
    """A huge step takes the student so far away that the loss is above ten."""
    given = having(assignment, loss_threshold=1e6, step_size=5.0)
    state = {**mtt.begin(given), "run": np.array([mtt.LONGEST_RUN - 1])}
    with pytest.raises(DivergedError, match="above 10 in 50 iterations"):
        mtt.improve(given, state, 0)


# The average ---------------------------------------------------------------------------------------------------------


def test_what_is_shipped_is_the_average_of_the_items(assignment: Assignment) -> None:
    plain, _ = after(having(assignment), 3)
    states, _ = after(having(assignment, ema_decay=0.8), 3)
    average = plain[0]["items"]
    for state, raw in zip(states[1:], plain[1:], strict=True):
        average = 0.8 * average + 0.2 * raw["items"]
        assert np.array_equal(state["raw_items"], raw["items"])
        np.testing.assert_allclose(state["items"], average, atol=1e-6)
        assert state["items"].dtype == np.float32
    assert not np.array_equal(states[-1]["items"], states[-1]["raw_items"])
    assert "raw_items" not in plain[0]


# The first step size -------------------------------------------------------------------------------------------------


def test_without_a_step_size_the_best_of_some_is_found(assignment: Assignment) -> None:
    """Tried once more by hand, with the loss that an iteration would have."""
    given = having(assignment, step_size=0.0)
    found = float(np.log1p(np.exp(mtt.begin(given)["raw_step"][0])))
    losses = []
    for size in mtt.STEPS:
        fixed = having(assignment, step_size=size)
        state = mtt.begin(fixed)
        matches = [mtt.draw_match(fixed, number) for number in range(mtt.TRIED)]
        losses.append(sum(mtt.match_gradients(fixed, state, match)[0] for match in matches))
    assert found == pytest.approx(mtt.STEPS[int(np.argmin(losses))], rel=1e-5)


def test_step_sizes_that_are_not_finite_are_not_chosen(assignment: Assignment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mtt, "STEPS", (1e30, 0.01))
    state = mtt.begin(having(assignment, step_size=0.0))
    assert np.log1p(np.exp(state["raw_step"][0])) == pytest.approx(0.01, rel=1e-5)


# Windows and experts -------------------------------------------------------------------------------------------------


def test_starts_follow_the_window_as_it_grows(assignment: Assignment) -> None:
    """Three epochs, a span of one: from 0 alone in the first iteration to 2 alone in the last."""
    given = having(assignment, first_max_start_epoch=0, max_start_epoch=2, min_start_epoch=2, iterations=21)
    epochs = [mtt.draw_match(given, iteration).epoch for iteration in range(21)]
    assert set(epochs[:5]) == {0}
    assert set(epochs[16:]) == {2}
    assert epochs == sorted(epochs)


def test_a_match_goes_from_its_epoch_to_the_one_a_span_later(assignment: Assignment) -> None:
    given = having(assignment, expert_span=2)
    match = mtt.draw_match(given, 1)
    pairs = [(path.at(match.epoch), path.at(match.epoch + 2)) for path in given.trajectories]
    assert any(
        all(np.array_equal(match.start[name], a[name]) and np.array_equal(match.target[name], b[name]) for name in a)
        for a, b in pairs
    )


def test_a_small_batch_is_drawn_anew_in_every_step(assignment: Assignment) -> None:
    match = mtt.draw_match(having(assignment, student_batch=4, student_steps=6), 0)
    chosen = [tuple(places) for places, _ in match.batches]
    assert all(len(set(places)) == 4 and list(places) == sorted(places) for places in chosen)
    assert len(set(chosen)) > 1
    assert all(len(shifts) == 4 and np.abs(shifts).max() <= mtt.SHIFT for _, shifts in match.batches)


def test_only_the_epochs_that_are_used_are_trained(assignment: Assignment) -> None:
    settings = having(
        assignment, ipc=4, max_start_epoch=3, start_epoch_growth=2.0, expert_span=3, init_epoch=0, method="mtt"
    ).settings
    jobs = needed_experts(METHODS["mtt"], settings, assignment.task)
    assert epochs_used(settings) == 3 + 4 + 3
    assert {job.recipe.epochs for name, job in jobs.items() if name.startswith("trajectory")} == {10}
    warm = needed_experts(METHODS["mtt"], replace(settings, init_epoch=12), assignment.task)
    assert {job.recipe.epochs for name, job in warm.items() if name.startswith("trajectory")} == {12}


@pytest.mark.parametrize(("momentum", "optimiser"), [(0.0, "plain_sgd"), (0.9, "sgd")])
def test_matched_experts_have_the_asked_momentum_and_flatness(
    assignment: Assignment, momentum: float, optimiser: str
) -> None:
    settings = changed(
        assignment.settings, {"mtt.trajectory_momentum": momentum, "mtt.sam": 0.05, "mtt.trajectory_rate": 0.03}
    )
    start = initial_weights(assignment.task.graph, 0)
    (job,) = trajectory_jobs(assignment.task, settings, start, epochs=2).values()
    assert (job.recipe.optimiser, job.recipe.flatness, job.recipe.peak_rate) == (optimiser, 0.05, 0.03)
    schedule = job.recipe.schedule(len(assignment.task.clips))
    assert (schedule.warm_share, schedule.start_divisor, schedule.end_divisor) == (0, 1, 1)


# All together --------------------------------------------------------------------------------------------------------


class PowerCut(BaseException):
    """Not an Exception, as KeyboardInterrupt is none."""


@pytest.mark.parametrize("number", [1, 3, 7])
def test_with_every_option_an_interrupted_run_ends_with_the_same_bits(
    assignment: Assignment, tmp_path: Path, number: int
) -> None:
    given, method = having(assignment, iterations=8, **ALL), METHODS["mtt"]

    def improve(assignment: Assignment, state: State, iteration: int) -> tuple[State, Mapping[str, float]]:
        if iteration == number:
            raise PowerCut
        return mtt.improve(assignment, state, iteration)

    run = open_run(tmp_path / "run", given.settings, resume=False)
    with pytest.raises(PowerCut):
        run_method(run, replace(given, method=replace(method, improve=improve)), ignore_progress)
    ended = run_method(run, given, ignore_progress)
    states, logged = after(given, 8)
    assert 0 < logged[-1]["skipped"] < 8
    assert set(ended) == set(states[-1])
    assert all(np.array_equal(ended[name], states[-1][name]) for name in ended)


def test_with_every_option_an_iteration_is_pure(assignment: Assignment) -> None:
    given = having(assignment, **ALL)
    state = mtt.begin(given)
    before = {name: value.copy() for name, value in state.items()}
    (one, logged), (other, again) = (mtt.improve(given, state, 1) for _ in range(2))
    assert logged == again
    assert all(np.array_equal(before[name], state[name]) for name in state)
    assert set(one) == set(state)
    assert all(np.array_equal(one[name], other[name]) for name in one)
    assert all(one[name].dtype == state[name].dtype and one[name].shape == state[name].shape for name in one)


def test_the_order_of_a_trajectorys_arrays_changes_no_bit_of_lean(assignment: Assignment) -> None:
    def turned(trajectory: Trajectory) -> Trajectory:
        return Trajectory(dict(reversed(trajectory.snapshots.items())), trajectory.final)

    given = having(assignment, **ALL)
    other = replace(given, trajectories=tuple(map(turned, given.trajectories)))
    state = mtt.begin(given)
    (one, _), (two, _) = (mtt.improve(each, state, 0) for each in (given, other))
    assert all(np.array_equal(one[name], two[name]) for name in one)
