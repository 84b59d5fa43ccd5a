"""Shadow runs: the whole distillation on halves of the training clips, and what an attacker sees of each.

    attack_shadow(plan, 3)             # trains, distils, and keeps what it saw as plan.folder/03/*.safetensors
    seen = observations(plan, 16)      # by set and threat model

A shadow does what the run did, with the same settings on half of the clips: as many items, twice the share, so that
more is given away rather than less. All sets of a shadow share its label experts. What is done is kept piece by piece
(an expert, the method's checkpoint, a set), so an interrupted shadow goes on and ends with the same bits. Early
stops choose on dev speakers and are left out; the level that clips are normalised by is that of all clips.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeser.config.settings import Settings
from edgeser.config.values import changed
from edgeser.distill.budget import with_start
from edgeser.distill.expert_jobs import expert_path, needed_experts, train_and_save
from edgeser.distill.label_bank import assemble, build_set
from edgeser.distill.loop import run_method
from edgeser.distill.method import Assignment, Method
from edgeser.distill.methods.coresets import random_choice
from edgeser.distill.pipeline import with_experts
from edgeser.distill.registry import as_many_as_clips
from edgeser.distill.starts import smooth_noise
from edgeser.errors import AuditError, RunError
from edgeser.models.experts import Task, load_trajectory
from edgeser.models.network import infer
from edgeser.models.training import train_on_set
from edgeser.privacy.copies import Bands, pattern_distances
from edgeser.privacy.membership import SPLIT, WHOLE_IN, WHOLE_OUT, Observations
from edgeser.privacy.release import Released, release
from edgeser.run import Run, safetensors_bytes
from edgeser_device.data.stored import StoredSet
from edgeser_export.graph.op_graph import Graph, Weights
from edgeser_export.utilities.files import write_bytes
from edgeser_export.utilities.progress import ignore_progress

STUDENTS = 1
"""Students that are trained on each set, the first as a board does it: a kit determines it, so its owner has it too.
More of them, with other orders of the views, cost as much again each."""
SHIFTS = (-8, 0, 8)
"""Frames by which a clip is shifted when a student is asked about it; the answers are averaged."""
FROM = "from_"
"""Beginning of the names of sets of the run's method with another start."""


@dataclass(frozen=True)
class ShadowPlan:
    """The settings and clips that all shadows of an audit share.

    Attributes:
        folder: The folder that they are kept in.
        task: All training clips, with their speakers.
        names: The emotions.
        settings: Settings of the run, with everything decided.
        method: The row of the run's method.
        starts: Starts of items in the sets beside the run's own.
    """

    folder: Path
    task: Task
    names: tuple[str, ...]
    settings: Settings
    method: Method
    starts: tuple[str, ...] = ()

    @property
    def sets(self) -> tuple[str, ...]:
        """The sets that every shadow makes."""
        return (*MAKERS, *(FROM + start for start in self.starts))

    def half(self, number: int) -> Half:
        """The clips of a shadow."""
        return draw_half(self.task.labels, speaker_numbers(self.task.speakers), self.settings.seed, number)

    def kept(self, number: int, name: str) -> Path:
        """The file of what was seen of a set of a shadow."""
        return self.folder / f"{number:02d}" / f"{name}.safetensors"

    def missing(self, shadows: int) -> list[int]:
        """The shadows of which something is still to be done."""
        return [number for number in range(shadows) if not all(self.kept(number, name).is_file() for name in self.sets)]

    def require_enough(self, shadows: int) -> None:
        """Check that every half has enough clips of every class.

        Raises:
            AuditError: One has not.
        """
        taken = self.settings.samples_per_item if self.method.takes_clips(self.settings.start) else 1
        wanted = max(self.settings.ipc * taken, self.method.fewest_clips)
        for number in range(shadows):
            counts = np.bincount(self.task.labels[self.half(number).chosen], minlength=self.task.classes)
            if counts.min() < wanted:
                raise AuditError(
                    f"half of the clips of {self.names[int(counts.argmin())]!r} are {counts.min()}, "
                    f"fewer than the {wanted} that the run's method takes of a class",
                    "audit a run of a smaller --ipc, or use --shadows 0 for everything but membership",
                )


@dataclass(frozen=True)
class Made:
    """A set of a shadow, and the places of the clips that it stores among the shadow's own, if it does."""

    distilled: StoredSet
    stored: NDArray[np.int64]


Maker: TypeAlias = Callable[[Run, Assignment, int], Made]
"""(where its checkpoint lies, the shadow's experts, number) to a set."""
NOTHING = np.zeros(0, dtype=np.int64)


def make_distilled(run: Run, assignment: Assignment, _number: int) -> Made:
    """The set that the run's method makes of the half."""
    state = run_method(run, assignment, ignore_progress)
    return Made(assemble(assignment, state), NOTHING)


def make_random_bank(_run: Run, assignment: Assignment, number: int) -> Made:
    """Random clips of the half, labelled by its experts."""
    plain = reference(assignment, seed=number)
    chosen = random_choice(plain)
    return Made(build_set(plain, assignment.task.maps[chosen]), chosen)


