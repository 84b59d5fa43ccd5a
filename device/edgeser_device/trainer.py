"""Training steps with onnxruntime alone: a state goes in, the next state and the loss come out.

session = TrainingSession(kit.step, threads=4)
state = begin(graph, initial_weights, "adamw")
state, loss = session.step(state, distilled, items, distilled.schedule, seed=0)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeser_device.distilled import DistilledSet
from edgeser_device.errors import KitError, TrainingError
from edgeser_device.schedule import Schedule, batch_indices, learning_rate, statistics_batches
from edgeser_device.views import render
from edgeser_export.errors import MissingRuntime
from edgeser_export.graph import Graph, Weights
from edgeser_export.stepstate import ITEMS, LABELS, LOSS, next_state, scalars, weight_names, zero_state
from edgeser_export.stepwriter import Request

FORWARD_BATCH = 32
"""Items in one call of a :class:`ForwardPass`."""


@dataclass(frozen=True)
class TrainingState:
    """Everything that a training goes on from.

    Attributes:
        done: Steps that were made.
        values: Parameters and the optimiser's state by the names of the step's inputs.
    """

    done: int
    values: Mapping[str, NDArray[np.float32]]


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
        import onnxruntime
    except ImportError as error:
        raise MissingRuntime(f"onnxruntime cannot be loaded: {error}", "run edgeser doctor") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # a plan for the whole step at once costs more memory than it saves time
    options.enable_mem_reuse = False  # a tensor that takes the place of an older one keeps it from all in between
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # leaves the other cores to others
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
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

    def step(
        self, state: TrainingState, distilled: DistilledSet, items: NDArray[np.float32], schedule: Schedule, seed: int
    ) -> tuple[TrainingState, float]:
        """Make one step.

        Args:
            state: What came before.
            distilled: Gives the views and labels.
            items: ``distilled.items()``, float32 (items, mels, frames).
            schedule: Gives the batch and the rates; may be longer or shorter than the set's own.
            seed: Of the order of the views.

        Returns:
            The next state, and the mean loss of the batch before the update.

        Raises:
            TrainingError: The loss is not finite, or the step could not be computed.
        """
        indices = batch_indices(len(distilled.recipes), schedule.batch, seed, state.done)
        rate = learning_rate(schedule, state.done)
        feeds = {
            **state.values,
            ITEMS: render(items, distilled.recipes, indices),
            LABELS: distilled.labels_of(indices),
            **scalars(schedule.optimiser, state.done + 1, rate, schedule.weight_decay),
        }
        outputs = dict(zip(self._outputs, compute(self._session, self._outputs, feeds), strict=True))
        loss = float(outputs[LOSS])
        if not isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} in step {state.done + 1} of {schedule.steps}",
                "the kit's learning rate does not suit its student: distil again with a smaller one",
            )
        return TrainingState(state.done + 1, next_state(outputs)), loss


class ForwardPass:
    """What a student, or a part of one, gives with any weights, in batches of a fixed size."""

    def __init__(self, graph: Graph, model: bytes, threads: int) -> None:
        """Load the file that was written for :meth:`request`; errors as :func:`open_session`."""
        self._session, self._output = open_session(model, threads), graph.output
        self._read = {entry.name for entry in self._session.get_inputs()} - {ITEMS}

    @staticmethod
    def request(graph: Graph) -> Request:
        """What :func:`edgeser_export.stepwriter.write_in_child` is asked for."""
        return Request("forward", graph, {"batch": FORWARD_BATCH})

    def __call__(self, items: NDArray[np.float32], weights: Weights) -> NDArray[np.float32]:
        """The graph's output for ``items``, at least one: float32 (items, ...); errors as :func:`compute`."""
        feeds = {name: weights[name] for name in self._read}
        rows = np.arange(-(-len(items) // FORWARD_BATCH) * FORWARD_BATCH) % len(items)
        batches = [rows[start : start + FORWARD_BATCH] for start in range(0, len(rows), FORWARD_BATCH)]
        found = [compute(self._session, [self._output], {**feeds, ITEMS: items[batch]})[0] for batch in batches]
        return np.concatenate(found)[: len(items)]


def running_statistics(
    model: bytes, threads: int, graph: Graph, parameters: Weights, distilled: DistilledSet, batch: int = 0
) -> dict[str, NDArray[np.float32]]:
    """Means and variances of the batch normalisations over all views, each batch counted once.

    Args:
        model: The ONNX file that computes the statistics of a batch.
        threads: At least 1.
        graph: The student.
        parameters: Its trained parameters.
        distilled: Gives the views.
        batch: Of the file; 0 for the set's own.

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
        given = {**feeds, ITEMS: render(items, distilled.recipes, indices)}
        for name, value in zip(names, compute(session, names, given), strict=True):
            sums[name] += value
    return {name: (total / len(batches)).astype(np.float32) for name, total in sums.items()}
