"""Experts: teachers trained on the real clips, and their trajectories.

    trajectory = train_expert(task, start, TRAJECTORY, seed=0)    # snapshots at the start and after every epoch
    ensemble = Ensemble(graph, (expert_a, expert_b, expert_c))
    labels = ensemble.soft_labels(x, temperature=2.0)

A trajectory is a pure function of the task, the start, the recipe and the seed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgeser.errors import RunError
from edgeser.models.network import as_input, infer, to_arrays
from edgeser.models.training import Arrays, slope_here, slope_nearby, train_on_clips
from edgeser.representation.base import Augmentation, Representation
from edgeser_device.data.schedule import Schedule
from edgeser_export.graph.op_graph import Graph, Weights
from edgeser_export.utilities.files import write_bytes
from edgeser_export.utilities.progress import Advance, ignore_progress

_TRAIN_AGAIN = "remove that file and run distill again with --resume"


@dataclass(frozen=True)
class Task:
    """The training clips that experts and students learn.

    Attributes:
        graph: The student's op graph.
        clips: Normalised training windows as the student reads them, float32 (clips, channels, rows, columns).
        labels: Class of each clip, int64 (clips,).
        classes: Number of classes.
        representation: The representation of the clips, fitted to them.
        speakers: Speaker of each clip; empty where nobody knows.
        weights: Weight of each clip in a loss, float32 (clips,), 1 in the mean; None where all count the same.
        most_items: Items that each class may have; empty where the budget alone decides.
    """

    graph: Graph
    clips: NDArray[np.float32]
    labels: NDArray[np.int64]
    classes: int
    representation: Representation
    speakers: tuple[str, ...] = ()
    weights: NDArray[np.float32] | None = None
    most_items: tuple[int, ...] = ()

    @property
    def maps(self) -> NDArray[np.float32]:
        """The clips as items, float32 (clips, rows, columns)."""
        return self.clips.reshape(len(self.clips), -1, self.clips.shape[3])

    @property
    def hard_labels(self) -> NDArray[np.float32]:
        """One-hot labels, float32 (clips, classes), times the weight of the clip: a loss is linear in its labels."""
        found = np.eye(self.classes, dtype=np.float32)[self.labels]
        return found if self.weights is None else found * self.weights[:, None]

    def of(self, chosen: NDArray[np.int64]) -> Task:
        """The same with some of the clips, by their numbers, int64 (chosen,)."""
        return replace(
            self,
            clips=self.clips[chosen],
            labels=self.labels[chosen],
            speakers=tuple(self.speakers[clip] for clip in chosen) if self.speakers else (),
            weights=None if self.weights is None else self.weights[chosen],
        )

    @property
    def fewest_clips(self) -> int:
        """Clips of the rarest class."""
        return int(np.bincount(self.labels, minlength=self.classes).min())


@dataclass(frozen=True)
class ExpertRecipe:
    """The recipe by which an expert is trained.

    Attributes:
        optimiser: A row of the table of optimisers in training.py.
        epochs: Passes over the clips.
        batch: Clips in one step.
        peak_rate: Largest learning rate.
        weight_decay: Weight decay as the optimiser defines it.
        warm_share: Share of the steps in which the rate rises.
        start_divisor: The first rate is the peak divided by this; 1 with an ``end_divisor`` of 1 keeps it constant.
        end_divisor: The last rate is the first one divided by this.
        augmentation: The widths within which clips are varied.
        flatness: Distance at which a step's gradient is taken (sharpness-aware minimisation); 0 takes it on the spot.
    """

    optimiser: str
    epochs: int
    batch: int = 32
    peak_rate: float = 5e-3
    weight_decay: float = 1e-3
    warm_share: float = 0.3
    start_divisor: float = 25.0
    end_divisor: float = 1e4
    augmentation: Augmentation = field(default_factory=Augmentation)
    flatness: float = 0.0

    def schedule(self, clips: int) -> Schedule:
        """The training schedule over ``clips`` clips."""
        shared = ("optimiser", "batch", "peak_rate", "weight_decay", "warm_share", "start_divisor", "end_divisor")
        own = {name: getattr(self, name) for name in shared}
        return Schedule(steps=self.epochs * steps_per_epoch(clips, self.batch), **own)


def steps_per_epoch(clips: int, batch: int) -> int:
    """Steps in which every clip is seen once; the last batch is filled up."""
    return -(-clips // batch)


@dataclass(frozen=True)
class Trajectory:
    """Snapshots of one expert.

    Attributes:
        snapshots: Parameter name to float32 (1 + epochs, ...): the start, then the state after every epoch.
        final: The last parameters with running statistics over the clips.
    """

    snapshots: Arrays
    final: Arrays

    @property
    def epochs(self) -> int:
        """Number of epochs that the expert was trained."""
        return len(next(iter(self.snapshots.values()))) - 1

    def at(self, epoch: int) -> Arrays:
        """Parameters after ``epoch`` epochs in the order of their names; 0 is the start."""
        return {name: stack[epoch] for name, stack in sorted(self.snapshots.items())}


def train_expert(
    task: Task,
    start: Weights,
    recipe: ExpertRecipe,
    seed: int,
    keep_snapshots: bool = True,
    advance: Advance = ignore_progress,
) -> Trajectory:
    """Train one expert on the real clips with hard labels.

    Args:
        task: The clips and the student.
        start: Initial weights.
        recipe: The recipe of the training.
        seed: Seed of the order and the augmentation.
        keep_snapshots: Label experts need the end only.
        advance: A function that is told after every step.
    """
    per_epoch = steps_per_epoch(len(task.clips), recipe.batch)
    stacks: dict[str, list[NDArray[np.float32]]] = {name: [start[name].copy()] for name in task.graph.parameters}

    def keep(done: int, parameters: dict[str, Tensor]) -> None:
        advance(done, "")
        if keep_snapshots and done % per_epoch == 0:
            for name, array in to_arrays(parameters).items():
                stacks[name].append(array)

    final = train_on_clips(
        task.graph,
        start,
        torch.from_numpy(task.clips),
        torch.from_numpy(task.hard_labels),
        recipe.schedule(len(task.clips)),
        seed,
        recipe.augmentation,
        after=keep,
        slope=slope_nearby(recipe.flatness) if recipe.flatness else slope_here,
    )
    return Trajectory({name: np.stack(stack) for name, stack in stacks.items()}, final)


@dataclass(frozen=True)
class Ensemble:
    """Experts that label views together.

    Attributes:
        graph: Op graph of all experts.
        members: Weights with running statistics of each.
        starts: Weights before training of each; empty where nobody asks.
    """

    graph: Graph
    members: tuple[Weights, ...]
    starts: tuple[Weights, ...] = ()

    def soft_labels(self, x: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
        """Mean of the experts' softmax(logits / temperature), float32 (batch, classes), of items or inputs."""
        x = as_input(self.graph, x)
        total = np.zeros((len(x), self.graph.shapes[self.graph.output][0]), dtype=np.float64)
        for member in self.members:
            total += (torch.from_numpy(infer(self.graph, member, x)) / temperature).softmax(1).numpy()
        return (total / len(self.members)).astype(np.float32)


def save_trajectory(path: Path, trajectory: Trajectory) -> None:
    """Write a trajectory as one safetensors file, whole or not at all."""
    from safetensors.numpy import save

    tensors = {f"snapshots.{name}": stack for name, stack in trajectory.snapshots.items()}
    tensors |= {f"final.{name}": array for name, array in trajectory.final.items()}
    write_bytes(path, save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}))


def load_trajectory(path: Path) -> Trajectory:
    """Read what :func:`save_trajectory` wrote.

    Raises:
        RunError: The file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise RunError(f"the trajectory {path} cannot be read: {error}", _TRAIN_AGAIN) from error
    parts: dict[str, Arrays] = {"snapshots": {}, "final": {}}
    for name, tensor in sorted(tensors.items()):  # safetensors gives another order in every process
        kind, _, weight = name.partition(".")
        if kind not in parts:
            raise RunError(f"the trajectory {path} holds {name!r}, which is no expert's", _TRAIN_AGAIN)
        parts[kind][weight] = tensor
    return Trajectory(parts["snapshots"], parts["final"])
