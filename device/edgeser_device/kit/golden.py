"""Golden values: what a kit's own first views, outputs and losses must be, computed where the kit was packed.

A board that renders other views, or whose first losses differ, would train another student without a word. The check
runs before every training and stops it. Its steps are the first ones of the kit's own schedule, so that a training by
that schedule goes on from them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeser_device.data.stored import StoredSet, first_views
from edgeser_device.errors import KitDamaged, TrainingError
from edgeser_device.kit.archive import read_arrays, write_arrays
from edgeser_device.train.trainer import Checkpoint, TrainingSession, begin, make_steps
from edgeser_export.graph.op_graph import Graph, Weights
from edgeser_export.graph.reference import run_reference
from edgeser_export.utilities.files import sha256
from edgeser_export.utilities.progress import Advance, ignore_progress

VIEWS = 64
"""Views whose bytes are compared."""
ITEMS = 2
"""Items whose outputs are compared; the reference computes them one by one in plain numpy."""
STEPS = 3
"""Training steps whose losses are compared."""
SEED = 0
LOGIT_TOLERANCE = 1e-4
"""The reference computes in float64: what is left are the orders in which BLAS libraries add."""
LOSS_TOLERANCE = 5e-3
"""A share of the largest loss, or of 1. AdamW divides by the gradient's size, so that a gradient near zero can change
sign where sums are added in another order. How far real boards differ has not been measured; the bound is a guess
that leaves room for that and for nothing larger, such as other views, labels, rates or initial weights."""


@dataclass(frozen=True)
class Golden:
    """Expected values.

    Attributes:
        views: SHA-256 of the first views, float32 little endian, uint8 (32,).
        logits: Outputs of the untrained student for the first views, float32 (items, classes).
        losses: Losses of the first training steps, float32 (steps,).
    """

    views: NDArray[np.uint8]
    logits: NDArray[np.float32]
    losses: NDArray[np.float32]

    def to_bytes(self) -> bytes:
        """Return the values as an npz file."""
        return write_arrays({"views": self.views, "logits": self.logits, "losses": self.losses})

    @classmethod
    def from_bytes(cls, data: bytes) -> Golden:
        """The inverse of :meth:`to_bytes`.

        Raises:
            KitDamaged: Missing or malformed arrays.
        """
        arrays = read_arrays(data)
        expected = {"views": (np.uint8, 1), "logits": (np.float32, 2), "losses": (np.float32, 1)}
        for name, (dtype, axes) in expected.items():
            if name not in arrays or arrays[name].dtype != dtype or arrays[name].ndim != axes or not arrays[name].size:
                raise KitDamaged(f"the golden values lack {name!r}", "pack the kit again")
        return cls(**{name: arrays[name] for name in expected})


def views_digest(distilled: StoredSet) -> NDArray[np.uint8]:
    """SHA-256 of the first rendered views, uint8 (32,)."""
    rendered = first_views(distilled, VIEWS).astype("<f4")
    return np.frombuffer(sha256(rendered.tobytes()).digest(), np.uint8)


def first_logits(graph: Graph, weights: Weights, distilled: StoredSet, count: int = ITEMS) -> NDArray[np.float32]:
    """Outputs of the untrained student in evaluation for the first views, float32 (count, classes)."""
    return run_reference(graph, weights, first_views(distilled, count)).astype(np.float32)


def compute_golden(session: TrainingSession, graph: Graph, weights: Weights, distilled: StoredSet) -> Golden:
    """The golden values of a kit, computed on this machine."""
    steps = _first_steps(session, Checkpoint(begin(graph, weights, distilled.schedule.optimiser)), distilled, STEPS)
    losses = np.array([made.loss for made in steps], np.float32)
    return Golden(views_digest(distilled), first_logits(graph, weights, distilled), losses)


def _first_steps(session: TrainingSession, start: Checkpoint, distilled: StoredSet, count: int) -> Iterator[Checkpoint]:
    given = distilled, distilled.items()
    return make_steps(session, start, lambda _: given, distilled.schedule, count)


HINT = "run edgeser doctor; if the versions are good, pack the kit again and report the difference"


def check_inference(golden: Golden, graph: Graph, weights: Weights, distilled: StoredSet) -> None:
    """Compare what numpy computes, views and outputs; TrainingError where they differ."""
    if not np.array_equal(views_digest(distilled), golden.views):
        raise TrainingError("golden check: this machine renders other views than the one that packed the kit", HINT)
    found = first_logits(graph, weights, distilled, len(golden.logits))
    _compare("outputs", found, golden.logits, LOGIT_TOLERANCE)


def check_losses(
    golden: Golden,
    session: TrainingSession,
    distilled: StoredSet,
    start: Checkpoint,
    advance: Advance = ignore_progress,
) -> Checkpoint:
    """Make the first steps of the set's own schedule and compare their losses.

    Args:
        golden: The expected losses.
        session: The step, for the set's own batch.
        distilled: The set.
        start: The student's initial weights, seed ``SEED``.
        advance: Told the steps done.

    Returns:
        What a training by that schedule goes on from.

    Raises:
        TrainingError: The losses differ.
    """
    losses = []
    for start in _first_steps(session, start, distilled, len(golden.losses)):  # noqa: B020  the last one is returned
        losses.append(start.loss)
        advance(start.state.done, f"loss {start.loss:.3f}")
    _compare("losses", np.array(losses, np.float32), golden.losses, LOSS_TOLERANCE)
    return start


def _compare(what: str, found: NDArray[np.float32], expected: NDArray[np.float32], tolerance: float) -> None:
    if found.shape != expected.shape:
        raise TrainingError(f"golden check: first {what} of shape {found.shape}, not {expected.shape}", HINT)
    worst = float(np.abs(found - expected).max())
    if not worst <= tolerance * max(1.0, float(np.abs(expected).max())):
        raise TrainingError(f"golden check: the first {what} differ by {worst:.3g} from the kit's", HINT)
