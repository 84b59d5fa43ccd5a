"""The loop: what was interrupted goes on and ends with the same bits, and what is shipped is best on dev speakers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from edgeser.config.settings import SETTINGS, Settings
from edgeser.config.values import changed
from edgeser.distill import loop
from edgeser.distill.label_bank import assemble
from edgeser.distill.loop import (
    Position,
    dev_check,
    iterations_done,
    load_checkpoint,
    number_of_checks,
    run_method,
    save_checkpoint,
)
from edgeser.distill.method import Assignment, Method, State
from edgeser.distill.pipeline import Material, assign, prepare
from edgeser.distill.registry import METHODS
from edgeser.errors import DivergedError, RunError
from edgeser.evaluation.scoring import Clips, score
from edgeser.models.training import train_on_set
from edgeser.run import Run, open_run
from edgeser.workers import Workers
from edgeser_export.utilities.errors import StorageError
from edgeser_export.utilities.progress import ignore_progress

MTT = METHODS["mtt"]


class PowerCut(BaseException):
    """Not an Exception, as KeyboardInterrupt is none."""


@pytest.fixture
def run(tmp_path: Path, assignment: Assignment) -> Run:
    return open_run(tmp_path / "run", assignment.settings, resume=False)


def ending_at(number: int, error: BaseException, method: Method = MTT) -> Method:
    """A method that ends with an error in the iteration of that number."""

    def improve(assignment: Assignment, state: State, iteration: int) -> tuple[State, Mapping[str, float]]:
        if iteration == number:
            raise error
        return method.improve(assignment, state, iteration)

    return replace(method, improve=improve)


def same(one: State, other: State) -> bool:
    return set(one) == set(other) and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.fixture
def uninterrupted(tmp_path: Path, assignment: Assignment) -> State:
    whole = open_run(tmp_path / "whole", assignment.settings, resume=False)
    return run_method(whole, assignment, ignore_progress)


@pytest.mark.parametrize("number", [0, 1, 3])
@pytest.mark.parametrize("error", [PowerCut(), KeyboardInterrupt(), RuntimeError("out of memory")])
def test_an_interrupted_run_ends_with_the_same_bits(
    run: Run, assignment: Assignment, uninterrupted: State, number: int, error: BaseException
) -> None:
    with pytest.raises(type(error)):
        run_method(run, replace(assignment, method=ending_at(number, error)), ignore_progress)
    assert iterations_done(run) == number
    again = Run(run.folder)
    assert same(run_method(again, assignment, ignore_progress), uninterrupted)
    assert iterations_done(run) == 4


def test_a_run_that_is_interrupted_in_every_iteration_ends_with_the_same_bits(
    run: Run, assignment: Assignment, uninterrupted: State
) -> None:
    for number in range(1, 4):
        with pytest.raises(PowerCut):
            run_method(run, replace(assignment, method=ending_at(number, PowerCut())), ignore_progress)
    assert same(run_method(run, assignment, ignore_progress), uninterrupted)


def test_a_killed_run_goes_on_from_its_last_checkpoint(
    run: Run, assignment: Assignment, uninterrupted: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a checkpoint after every iteration, and without the one that is written when the loop ends in order."""
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(PowerCut):
        run_method(run, replace(assignment, method=ending_at(2, PowerCut())), ignore_progress)
    assert [event["number"] for event in run.events("iteration")] == [1, 2]
    told: list[int] = []
    final = run_method(run, assignment, lambda done, words: told.append(done))
    assert told == [3, 4]
    assert same(final, uninterrupted)


def test_a_method_without_iterations_is_done_at_once_and_kept(run: Run, assignment: Assignment) -> None:
    checked = replace(assignment, settings=replace(assignment.settings, check_every=1))
    state = run_method(run, replace(checked, method=METHODS["random"]), ignore_progress, lambda state: 1 / 0)
    assert iterations_done(run) == 0
    assert same(load_checkpoint(run.checkpoint).state, state)


def test_every_iteration_is_logged(run: Run, assignment: Assignment) -> None:
    run_method(run, assignment, ignore_progress)
    events = run.events("iteration")
    assert [event["number"] for event in events] == [1, 2, 3, 4]
    assert all(
        set(event) >= {"time", "event", "number", "loss", "start_epoch", "step_size", "skipped"} for event in events
    )


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "no count"])
def test_a_damaged_checkpoint_is_named_with_a_way_out(run: Run, assignment: Assignment, damage: str) -> None:
    save_checkpoint(run.checkpoint, Position(MTT.begin(assignment), done=2))
    content = run.checkpoint.read_bytes()
    damaged = {"cut": content[:-50], "garbage": b"\xff" * 80, "empty": b"", "no count": save({"items": np.zeros(2)})}
    run.checkpoint.write_bytes(damaged[damage])
    with pytest.raises(RunError, match=r"state\.safetensors is damaged") as caught:
        run_method(run, assignment, ignore_progress)
    assert "remove it" in caught.value.hint
    assert run.checkpoint.read_bytes() == damaged[damage]