def make_noise(_run: Run, assignment: Assignment, number: int) -> Made:
    """Noise with hard labels: nothing in it comes from a recording."""
    without = reference(assignment, seed=number, labels="hard")
    return Made(build_set(without, noise_items(without)), NOTHING)


MAKERS: Mapping[str, Maker] = MappingProxyType(
    {"distilled": make_distilled, "random_bank": make_random_bank, "noise": make_noise}
)
"""The sets of every shadow."""
BESIDE = ("random_bank", "noise")
"""Those of them that the run's method does not make."""


WHOLE = {"gan.ratio": "balanced", "samples_per_item": 1}
"""The settings of whole log-mels, as many of each class."""


def reference(assignment: Assignment, **changes: Any) -> Assignment:
    """The assignment of a set beside the run's: whole log-mels, as many of each class; ``changes`` are of settings."""
    return replace(assignment, settings=changed(assignment.settings, {**WHOLE, **changes}))


def started(assignment: Assignment, start: str) -> Assignment:
    """The assignment with items that begin as ``start``; where each log-mel takes a clip, no more than there are."""
    settings = with_start(assignment.settings, start)
    if start != assignment.settings.start and assignment.method.takes_clips(start):
        fewer = as_many_as_clips(settings.ipc, settings.samples_per_item, assignment.task.fewest_clips)
        settings = replace(settings, samples_per_item=fewer)
    return replace(assignment, settings=settings)


def noise_items(assignment: Assignment) -> NDArray[np.float32]:
    """Smooth noise of mean 0 and spread 1, as many items as the assignment's, (items, mels, frames)."""
    random = np.random.default_rng([assignment.settings.seed, 0xAD17])
    shape = assignment.task.maps.shape[1:]
    return np.stack([smooth_noise(random, *shape) for _ in assignment.classes]).astype(np.float32)


def attack_shadow(plan: ShadowPlan, number: int) -> int:
    """Do what is missing of a shadow, and keep what an attacker sees; its number."""
    half = plan.half(number)
    chosen = np.flatnonzero(half.chosen)
    settings = replace(plan.settings, check_every=0)
    task = plan.task.of(np.asarray(chosen))
    run = Run(plan.folder / f"{number:02d}")
    assignment = _with_experts(run, plan, _learnt(run, plan, task, settings), settings)
    for name in plan.sets:
        path = plan.kept(number, name)
        if path.is_file():
            continue
        own = Run(run.folder / name)
        own.folder.mkdir(exist_ok=True)
        beside = name in BESIDE  # sets that hold clips or noise are made of the half itself
        made = _make(name, own, replace(assignment, task=task) if beside else assignment, number)
        apart, sure = look_at(made.distilled, task.graph, assignment.init, plan.task)
        stored = np.zeros(len(plan.task.clips), dtype=np.float32)
        stored[chosen[made.stored]] = 1
        write_bytes(path, safetensors_bytes({"patterns": apart, "sure": sure, "stored": stored}))
    return number


