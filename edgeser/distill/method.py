"""A method begins with a state, and may improve it one iteration after the other.

A method sees an ``Assignment`` and keeps everything it learns in a ``State`` of plain arrays; its ``items`` are what is
shipped. Both functions are pure: the random numbers of an iteration depend on the seed and its number only, so a
resumed run ends with the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeser.config.settings import Settings
from edgeser.models.experts import Ensemble, Task, Trajectory
from edgeser.representation.base import Representation
from edgeser_device.data.generated import class_counts
from edgeser_device.data.schedule import Schedule
from edgeser_export.graph.op_graph import Weights

State: TypeAlias = Mapping[str, NDArray[Any]]
"""Always ``items``, float32 (items x formations, rows, columns), unless the method's row makes them from the state; a
method adds what it needs to go on.

Names that begin with ``loop.`` or ``best.`` are the loop's own in a checkpoint."""


@dataclass(frozen=True)
class Assignment:
    """Everything that a method works on.

    Attributes:
        task: The training clips, their labels and the student.
        names: The emotions in the order of the classes.
        settings: Settings with everything decided.
        method: The row of the method.
        init: The student's fixed initialisation.
        ensemble: The experts that label.
        trajectories: Experts with all snapshots; empty unless the method asks for them.
    """

    task: Task
    names: tuple[str, ...]
    settings: Settings
    method: Method
    init: Weights
    ensemble: Ensemble
    trajectories: tuple[Trajectory, ...] = ()

    @property
    def representation(self) -> Representation:
        """The representation of clips and items."""
        return self.task.representation

    @property
    def formations(self) -> int:
        """Log-mels that an item will hold; one where that was not decided."""
        return self.settings.samples_per_item or 1

    @property
    def per_class(self) -> int:
        """Log-mels that a method makes of each class: ``ipc`` items, each with its formations."""
        return self.settings.ipc * self.formations

    @property
    def classes(self) -> NDArray[np.int64]:
        """Class of each log-mel: ``per_class`` of the first class, then of the next, or as its clips ask for."""
        counts: list[int] | int = self.settings.ipc
        if self.settings.gan.ratio == "original":
            counts = class_counts(
                self.settings.ipc, np.bincount(self.task.labels, minlength=self.task.classes).tolist()
            )
        if self.task.most_items:
            counts = np.minimum(counts, self.task.most_items).tolist()
        return np.repeat(np.arange(self.task.classes), np.multiply(counts, self.formations))

    def clips_of_class(self, number: int) -> NDArray[np.int64]:
        """Indices of the training clips of a class."""
        return np.flatnonzero(self.task.labels == number)


Begin: TypeAlias = Callable[[Assignment], State]
Improve: TypeAlias = Callable[[Assignment, State, int], tuple[State, Mapping[str, float]]]


@dataclass(frozen=True)
class Method:
    """One row of the table of methods.

    Attributes:
        begin: The state before the first iteration.
        improve: One iteration: state and number to the next state and what to log, with a key ``loss``; None for
            methods whose beginning is all.
        needs_trajectories: Whether experts are trained whose snapshots are matched.
        needs_experts: Whether the method itself asks the label experts; labels may ask them all the same.
        rates: Keys of settings of which lower values help when the method diverges.
        labels: The soft labels of the bank's views, float32 (views, classes), of a method that learns them; None, or a
            function that gives None, where the settings decide.
        schedule: The training schedule of a method that learns it; None, or a function that gives None, where the
            settings decide.
        items: The items of a state, float32 (items, rows, columns), of a method whose state holds none.
        files: Further files of the run, by name, of a method whose state is worth keeping.
        fewest_clips: Clips that every class must have.
        stops_itself: Whether it keeps what it had when it diverges; the loop then leaves the height of its loss alone.
        makes_more: Whether it can make more items than there are clips, and in other shares than equal ones.
        usual_start: A row of the table of starts that it takes where none is named, instead of the representation's.
        of_vectors: Whether it exists only for representations without time.
    """

    begin: Begin
    improve: Improve | None = None
    needs_trajectories: bool = False
    needs_experts: bool = False
    rates: tuple[str, ...] = ()
    labels: Callable[[Assignment, State], NDArray[np.float32] | None] | None = None
    schedule: Callable[[Assignment, State], Schedule | None] | None = None
    items: Callable[[Assignment, State], NDArray[np.float32]] | None = None
    files: Callable[[Assignment, State], Mapping[str, bytes]] | None = None
    fewest_clips: int = 1
    stops_itself: bool = False
    makes_more: bool = False
    usual_start: str = ""
    of_vectors: bool = False

    @property
    def has_starts(self) -> bool:
        """Whether items begin as what ``start_from`` says; chosen and generated ones do not."""
        return self.improve is not None and self.items is None

    def takes_clips(self, start_from: str) -> bool:
        """Whether every map begins as a clip of its own, so that there cannot be more of them."""
        return self.improve is None or start_from == "real"


def real_items(assignment: Assignment, chosen: NDArray[np.int64]) -> State:
    """A state that holds the chosen training clips."""
    return {"items": assignment.task.maps[chosen]}