def test_a_checkpoint_holds_a_position_as_it_is(tmp_path: Path) -> None:
    state, best = {"items": np.ones((2, 3), np.float32), "count": np.array([7])}, {"items": np.zeros((2, 3))}
    position = Position(state, 5, 0.1 + 0.2, 1e300, checked=4, waited=1, uar=1 / 3, best_uar=2 / 3, best=best)
    for given in (position, Position(state)):
        save_checkpoint(tmp_path / "state", given)
        found = load_checkpoint(tmp_path / "state")
        assert same(found.state, given.state)
        assert same(found.best or {}, given.best or {})
        np.testing.assert_equal(*(vars(replace(each, state={}, best=None)) for each in (found, given)))


# The early stop ------------------------------------------------------------------------------------------------------

COUNTING = Method(
    begin=lambda assignment: {"items": np.zeros((1, 2, 2), np.float32), "memory": np.array([0])},
    improve=lambda assignment, state, iteration: (
        {"items": state["items"] + 1, "memory": state["memory"] + 10},
        {"loss": 0.52},
    ),
)


def counting(assignment: Assignment, iterations: int, check_every: int, patience: int) -> Assignment:
    settings = changed(
        assignment.settings, {"mtt.iterations": iterations, "check_every": check_every, "patience": patience}
    )
    return replace(assignment, settings=settings)


def scripted(uars: Mapping[int, float], asked: list[int]) -> Callable[[State], float]:
    """A check that knows the UAR after each number of iterations."""

    def check(state: State) -> float:
        asked.append(int(state["items"][0, 0, 0]))
        return uars.get(asked[-1], 0.1)

    return check


@pytest.mark.parametrize(
    ("uars", "iterations", "every", "patience", "asked", "shipped"),
    [
        ({0: 0.3, 2: 0.5, 4: 0.4, 6: 0.45, 8: 0.9}, 10, 2, 2, [0, 2, 4, 6], 2),  # the 0.9 is never seen
        ({0: 0.3, 2: 0.5, 4: 0.4, 6: 0.45, 8: 0.9}, 10, 2, 3, [0, 2, 4, 6, 8, 10], 8),
        ({0: 0.1, 2: 0.2, 4: 0.3, 5: 0.4}, 5, 2, 1, [0, 2, 4, 5], 5),  # the end is checked too
        ({0: 0.5, 1: 0.5, 2: 0.5}, 9, 1, 2, [0, 1, 2], 0),  # no better is not better
        ({0: 0.2, 3: 0.6}, 3, 50, 1, [0, 3], 3),
    ],
)
def test_the_best_checked_state_is_shipped(
    run: Run, assignment: Assignment, uars, iterations: int, every: int, patience: int, asked: list[int], shipped: int
) -> None:
    given, seen = counting(assignment, iterations, every, patience), []
    state = run_method(run, replace(given, method=COUNTING), ignore_progress, scripted(uars, seen))
    assert seen == asked
    assert int(state["items"][0, 0, 0]) == shipped
    assert state["memory"].tolist() == [10 * shipped]  # not the items alone
    events = run.events("check")
    assert [event["number"] for event in events] == asked
    assert [event["dev_uar"] for event in events] == [uars.get(number, 0.1) for number in asked]
    assert [event["best"] for event in events] == np.maximum.accumulate([e["dev_uar"] for e in events]).tolist()
    assert number_of_checks(COUNTING, given.settings) >= len(asked)
    seen.clear()
    assert same(run_method(run, replace(given, method=COUNTING), ignore_progress, scripted(uars, seen)), state)
    assert seen == []  # a loop that has ended does not begin again


def test_a_run_that_is_not_stopped_makes_the_counted_checks(run: Run, assignment: Assignment) -> None:
    for iterations, every in ((1, 1), (4, 2), (5, 2), (5, 9)):
        seen: list[int] = []
        given = counting(assignment, iterations, every, patience=100)
        own = open_run(run.folder / f"{iterations}-{every}", given.settings, False)
        run_method(own, replace(given, method=COUNTING), ignore_progress, scripted({}, seen))
        assert len(seen) == number_of_checks(COUNTING, given.settings)
    assert number_of_checks(METHODS["random"], given.settings) == 0
    assert number_of_checks(COUNTING, replace(given.settings, check_every=0)) == 0


def test_without_a_distance_between_checks_nothing_is_checked(run: Run, assignment: Assignment) -> None:
    given = counting(assignment, 4, 0, 1)
    state = run_method(run, replace(given, method=COUNTING), ignore_progress, lambda state: 1 / 0)
    assert int(state["items"][0, 0, 0]) == 4


