"""The rows of an evaluation: trainings on the distilled set, on all real clips, and on baselines, one function a row.

    dev, test = measure("random_bank", bench, bench.task.graph, bench.assignment.init, seed=0)

Every row trains the same student from the same start; a seed varies the order of training and, for baselines, the
choice of items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from edgeser.config.settings import SETTINGS, Settings
from edgeser.config.values import changed, usual_of
from edgeser.distill.label_bank import build_set
from edgeser.distill.method import Assignment
from edgeser.distill.methods.coresets import random_items
from edgeser.evaluation.scoring import Clips, Score, average_by_clip, probabilities, score, score_of
from edgeser.models.experts import Ensemble, Task
from edgeser.models.network import as_input, to_tensors
from edgeser.models.training import Arrays, train_on_clips, train_on_set, with_statistics
from edgeser_device.data.generated import Drawing, Drawn, Points
from edgeser_device.data.schedule import Schedule, statistics_batches
from edgeser_device.data.stored import StoredSet
from edgeser_device.data.views import render
from edgeser_export.graph.op_graph import Graph, Weights

REAL_CLIPS = Schedule(steps=1000, batch=32, peak_rate=1e-2, weight_decay=0.1)
"""The schedule of students on real log-mels, whatever the distilled set's own rates are; the steps are the student's.
Rate, decay and augmentation were chosen on the dev speakers of RAVDESS and EMO-DB, one recipe for both."""
BEST_STEPS = 2500
"""Steps of full data at its best: more gain nothing on the dev speakers of RAVDESS."""
FEWEST_VIEWS = 64
"""Views for each item of the baseline ``random_bank``, also where the distilled set has fewer."""
SAME_BYTES = 0.02
"""Banks whose sizes differ by no more than this share count as equally large: headers and rounding make so much."""


@dataclass(frozen=True)
class Bench:
    """Everything that rows train on and are scored with.

    Attributes:
        assignment: Experts and initialisation, as the method had them.
        distilled: The run's set.
        dev: Clips of the dev speakers.
        test: Clips of the test speakers.
        generator: Files of the generator that is shipped instead of the set, by name; empty where the set is.
    """

    assignment: Assignment
    distilled: StoredSet
    dev: Clips
    test: Clips
    generator: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def task(self) -> Task:
        """The real clips."""
        return self.assignment.task

    def shipped(self, seed: int) -> StoredSet:
        """The set that a board trains on: the run's, or one that it draws with a seed from the generator."""
        probe = self.distilled.log_mels
        if not self.generator or probe is None:
            return self.distilled
        return Drawn(Points(self.generator, threads=1), probe, Drawing(), seed)(0)[0]

    def with_steps(self, steps: int) -> Bench:
        """The same bench for students that are trained for ``steps`` steps, on a schedule of that length."""
        settings = replace(self.assignment.settings, steps=steps)
        schedule = replace(self.distilled.schedule, steps=steps)
        return replace(
            self,
            assignment=replace(self.assignment, settings=settings),
            distilled=replace(self.distilled, schedule=schedule),
        )


@dataclass(frozen=True)
class BankSize:
    """The size of a label bank over real items.

    Attributes:
        ipc: Items per class.
        views: Views for each item.
    """

    ipc: int
    views: int


Row: TypeAlias = Callable[[Bench, Graph, Weights, int], Arrays]
"""(bench, student, its start, seed) to trained weights."""


def train_distilled(bench: Bench, graph: Graph, start: Weights, seed: int) -> Arrays:
    """Train on the views of the distilled set; where a generator is shipped, of items that are drawn from it."""
    return train_on_set(graph, start, bench.shipped(seed), seed)


def train_full(bench: Bench, graph: Graph, start: Weights, seed: int) -> Arrays:
    """Train on all real clips with hard labels, for as many steps."""
    everything = np.arange(len(bench.task.clips))
    return _train_on_real(bench, graph, start, everything, bench.task.hard_labels, seed)


def train_full_best(bench: Bench, graph: Graph, start: Weights, seed: int) -> Arrays:
    """Train on all real clips with hard labels, for as many steps as help."""
    return train_full(bench.with_steps(max(BEST_STEPS, bench.assignment.settings.steps)), graph, start, seed)


def train_full_soft(bench: Bench, graph: Graph, start: Weights, seed: int) -> Arrays:
    """Train on all real clips with a soft label of the experts each: knowledge distillation (arXiv 1503.02531)."""
    everything = np.arange(len(bench.task.clips))
    return _train_on_real(bench, graph, start, everything, _soft_labels(bench, everything), seed)


def train_random(bench: Bench, graph: Graph, start: Weights, seed: int) -> Arrays:
    """Train on random real items with hard labels, freshly augmented."""
    chosen = random_choice(bench, seed)
    return _train_on_real(bench, graph, start, chosen, bench.task.hard_labels[chosen], seed)


def train_random_soft(bench: Bench, graph: Graph, start: Weights, seed: int) -> Arrays:
    """Train on random real items with a soft label of the experts each, freshly augmented."""
    chosen = random_choice(bench, seed)
    return _train_on_real(bench, graph, start, chosen, _soft_labels(bench, chosen), seed)


def train_random_bank(bench: Bench, graph: Graph, start: Weights, seed: int) -> Arrays:
    """Train on a label bank over random real items, as many as the distilled set has."""
    return train_on_set(graph, start, random_bank(bench, same_number(bench), seed), seed)


def train_random_bank_bytes(bench: Bench, graph: Graph, start: Weights, seed: int) -> Arrays:
    """Train on a label bank over random real items, as large as the distilled set in bytes."""
    return train_on_set(graph, start, random_bank(bench, same_bytes(bench), seed), seed)


