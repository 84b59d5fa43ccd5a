"""Checkpoints of a training: one file beside the model folder, whole or absent.

A training that goes on from a checkpoint ends bit for bit where an uninterrupted one ends: the state is complete, and
the batches depend on the seed and the number of the step only.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeser_device.errors import TrainingError
from edgeser_device.trainer import TrainingState
from edgeser_export.files import write_bytes

KEY = "edgeser"
"""Where the safetensors file keeps what is not an array."""


@dataclass(frozen=True)
class Checkpoint:
    """What a training goes on from, and what it must agree with.

    Attributes:
        kit: SHA-256 of the kit.
        seed: Of the order of the views.
        steps: Steps of the whole training.
        threads: Of the training; with another number sums may be added in another order.
        done: Steps that were made.
        seconds: Seconds of training so far.
        first_step_s: Seconds from the start of the program to the end of the first step.
        loss: Of the last step.
        drawing: How points are drawn; empty where the kit holds items.
    """

    kit: str
    seed: int
    steps: int
    threads: int
    done: int
    seconds: float
    first_step_s: float
    loss: float
    drawing: str = ""


def checkpoint_path(model: Path) -> Path:
    """Where the checkpoint of a model folder lies."""
    return model.parent / f"{model.name}.checkpoint"


def save_checkpoint(path: Path, checkpoint: Checkpoint, state: TrainingState) -> None:
    """Write a checkpoint atomically."""
    from safetensors.numpy import save

    write_bytes(path, save(dict(state.values), metadata={KEY: json.dumps(asdict(checkpoint))}))


def load_checkpoint(path: Path) -> tuple[Checkpoint, TrainingState]:
    """The inverse of :func:`save_checkpoint`.

    Raises:
        TrainingError: Not a checkpoint of this version.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        data = path.read_bytes()
        values = load(data)
        header: Any = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        checkpoint = Checkpoint(**json.loads(header["__metadata__"][KEY]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(
            f"the checkpoint {path} cannot be read: {error}", f"remove it and start again: rm {path}"
        ) from error
    return checkpoint, TrainingState(checkpoint.done, values)
