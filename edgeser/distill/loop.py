"""The loop that all methods share: progress, log, checkpoint, resume."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from edgeser.distill.method import Assignment, Method, State
from edgeser.errors import RunError
from edgeser.run import Run, safetensors_bytes
from edgeser_device.progress import Advance
from edgeser_export.files import write_bytes

CHECKPOINT_SECONDS = 10.0
"""Time from one checkpoint to the next; a killed run loses no more than this."""


def run_method(run: Run, method: Method, assignment: Assignment, advance: Advance) -> State:
    """Begin or go on, and iterate to the end; the state is on the disk whenever this stops.

    Raises:
        DivergedError: An iteration failed; the last good state is in the checkpoint.
    """
    total = assignment.settings.iterations if method.improve else 0
    done, state = load_checkpoint(run.checkpoint) if run.checkpoint.is_file() else (0, method.begin(assignment))
    saved_at, saved = time.monotonic(), done
    try:
        while method.improve and done < total:
            state, values = method.improve(assignment, state, done)
            done += 1
            run.log("iteration", number=done, **values)
            advance(done, f"loss {values['loss']:.4f}")
            if time.monotonic() - saved_at > CHECKPOINT_SECONDS:
                save_checkpoint(run.checkpoint, done, state)
                saved_at, saved = time.monotonic(), done
    finally:
        if saved < done or not run.checkpoint.is_file():
            save_checkpoint(run.checkpoint, done, state)
    return state


def save_checkpoint(path: Path, done: int, state: State) -> None:
    """Write the state after ``done`` iterations, whole or not at all."""
    write_bytes(path, safetensors_bytes({"done": np.array([done]), **state}))


def load_checkpoint(path: Path) -> tuple[int, State]:
    """Read what :func:`save_checkpoint` wrote.

    Raises:
        RunError: The file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        state = load(path.read_bytes())
        done = int(state.pop("done")[0])
    except (SafetensorError, KeyError) as error:
        hint = "remove it and run distill again with --resume"
        raise RunError(f"the checkpoint {path} is damaged: {error}", hint) from error
    return done, state