ROWS: Mapping[str, Row] = MappingProxyType(
    {
        "distilled": train_distilled,
        "full": train_full,
        "full_best": train_full_best,
        "full_soft": train_full_soft,
        "random": train_random,
        "random_soft": train_random_soft,
        "random_bank": train_random_bank,
        "random_bank_bytes": train_random_bank_bytes,
    }
)
BASELINES = ("random", "random_soft", "random_bank", "random_bank_bytes")


def measure(row: str, bench: Bench, graph: Graph, start: Weights, seed: int) -> tuple[Score, Score]:
    """Train one row with one seed; its scores on dev and test speakers."""
    weights = ROWS[row](bench, graph, start, seed)
    return score(graph, weights, bench.dev), score(graph, weights, bench.test)


def same_number(bench: Bench) -> BankSize:
    """The size with as many items as the distilled set has, and as many views of each, or ``FEWEST_VIEWS``."""
    own = bench.assignment.settings
    return BankSize(min(own.ipc, bench.task.fewest_clips), max(FEWEST_VIEWS, own.views))


def same_bytes(bench: Bench) -> BankSize:
    """The largest bank that takes no more bytes than the distilled set.

    It is :func:`same_number` where that one is as large within ``SAME_BYTES``. Otherwise it has as many items of
    ``FEWEST_VIEWS`` views as fit, and what is left goes into more views; where not even one item a class fits with so
    many views, it has fewer. One item a class with one view is the least, however small the distilled set is.
    """
    room = len(bench.distilled.to_bytes())
    equal = same_number(bench)
    if abs(bank_bytes(bench, equal) / room - 1) <= SAME_BYTES:
        return equal
    ipc = _largest(bench.task.fewest_clips, lambda ipc: bank_bytes(bench, BankSize(ipc, FEWEST_VIEWS)) <= room)
    most_views = int(SETTINGS["views"].high)
    return BankSize(ipc, _largest(most_views, lambda views: bank_bytes(bench, BankSize(ipc, views)) <= room))


BANKS: Mapping[str, Callable[[Bench], BankSize]] = MappingProxyType(
    {"random_bank": same_number, "random_bank_bytes": same_bytes}
)
"""The baselines that are label banks, and how large each is."""


def bank_bytes(bench: Bench, size: BankSize) -> int:
    """Bytes of a label bank over real items; what is stored in it does not matter."""
    assignment = _bank_assignment(bench, size, "hard", seed=0)
    blank = np.zeros((size.ipc * bench.task.classes, *bench.task.maps.shape[1:]), dtype=np.float32)
    return len(build_set(assignment, blank).to_bytes())


def random_bank(bench: Bench, size: BankSize, seed: int) -> StoredSet:
    """A label bank over random real items."""
    assignment = _bank_assignment(bench, size, "bank", seed)
    items = np.asarray(random_items(assignment)["items"], dtype=np.float32)
    return build_set(assignment, items)


def random_choice(bench: Bench, seed: int) -> NDArray[np.int64]:
    """Training clips of a random baseline: as many of each class as the distilled set has."""
    random = np.random.default_rng([seed, 0xC1])
    per_class = bench.assignment.settings.ipc
    of_class = [np.flatnonzero(bench.task.labels == number) for number in range(bench.task.classes)]
    return np.concatenate([random.permutation(indices)[:per_class] for indices in of_class])


def init_score(bench: Bench) -> Score:
    """Score of the fixed initialisation before any training, with running statistics over the set's views."""
    distilled, graph = bench.distilled, bench.task.graph
    items = distilled.items()

    def views() -> Iterator[torch.Tensor]:
        for indices in statistics_batches(len(distilled.recipes), distilled.schedule.batch):
            yield torch.from_numpy(as_input(graph, render(items, distilled.recipes, indices)))

    tensors = to_tensors(bench.assignment.init)
    parameters = {name: tensor for name, tensor in tensors.items() if name in graph.parameters}
    return score(graph, with_statistics(graph, parameters, views()), bench.test)


def ensemble_score(ensemble: Ensemble, clips: Clips) -> Score:
    """Score of the experts together."""
    rows = np.mean([probabilities(ensemble.graph, member, clips.x) for member in ensemble.members], axis=0)
    return score_of(average_by_clip(rows, clips.owners, len(clips.labels)), clips)


def _bank_assignment(bench: Bench, size: BankSize, labels: str, seed: int) -> Assignment:
    own = {"seed": seed, "labels": labels, "ipc": size.ipc, "views": size.views}
    settings = changed(bench.assignment.settings, {**own, "gan.ratio": "balanced", "samples_per_item": 1})
    return replace(bench.assignment, settings=settings)


def _largest(most: int, fits: Callable[[int], bool]) -> int:
    """The largest number from 1 to ``most`` that fits, where smaller ones fit too; 1 if none does."""
    low, high = 1, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def real_schedule(settings: Settings) -> Schedule:
    """The schedule of students on real clips: at the usual rate of the representation, for the student's steps."""
    return replace(REAL_CLIPS, steps=settings.steps, peak_rate=usual_of(settings, "peak_rate"))


def _soft_labels(bench: Bench, chosen: NDArray[np.int64]) -> NDArray[np.float32]:
    temperature = bench.assignment.settings.experts.temperature
    return bench.assignment.ensemble.soft_labels(bench.task.clips[chosen], temperature)


def _train_on_real(
    bench: Bench, graph: Graph, start: Weights, chosen: NDArray[np.int64], labels: NDArray[np.float32], seed: int
) -> Arrays:
    clips = torch.from_numpy(bench.task.clips[chosen])
    schedule = real_schedule(bench.assignment.settings)
    augmentation = bench.task.representation.augmentation
    return train_on_clips(graph, start, clips, torch.from_numpy(labels), schedule, seed, augmentation)
