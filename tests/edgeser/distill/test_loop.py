"""The loop: what was interrupted goes on, and ends with the same bits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from edgeser.distill import loop
from edgeser.distill.loop import load_checkpoint, run_method, save_checkpoint
from edgeser.distill.method import Assignment, Method, State
from edgeser.distill.table import METHODS
from edgeser.errors import DivergedError, RunError
from edgeser.run import Run, open_run
from edgeser_device.progress import ignore_progress

MTT = METHODS["mtt"]


class PowerCut(BaseException):
    """Not an Exception, as KeyboardInterrupt is none."""


@pytest.fixture
def run(tmp_path: Path, assignment: Assignment) -> Run:
    return open_run(tmp_path / "run", assignment.settings, resume=False)


def ending_at(number: int, error: BaseException) -> Method:
    """Trajectory matching that ends with an error in the iteration of that number."""

    def improve(assignment: Assignment, state: State, iteration: int) -> tuple[State, Mapping[str, float]]:
        if iteration == number:
            raise error
        return MTT.improve(assignment, state, iteration)

    return replace(MTT, improve=improve)


def same(one: State, other: State) -> bool:
    return set(one) == set(other) and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.fixture
def uninterrupted(tmp_path: Path, assignment: Assignment) -> State:
    whole = open_run(tmp_path / "whole", assignment.settings, resume=False)
    return run_method(whole, MTT, assignment, ignore_progress)


@pytest.mark.parametrize("number", [0, 1, 3])
@pytest.mark.parametrize("error", [PowerCut(), KeyboardInterrupt(), RuntimeError("out of memory")])
def test_an_interrupted_run_ends_with_the_same_bits(
    run: Run, assignment: Assignment, uninterrupted: State, number: int, error: BaseException
) -> None:
    with pytest.raises(type(error)):
        run_method(run, ending_at(number, error), assignment, ignore_progress)
    assert load_checkpoint(run.checkpoint)[0] == number
    again = Run(run.folder)
    assert same(run_method(again, MTT, assignment, ignore_progress), uninterrupted)
    assert load_checkpoint(run.checkpoint)[0] == 4


def test_a_run_that_is_interrupted_in_every_iteration_ends_with_the_same_bits(
    run: Run, assignment: Assignment, uninterrupted: State
) -> None:
    for number in range(1, 4):
        with pytest.raises(PowerCut):
            run_method(run, ending_at(number, PowerCut()), assignment, ignore_progress)
    assert same(run_method(run, MTT, assignment, ignore_progress), uninterrupted)


def test_a_killed_run_goes_on_from_its_last_checkpoint(
    run: Run, assignment: Assignment, uninterrupted: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a checkpoint after every iteration, and without the one that is written when the loop ends in order."""
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(PowerCut):
        run_method(run, ending_at(2, PowerCut()), assignment, ignore_progress)
    events = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    assert [event["number"] for event in events] == [1, 2]
    told: list[int] = []
    final = run_method(run, MTT, assignment, lambda done, words: told.append(done))
    assert told == [3, 4]
    assert same(final, uninterrupted)


def test_the_last_good_state_is_kept_when_a_method_diverges(run: Run, assignment: Assignment) -> None:
    state = MTT.begin(assignment)
    for iteration in range(2):
        state, _ = MTT.improve(assignment, state, iteration)
    with pytest.raises(DivergedError):
        run_method(run, ending_at(2, DivergedError("nan", "smaller")), assignment, ignore_progress)
    done, kept = load_checkpoint(run.checkpoint)
    assert done == 2
    assert same(kept, state)
    assert all(np.isfinite(value).all() for value in kept.values())


def test_a_method_without_iterations_is_done_at_once_and_kept(run: Run, assignment: Assignment) -> None:
    state = run_method(run, METHODS["random"], assignment, ignore_progress)
    assert load_checkpoint(run.checkpoint)[0] == 0
    assert same(load_checkpoint(run.checkpoint)[1], state)


def test_every_iteration_is_logged(run: Run, assignment: Assignment) -> None:
    run_method(run, MTT, assignment, ignore_progress)
    events = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    assert [event["number"] for event in events] == [1, 2, 3, 4]
    assert all(set(event) == {"time", "event", "number", "loss", "start_epoch", "step_size"} for event in events)


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "no count"])
def test_a_damaged_checkpoint_is_named_with_a_way_out(run: Run, assignment: Assignment, damage: str) -> None:
    save_checkpoint(run.checkpoint, 2, MTT.begin(assignment))
    content = run.checkpoint.read_bytes()
    damaged = {"cut": content[:-50], "garbage": b"\xff" * 80, "empty": b"", "no count": save({"items": np.zeros(2)})}
    run.checkpoint.write_bytes(damaged[damage])
    with pytest.raises(RunError, match=r"state\.safetensors is damaged") as caught:
        run_method(run, MTT, assignment, ignore_progress)
    assert "remove it" in caught.value.hint
    assert run.checkpoint.read_bytes() == damaged[damage]
