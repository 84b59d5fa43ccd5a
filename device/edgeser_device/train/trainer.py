"""Training steps with onnxruntime alone: a state goes in, the next state and the loss come out.

    session = TrainingSession(kit.step, threads=4)
    state = begin(graph, initial_weights, "adamw")
    state, loss = session.step(state, distilled, items, distilled.schedule, seed=0)

    for made in make_steps(session, Checkpoint(state), source, schedule, schedule.steps):
        save_checkpoint(path, made)

A training that goes on from a checkpoint ends bit for bit where an uninterrupted one ends: the state is complete, and
the batches depend on the seed and the number of the step only. The file lies beside the model folder, whole or absent.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from math import isfinite
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeser_device.data.distilled import metadata_of
from edgeser_device.data.schedule import Schedule, batch_indices, learning_rate, statistics_batches
from edgeser_device.data.stored import StoredSet, batch_of
from edgeser_device.errors import KitError, TrainingError
from edgeser_device.machine import seconds_since_start
from edgeser_export.graph.op_graph import Graph, Weights
from edgeser_export.runtimes import open_onnx
from edgeser_export.trainstep.step_state import ITEMS, LABELS, LOSS, next_state, scalars, weight_names, zero_state
from edgeser_export.trainstep.step_writer import Request
from edgeser_export.utilities.errors import MissingRuntime
from edgeser_export.utilities.files import write_bytes

FORWARD_BATCH = 32
"""Items in one call of a :class:`ForwardPass`."""

Source: TypeAlias = Callable[[int], tuple[StoredSet, NDArray[np.float32]]]
"""Gives what a step, counted from 0, trains on: a set and its items, float32 (items, mels, frames)."""
KEY = "edgeser"
"""Key of the safetensors metadata in which a checkpoint keeps all that is not an array."""


@dataclass(frozen=True)
class TrainingState:
    """Everything that a training goes on from.

    Attributes:
        done: Steps that were made.
        values: Parameters and the optimiser's state by the names of the step's inputs.
    """

    done: int
    values: Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Checkpoint:
    """The state that a training goes on from, and the values that it must agree with.

    Attributes:
        state: Parameters and the optimiser's state after the steps that were made.
        kit: SHA-256 of the kit.
        seed: Decides the order of the views.
        steps: Steps of the whole training.
        threads: Threads of the training; with another number sums may be added in another order.
        drawing: The way in which points are drawn, in words; empty where the kit holds items.
        seconds: Seconds of training so far.
        first_step_s: Seconds from the start of the program to the end of the first step.
        loss: Loss of the last step.
    """

    state: TrainingState
    kit: str = ""
    seed: int = 0
    steps: int = 0
    threads: int = 0
    drawing: str = ""
    seconds: float = 0.0
    first_step_s: float = 0.0
    loss: float = 0.0

    def header(self) -> dict[str, Any]:
        """Everything but the arrays, as plain JSON values."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "state"}
        return {**values, "done": self.state.done}


def checkpoint_path(model: Path) -> Path:
    """The file of a model folder's checkpoint."""
    return model.parent / f"{model.name}.checkpoint"


def save_checkpoint(path: Path, made: Checkpoint) -> None:
    """Write a checkpoint atomically."""
    from safetensors.numpy import save

    write_bytes(path, save(dict(made.state.values), metadata={KEY: json.dumps(made.header())}))


def load_checkpoint(path: Path) -> Checkpoint:
    """Read what :func:`save_checkpoint` wrote.

    Raises:
        TrainingError: The file is no checkpoint of this version.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        data = path.read_bytes()
        header = json.loads(metadata_of(data)[KEY])
        return Checkpoint(TrainingState(header.pop("done"), load(data)), **header)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(
            f"the checkpoint {path} cannot be read: {error}", f"remove it and start again: rm {path}"
        ) from error


def begin(graph: Graph, weights: Weights, optimiser: str) -> TrainingState:
    """The state before the first step."""
    parameters = {name: weights[name] for name in weight_names(graph)}
    return TrainingState(0, {**parameters, **zero_state(graph, optimiser)})


def open_session(model: bytes, threads: int) -> Any:
    """An onnxruntime session with the options that need the least memory and processor time.

    Args:
        model: An ONNX file.
        threads: At least 1.

    Raises:
        MissingRuntime: onnxruntime cannot be imported.
        KitError: onnxruntime does not accept the file.
    """
    try:
        return open_onnx(model, threads, lean=True)
    except MissingRuntime:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise KitError(f"onnxruntime refuses the training step: {reason}", "pack the kit again") from error


def out_of_memory(error: BaseException) -> TrainingError:
    """The error for a training that asked for more memory than there was."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return TrainingError(
        f"memory did not suffice for the training: {reason}",
        "stop other programs, add swap (zram), or pack a run with a smaller student (--width) or batch",
    )


