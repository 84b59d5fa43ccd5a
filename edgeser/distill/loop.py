"""The loop that all methods share: progress, log, checkpoint, resume, and an early stop on dev speakers.

state = run_method(run, assignment, advance, check)     # what is to be shipped

Everything that decides what comes next lies in the checkpoint, so a killed run ends with the same bits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from edgeser.config.settings import Settings, value_of
from edgeser.distill.label_bank import assemble
from edgeser.distill.method import Assignment, Improve, Method, State
from edgeser.errors import DivergedError, RunError
from edgeser.evaluation.scoring import Clips, score
from edgeser.models.training import train_on_set
from edgeser.representation.base import Features
from edgeser.run import Run, safetensors_bytes
from edgeser_device.data.sample_storage import blur
from edgeser_device.data.stored import StoredSet
from edgeser_export.utilities.files import write_bytes
from edgeser_export.utilities.progress import Advance

CHECKPOINT_SECONDS = 10.0
"""Time from one checkpoint to the next; a killed run loses no more than this."""
LARGEST_RISE = 1000.0
"""A loss this many times the first one, or 1 if that is larger, has diverged: what learns stays near where it began.
Methods with parts of several losses judge that themselves."""

ITEMS = ("items", "raw_items")
"""Arrays of a state that are items."""

Check: TypeAlias = Callable[[State], float]
"""The UAR, 0 to 1, that a student reaches on the dev speakers with a state."""


@dataclass(frozen=True)
class Position:
    """The progress of the loop.

    Attributes:
        state: The method's own.
        done: Iterations that were made.
        loss: Loss of the last iteration; NaN before the first.
        first_loss: Loss of the first iteration.
        checked: Iterations that had been made at the last check; -1 before the first.
        waited: Checks since the best one.
        uar: UAR of the last check.
        best_uar: UAR of the best check, the earliest of equals.
        best: The whole state at the best check; empty before the first.
    """

    state: State
    done: int = 0
    loss: float = np.nan
    first_loss: float = np.nan
    checked: int = -1
    waited: int = 0
    uar: float = np.nan
    best_uar: float = np.nan
    best: State | None = None

    @property
    def words(self) -> str:
        """The words beside the progress bar."""
        found = {"loss": self.loss, "dev UAR": self.uar}
        return ", ".join(f"{name} {value:.2f}" for name, value in found.items() if np.isfinite(value))


def run_method(run: Run, assignment: Assignment, advance: Advance, check: Check | None = None) -> State:
    """Begin or go on, and iterate to the end; the state is on the disk whenever this stops.

    With a check it is made before the first iteration, every ``check_every`` iterations and after the last one;
    ``patience`` checks without a better UAR end the loop.

    Returns:
        The whole state at the best check, or without checks the last one.

    Raises:
        DivergedError: An iteration failed, or its loss is far too large; the last good state is in the checkpoint.
        StorageError: A checkpoint cannot be written; the one before it is whole.
    """
    settings, method = assignment.settings, assignment.method
    check = check if method.improve and settings.check_every else None
    total = settings.iterations if method.improve else 0
    saved = load_checkpoint(run.checkpoint) if run.checkpoint.is_file() else None
    saved_at, position = time.monotonic(), saved or Position(blurred(method.begin(assignment), assignment.formations))
    try:
        while True:
            if check is not None and _check_is_due(position, settings, total):
                position = _checked(run, position, check)
            elif method.improve and position.done < total and not (check and position.waited >= settings.patience):
                position = _improved(run, position, method.improve, assignment)
            else:
                break
            advance(position.done, position.words)
            if time.monotonic() - saved_at > CHECKPOINT_SECONDS:
                save_checkpoint(run.checkpoint, position)
                saved_at, saved = time.monotonic(), position
    finally:
        if saved is not position:
            save_checkpoint(run.checkpoint, position)
    return position.state if position.best is None else position.best


def iterations_done(run: Run) -> int:
    """Iterations that an interrupted run has made.

    Raises:
        RunError: Its checkpoint is damaged.
    """
    return load_checkpoint(run.checkpoint).done if run.checkpoint.is_file() else 0


def number_of_checks(method: Method, settings: Settings) -> int:
    """Checks of a run that does not stop early."""
    if not method.improve or not settings.check_every:
        return 0
    return -(-settings.iterations // settings.check_every) + 1


def blurred(state: State, formations: int) -> State:
    """A state whose items are as smooth in time as items that hold several log-mels can store them."""
    found = {name: blur(state[name], formations) for name in ITEMS if name in state and formations > 1}
    return {**state, **found}


def _check_is_due(position: Position, settings: Settings, total: int) -> bool:
    done = position.done
    return position.checked < done and (done == total or done % settings.check_every == 0)


def _checked(run: Run, position: Position, check: Check) -> Position:
    uar = check(position.state)
    following = replace(position, checked=position.done, uar=uar, waited=position.waited + 1)
    if position.best is None or uar > position.best_uar:
        following = replace(following, waited=0, best_uar=uar, best=position.state)
    run.log("check", number=position.done, dev_uar=uar, best=following.best_uar)
    return following


def _improved(run: Run, position: Position, improve: Improve, assignment: Assignment) -> Position:
    state, values = improve(assignment, position.state, position.done)
    state = blurred(state, assignment.formations)
    done, loss = position.done + 1, values["loss"]
    first = loss if position.done == 0 else position.first_loss
    finite = all(np.isfinite(array).all() for array in state.values() if array.dtype.kind == "f")
    highest = np.finfo(float).max if assignment.method.stops_itself else LARGEST_RISE * max(1.0, first)
    if not finite or not loss <= highest:
        what = f"is {loss:.4g}" + (f" after {first:.4g} in the first" if finite else " and its items are not finite")
        raise DivergedError(f"the loss of iteration {done} {what}", _advice(assignment))
    run.log("iteration", number=done, **values)
    return replace(position, state=state, done=done, loss=loss, first_loss=first)


def _advice(assignment: Assignment) -> str:
    settings, rates = assignment.settings, assignment.method.rates
    return "set " + " or ".join(f"{key} below {value_of(settings, key):g}" for key in rates)


_NUMBERS = {field.name: field.type for field in fields(Position) if field.type in ("int", "float")}
_OWN, _BEST = "loop.", "best."
"""Reserved beginnings of names in a checkpoint: the loop's numbers, and the state at the best check."""