def _learnt(run: Run, plan: ShadowPlan, task: Task, settings: Settings) -> Task:
    """What a shadow learns of its half; with ``--privacy`` drawn clips, of half as many clips and speakers at least."""
    if settings.privacy == "none":
        return task
    path = run.folder / "released.safetensors"
    if not path.is_file():
        run.folder.mkdir(parents=True, exist_ok=True)
        asked = settings.release
        halved = {"min_clips": -(-asked.min_clips // 2), "min_speakers": -(-asked.min_speakers // 2)}
        own = changed(settings, {f"release.{key}": value for key, value in halved.items()})
        release(task, plan.names, own).save(path)
    return Released.load(path).task(task, settings.seed)


def look_at(
    distilled: StoredSet, graph: Graph, init: Weights, task: Task
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The observations of an attacker about a set.

    Args:
        distilled: The set.
        graph: The student.
        init: The kit's initialisation.
        task: The clips that he asks about.

    Returns:
        Distance of each clip's patterns to those of the nearest item of its class, (clips,); how sure each student is
        of its class, log odds averaged over ``SHIFTS``, (students, clips). Float32.
    """
    clips = task.maps
    apart = pattern_distances(clips, distilled.items(), Bands.of(clips))
    same = task.labels[:, None] == distilled.item_classes().astype(np.int64)[None]
    distances = np.where(same, apart, np.inf).min(1)
    students = [train_on_set(graph, init, distilled, seed) for seed in range(STUDENTS)]
    sure = np.stack([log_odds(graph, student, task) for student in students])
    return distances.astype(np.float32), sure


def log_odds(graph: Graph, student: Weights, task: Task) -> NDArray[np.float32]:
    """A student's confidence in each clip: log p / (1 - p) of its class, averaged over ``SHIFTS``, float32 (clips,)."""
    total = np.zeros(len(task.clips))
    right = np.arange(len(task.clips)), task.labels
    for shift in SHIFTS:
        logits = infer(graph, student, np.roll(task.clips, shift, axis=3)).astype(np.float64)
        others = logits.copy()
        others[right] = -np.inf
        top = others.max(1)
        total += logits[right] - top - np.log(np.exp(others - top[:, None]).sum(1))
    return (total / len(SHIFTS)).astype(np.float32)


THREATS: Mapping[str, str] = MappingProxyType(
    {
        "set": "the attacker has the items and the class of each",
        "set_and_labels": "he has the kit: items, views with their soft labels, schedule, initialisation",
        "model": "he has a model that a board trained from the kit, and its probabilities",
    }
)
"""The threat models, in words."""


def observations(plan: ShadowPlan, shadows: int) -> dict[str, dict[str, Observations]]:
    """The observations in all shadows, by set and threat model; ``real_subset`` is ``random_bank`` with another truth.

    Raises:
        RunError: A file is damaged.
    """
    halves = [plan.half(number) for number in range(shadows)]
    speakers = speaker_numbers(plan.task.speakers)
    standing = np.stack([half.standing for half in halves])
    found = {}
    for name in plan.sets:
        files = [_read(plan.kept(number, name)) for number in range(shadows)]
        near = np.stack([-file["patterns"] for file in files])
        sure = np.stack([file["sure"] for file in files])
        seen = {"set": (near,), "set_and_labels": (near, sure.mean(1)), "model": (sure[:, 0],)}
        truths = {name: np.stack([half.chosen for half in halves])}
        if name == "random_bank":
            truths["real_subset"] = np.stack([file["stored"] for file in files]).astype(bool)
        for truth, members in truths.items():
            found[truth] = {
                threat: Observations(np.stack(statistics).astype(np.float64), members, speakers, standing)
                for threat, statistics in seen.items()
            }
    return found


def _make(name: str, run: Run, assignment: Assignment, number: int) -> Made:
    """The set of a name: a row of ``MAKERS``, or the run's method with another start."""
    if name in MAKERS:
        return MAKERS[name](run, assignment, number)
    return make_distilled(run, started(assignment, name.removeprefix(FROM)), number)


def _with_experts(run: Run, plan: ShadowPlan, task: Task, settings: Settings) -> Assignment:
    jobs = needed_experts(plan.method, settings, task)
    run.trajectories.mkdir(parents=True, exist_ok=True)
    for name, job in jobs.items():
        if not expert_path(run, name).is_file():
            train_and_save(task, job, expert_path(run, name))
    trained = {name: load_trajectory(expert_path(run, name)) for name in jobs}
    return with_experts(task, plan.names, plan.method, settings, trained)


def _read(path: Path) -> dict[str, NDArray[np.float32]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        found = load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path} cannot be read: {error}", "remove it and run audit again with --resume") from error
    if set(found) != {"patterns", "sure", "stored"}:
        raise RunError(f"{path} is no file of an audit", "remove it and run audit again with --resume")
    return found


FEWEST_SPEAKERS = 4
"""One in, one out, and two halves: with fewer speakers no interval over speakers means anything."""


@dataclass(frozen=True)
class Half:
    """The clips of a shadow.

    Attributes:
        chosen: bool (clips,).
        standing: The part of each speaker's clips that it has, int64 (speakers,), by name: see ``membership``.
    """

    chosen: NDArray[np.bool_]
    standing: NDArray[np.int64]


def speaker_numbers(speakers: tuple[str, ...]) -> NDArray[np.int64]:
    """The place of each clip's speaker in alphabetical order, int64 (clips,).

    Raises:
        AuditError: There are too few speakers for an interval over them.
    """
    names, numbers = np.unique(np.array(speakers), return_inverse=True)
    if len(names) < FEWEST_SPEAKERS:
        count = f"{len(names)} training speaker{'s' if len(names) > 1 else ''}"
        raise AuditError(
            f"the run has {count}, too few for an interval: clips of one speaker are alike",
            f"audit a run whose corpus and --split leave at least {FEWEST_SPEAKERS} speakers for training",
        )
    return np.asarray(numbers, dtype=np.int64)


def draw_half(labels: NDArray[np.int64], speakers: NDArray[np.int64], seed: int, number: int) -> Half:
    """The half of shadow ``number``; an odd number has what the even one before it has not.

    Args:
        labels: Class of each clip, (clips,).
        speakers: Speaker of each clip, (clips,), from 0.
        seed: Seed of the run.
        number: Number of the shadow, from 0.
    """
    random = np.random.default_rng([seed, number // 2, 0x4A1F])
    count = int(speakers.max()) + 1
    order = random.permutation(count)
    quarter = max(1, count // 4)
    standing = np.full(count, SPLIT)
    standing[order[:quarter]], standing[order[quarter : 2 * quarter]] = WHOLE_IN, WHOLE_OUT
    chosen = standing[speakers] == WHOLE_IN
    for speaker in np.flatnonzero(standing == SPLIT):
        for label in np.unique(labels[speakers == speaker]):
            own = random.permutation(np.flatnonzero((speakers == speaker) & (labels == label)))
            chosen[own[: (len(own) + int(random.integers(2))) // 2]] = True  # an odd one is in or out by lot
    if number % 2:
        swapped = np.where(standing == WHOLE_IN, WHOLE_OUT, np.where(standing == WHOLE_OUT, WHOLE_IN, SPLIT))
        return Half(~chosen, swapped)
    return Half(chosen, standing)