def compute(session: Any, names: list[str], feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
    """Run an onnxruntime session.

    Raises:
        TrainingError: It ran out of memory, or failed in another way.
    """
    try:
        return list(session.run(names, feeds))
    except Exception as error:  # onnxruntime's own exceptions share no other base
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        if isinstance(error, MemoryError) or "alloc" in reason.lower():
            raise out_of_memory(error) from error
        raise TrainingError(
            f"onnxruntime failed in the training step: {reason}",
            "check the free memory and run edgeser doctor; if both are good, pack the kit again",
        ) from error


class TrainingSession:
    """A training step, loaded."""

    def __init__(self, model: bytes, threads: int) -> None:
        """Load an ONNX training step; errors as :func:`open_session`."""
        self._session = open_session(model, threads)
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._read = [entry.name for entry in self._session.get_inputs()]

    def advance(
        self, feeds: Mapping[str, NDArray[Any]], where: str, hint: str
    ) -> tuple[dict[str, NDArray[np.float32]], float]:
        """Compute a step from its inputs.

        Args:
            feeds: Inputs by name; those that the step does not read are left out.
            where: The step in words, for an error: "step 3 of 600".
            hint: Advice where the loss is not finite.

        Returns:
            The next parameters and optimiser's state by name, and the mean loss of the batch before the update.

        Raises:
            TrainingError: The loss is not finite, or the step could not be computed.
        """
        given = {name: feeds[name] for name in self._read}
        outputs = dict(zip(self._outputs, compute(self._session, self._outputs, given), strict=True))
        loss = float(outputs[LOSS])
        if not isfinite(loss):
            raise TrainingError(f"the loss is {loss} in {where}", hint)
        return next_state(outputs), loss

    def step(
        self, state: TrainingState, distilled: StoredSet, items: NDArray[np.float32], schedule: Schedule, seed: int
    ) -> tuple[TrainingState, float]:
        """Make one step.

        Args:
            state: The state before the step.
            distilled: Gives the views and labels.
            items: ``distilled.items()``, float32 (items, mels, frames).
            schedule: Gives the batch and the rates; may be longer or shorter than the set's own.
            seed: Decides the order of the views.

        Returns:
            The next state, and the mean loss of the batch before the update.

        Raises:
            TrainingError: The loss is not finite, or the step could not be computed.
        """
        indices = batch_indices(len(distilled.recipes), schedule.batch, seed, state.done)
        rate = learning_rate(schedule, state.done)
        feeds = {
            **state.values,
            ITEMS: batch_of(distilled, items, indices),
            LABELS: distilled.labels_of(indices),
            **scalars(schedule.optimiser, state.done + 1, rate, schedule.weight_decay),
        }
        hint = "the kit's learning rate does not suit its student: distil again with a smaller one"
        values, loss = self.advance(feeds, f"step {state.done + 1} of {schedule.steps}", hint)
        return TrainingState(state.done + 1, values), loss


class ForwardPass:
    """The outputs of a student, or of a part of one, with any weights, in batches of a fixed size."""

    def __init__(self, graph: Graph, model: bytes, threads: int) -> None:
        """Load the file that was written for :meth:`request`; errors as :func:`open_session`."""
        self._session, self._output = open_session(model, threads), graph.output
        self._read = {entry.name for entry in self._session.get_inputs()} - {ITEMS}

    @staticmethod
    def request(graph: Graph) -> Request:
        """The request for :func:`edgeser_export.trainstep.step_writer.write_in_child`."""
        return Request("forward", graph, {"batch": FORWARD_BATCH})

    def __call__(self, items: NDArray[np.float32], weights: Weights) -> NDArray[np.float32]:
        """The graph's output for ``items``, at least one: float32 (items, ...); errors as :func:`compute`."""
        feeds = {name: weights[name] for name in self._read}
        rows = np.arange(-(-len(items) // FORWARD_BATCH) * FORWARD_BATCH) % len(items)
        batches = [rows[start : start + FORWARD_BATCH] for start in range(0, len(rows), FORWARD_BATCH)]
        found = [compute(self._session, [self._output], {**feeds, ITEMS: items[batch]})[0] for batch in batches]
        return np.concatenate(found)[: len(items)]


def make_steps(
    session: TrainingSession, made: Checkpoint, source: Source, schedule: Schedule, until: int
) -> Iterator[Checkpoint]:
    """Make one step after the other and yield what is reached after each; errors as :meth:`TrainingSession.step`.

    Args:
        session: The step.
        made: The state to begin with.
        source: Gives what each step trains on.
        schedule: Gives the batch and the rates.
        until: The number of steps made in all after the last one.
    """
    began, before = time.monotonic(), made.seconds
    while made.state.done < until:
        state, loss = session.step(made.state, *source(made.state.done), schedule, made.seed)
        first = seconds_since_start() if state.done == 1 else made.first_step_s
        seconds = before + time.monotonic() - began
        made = replace(made, state=state, loss=loss, first_step_s=first, seconds=seconds)
        yield made


def running_statistics(
    model: bytes, threads: int, graph: Graph, parameters: Weights, distilled: StoredSet, batch: int = 0
) -> dict[str, NDArray[np.float32]]:
    """Means and variances of the batch normalisations over all views, each batch counted once.

    Args:
        model: The ONNX file that computes the statistics of a batch.
        threads: At least 1.
        graph: The student.
        parameters: Its trained parameters.
        distilled: Gives the views.
        batch: Views of a batch in that file; 0 for the set's own number.

    Returns:
        Float32 arrays by the names in ``graph.statistics``; empty for a student without batch normalisation.

    Raises:
        TrainingError: They could not be computed.
    """
    if not graph.statistics:
        return {}
    session = open_session(model, threads)
    names = list(graph.statistics)
    read = {entry.name for entry in session.get_inputs()} - {ITEMS}
    feeds = {name: parameters[name] for name in read}
    items, batches = distilled.items(), statistics_batches(len(distilled.recipes), batch or distilled.schedule.batch)
    sums = {name: np.zeros(shape) for name, shape in graph.statistics.items()}
    for indices in batches:
        given = {**feeds, ITEMS: batch_of(distilled, items, indices)}
        for name, value in zip(names, compute(session, names, given), strict=True):
            sums[name] += value
    return {name: (total / len(batches)).astype(np.float32) for name, total in sums.items()}