def save_checkpoint(path: Path, position: Position) -> None:
    """Write a position, whole or not at all.

    Raises:
        StorageError: It cannot be written; an older checkpoint is untouched.
    """
    numbers = {_OWN + name: np.array([getattr(position, name)]) for name in _NUMBERS}
    best = {_BEST + name: array for name, array in (position.best or {}).items()}
    write_bytes(path, safetensors_bytes({**position.state, **numbers, **best}))


def load_checkpoint(path: Path) -> Position:
    """Read what :func:`save_checkpoint` wrote.

    Raises:
        RunError: The file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(path.read_bytes())
        numbers = {name: arrays.pop(_OWN + name)[0].item() for name in _NUMBERS}
    except (SafetensorError, KeyError) as error:
        hint = "remove it and run distill again with --resume"
        raise RunError(f"the checkpoint {path} is damaged: {error}", hint) from error
    best = {name.removeprefix(_BEST): arrays.pop(name) for name in list(arrays) if name.startswith(_BEST)}
    return Position(arrays, best=best or None, **numbers)


SHARE = 1 / 3
"""Share of the student's steps in a check: enough to rank sets, at a third of the time."""


def dev_check(assignment: Assignment, features: Features) -> Check:
    """A check of states of this assignment; it reads no clip of the test speakers."""
    dev = Clips.of(features.dev, assignment.task.classes)

    def check(state: State) -> float:
        return dev_uar(assignment, assemble(assignment, state), dev)

    return check


def dev_uar(assignment: Assignment, distilled: StoredSet, dev: Clips) -> float:
    """UAR on ``dev`` of one student, trained from the fixed initialisation for a share of its steps.

    Raises:
        DivergedError: The student's training diverges.
    """
    short = replace(distilled, schedule=replace(distilled.schedule, steps=check_steps(distilled.schedule.steps)))
    graph, seed = assignment.task.graph, assignment.settings.seed
    return score(graph, train_on_set(graph, assignment.init, short, seed), dev).uar


def check_steps(steps: int) -> int:
    """Steps of the student in a check, of ``steps`` in all."""
    return max(1, round(SHARE * steps))