def test_loss_and_dev_uar_are_told(run: Run, assignment: Assignment) -> None:
    told: list[tuple[int, str]] = []
    given = counting(assignment, 3, 2, 5)
    check = scripted({0: 0.25, 2: 0.613, 3: 0.6}, [])
    run_method(run, replace(given, method=COUNTING), lambda done, words: told.append((done, words)), check)
    assert told == [
        (0, "dev UAR 0.25"),
        (1, "loss 0.52, dev UAR 0.25"),
        (2, "loss 0.52, dev UAR 0.25"),
        (2, "loss 0.52, dev UAR 0.61"),
        (3, "loss 0.52, dev UAR 0.61"),
        (3, "loss 0.52, dev UAR 0.60"),
    ]


@pytest.mark.parametrize("place", ["check 0", "improve 1", "check 2", "improve 2", "check 4", "improve 5", "check 6"])
def test_a_cut_before_after_or_in_a_check_changes_nothing(
    tmp_path: Path, assignment: Assignment, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step counted from nothing: a cut in a check is one between an iteration and its check."""
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    given = counting(assignment, 20, 2, 2)
    uars = {0: 0.3, 2: 0.5, 4: 0.4, 6: 0.45, 8: 0.9}
    whole, broken = (open_run(tmp_path / name, given.settings, False) for name in ("whole", "broken"))
    state = run_method(whole, replace(given, method=COUNTING), ignore_progress, scripted(uars, []))
    kind, number = place.split()

    def cut(state: State) -> float:
        if int(state["items"][0, 0, 0]) == int(number):
            raise PowerCut
        return scripted(uars, [])(state)

    method = ending_at(int(number), PowerCut(), COUNTING) if kind == "improve" else COUNTING
    with pytest.raises(PowerCut):
        run_method(
            broken, replace(given, method=method), ignore_progress, cut if kind == "check" else scripted(uars, [])
        )
    assert same(run_method(broken, replace(given, method=COUNTING), ignore_progress, scripted(uars, [])), state)
    assert broken.checkpoint.read_bytes() == whole.checkpoint.read_bytes()
    for event in ("check", "iteration"):
        told = [[{**each, "time": 0} for each in run.events(event)] for run in (broken, whole)]
        assert told[0] == told[1]


# Divergence ----------------------------------------------------------------------------------------------------------


def diverging(number: int, loss: float, item: float) -> Method:
    """Counts until the iteration of that number, whose loss or items are off."""

    def improve(assignment: Assignment, state: State, iteration: int) -> tuple[State, Mapping[str, float]]:
        following, values = COUNTING.improve(assignment, state, iteration)
        bad = {**following, "items": following["items"] * np.float32(item)}
        return (bad, {"loss": loss}) if iteration == number else (following, values)

    return replace(COUNTING, improve=improve, rates=("mtt.step_size", "mtt.item_rate"))


@pytest.mark.parametrize(
    ("loss", "item", "what"),
    [
        (float("nan"), 1, "is nan"),
        (float("inf"), 1, "is inf"),
        (1e9, 1, r"is 1e\+09 after 0\.52 in the first"),
        (0.5, float("nan"), "its items are not finite"),
    ],
)
def test_what_diverges_is_stopped_and_the_last_good_state_kept(
    run: Run, assignment: Assignment, loss: float, item: float, what: str
) -> None:
    given = counting(assignment, 9, 0, 1)
    with pytest.raises(DivergedError, match=f"the loss of iteration 4 .*{what}") as caught:
        run_method(run, replace(given, method=diverging(3, loss, item)), ignore_progress)
    own = given.settings.mtt
    assert caught.value.hint == f"set mtt.step_size below {own.step_size:g} or mtt.item_rate below {own.item_rate:g}"
    kept = load_checkpoint(run.checkpoint)
    assert kept.done == 3
    assert (kept.state["items"] == 3).all()
    assert len(run.events("iteration")) == 3


def test_a_loss_that_began_high_may_stay_there(run: Run, assignment: Assignment) -> None:
    def improve(assignment: Assignment, state: State, iteration: int) -> tuple[State, Mapping[str, float]]:
        return COUNTING.improve(assignment, state, iteration)[0], {"loss": 1e6 * (1 + iteration)}

    given = counting(assignment, 3, 0, 1)
    state = run_method(run, replace(given, method=replace(COUNTING, improve=improve)), ignore_progress)
    assert (state["items"] == 3).all()


def test_a_method_of_its_own_words_is_quoted(run: Run, assignment: Assignment) -> None:
    with pytest.raises(DivergedError, match="nan") as caught:
        run_method(run, replace(assignment, method=ending_at(2, DivergedError("nan", "smaller"))), ignore_progress)
    assert caught.value.hint == "smaller"
    state = MTT.begin(assignment)
    for iteration in range(2):
        state, _ = MTT.improve(assignment, state, iteration)
    assert same(load_checkpoint(run.checkpoint).state, state)


def test_every_method_names_settings_that_there_are() -> None:
    for method in METHODS.values():
        assert bool(method.rates) == (method.improve is not None)
        assert set(method.rates) <= set(SETTINGS)


# A full disk ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of two megabytes."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mount.returncode:
        pytest.skip("mounting a small disk is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_leaves_the_older_checkpoint_and_the_run_goes_on(
    small_disk: Path, assignment: Assignment, uninterrupted: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    run = open_run(small_disk / "run", assignment.settings, resume=False)
    filler = small_disk / "somebody else's"

    def advance(done: int, words: str) -> None:
        if done == 2:  # the checkpoint after the first iteration is written, the next one is not
            free = os.statvfs(small_disk)
            filler.write_bytes(bytes(free.f_bavail * free.f_bsize - 100_000))

    with pytest.raises(StorageError, match=r"cannot write .*state\.safetensors: No space left") as caught:
        run_method(run, assignment, advance)
    assert "free space" in caught.value.hint
    assert iterations_done(run) == 1
    assert [path.name for path in run.checkpoint.parent.iterdir()] == ["state.safetensors"]
    filler.unlink()
    assert same(run_method(run, assignment, ignore_progress), uninterrupted)


def test_a_disk_without_room_for_a_line_of_the_log_is_named(small_disk: Path, assignment: Assignment) -> None:
    run = open_run(small_disk / "run", assignment.settings, resume=False)
    run.log("begun")
    free = os.statvfs(small_disk)
    (small_disk / "filler").write_bytes(bytes(free.f_bavail * free.f_bsize))
    with pytest.raises(StorageError, match=r"cannot write .*log\.jsonl"):
        for number in range(1000):  # the last page of the file has room for some
            run.log("iteration", number=number)
    lines = (run.folder / "log.jsonl").read_text()
    assert lines.endswith("}\n")
    assert len(run.events("iteration")) == number
    (small_disk / "filler").unlink()
    run.log("iteration", number=number)
    assert len(run.events("iteration")) == number + 1


# Every method --------------------------------------------------------------------------------------------------------

ITERATIVE = sorted(name for name, method in METHODS.items() if method.improve and not method.of_vectors)


@pytest.fixture(scope="module", params=ITERATIVE)
def learning(
    request: pytest.FixtureRequest, tiny: Settings, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Material, Assignment]:
    """The demo corpus and the experts that a method asks for."""
    settings = changed(tiny, {"method": request.param, "samples_per_item": 0, "check_every": 2, "patience": 5})
    material = prepare(settings, Workers(1))
    return material, assign(open_run(tmp_path_factory.mktemp("run"), settings, False), material, Workers(1))


def test_every_method_that_is_interrupted_ends_with_the_same_bits(
    learning: tuple[Material, Assignment], tmp_path: Path
) -> None:
    material, assignment = learning
    method, check = METHODS[assignment.settings.method], dev_check(assignment, material.features)
    whole, broken = (open_run(tmp_path / name, assignment.settings, False) for name in ("whole", "broken"))
    state = run_method(whole, replace(assignment, method=method), ignore_progress, check)

    def cut(state: State) -> float:
        raise PowerCut

    for number in (1, 2):
        with pytest.raises(PowerCut):
            run_method(
                broken, replace(assignment, method=ending_at(number, PowerCut(), method)), ignore_progress, check
            )
        with pytest.raises(PowerCut):
            run_method(Run(broken.folder), replace(assignment, method=method), ignore_progress, cut)
    assert (iterations_done(broken), load_checkpoint(broken.checkpoint).checked) == (3, 2)
    assert same(run_method(Run(broken.folder), replace(assignment, method=method), ignore_progress, check), state)
    assert broken.checkpoint.read_bytes() == whole.checkpoint.read_bytes()


def test_a_check_trains_on_what_is_shipped_and_reads_dev_speakers_only(
    learning: tuple[Material, Assignment],
) -> None:
    material, assignment = learning
    features = material.features
    state = METHODS[assignment.settings.method].begin(assignment)
    uar = dev_check(assignment, features)(state)
    shipped = assemble(assignment, state)
    short = replace(shipped, schedule=replace(shipped.schedule, steps=4))  # a third of twelve
    weights = train_on_set(material.graph, assignment.init, short, seed=0)
    assert uar == score(material.graph, weights, Clips.of(features.dev, 4)).uar
    unknown = replace(features.test, levels=tuple(np.full_like(levels, np.nan) for levels in features.test.levels))
    assert dev_check(assignment, replace(features, test=unknown))(state) == uar
