"""From a corpus to a finished run: features, experts, the method's loop, the label bank, the distilled set.

    run = distill(settings, Path("runs/rav"), Workers(jobs=2), resume=False, warn=print)

Every stage leaves its result in the run, so an interrupted run goes on where it stopped and ends with the same bits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from edgeser import __version__
from edgeser.config.settings import Settings
from edgeser.corpora.corpus import Corpus
from edgeser.corpora.errors import CorpusError
from edgeser.corpora.joined import balance, describe_parts, write_entries
from edgeser.corpora.splits import Split, make_split
from edgeser.distill.budget import in_words, resolve
from edgeser.distill.expert_jobs import label_ensemble, label_jobs, needed_experts, train_experts
from edgeser.distill.label_bank import assemble
from edgeser.distill.loop import dev_check, iterations_done, number_of_checks, run_method
from edgeser.distill.method import Assignment, Method, State
from edgeser.distill.methods.noisy_match import guarantee, require_guarantee
from edgeser.distill.registry import find_method, require_possible
from edgeser.errors import RunError, SettingsError
from edgeser.evaluation.scoring import Clips, score
from edgeser.models.experts import Task, Trajectory
from edgeser.models.students import build
from edgeser.models.training import Arrays, train_on_set
from edgeser.privacy.release import Released, fewer_items, most_items, promise, release
from edgeser.representation import representation_of
from edgeser.representation.base import Features
from edgeser.representation.logmel import extract
from edgeser.run import CORPORA_FILE, Run, only_writer, open_run, require_usable
from edgeser.workers import Stopwatch, Workers, one_thread
from edgeser_device.data.stored import StoredSet
from edgeser_device.frontend import FrontendSpec
from edgeser_export.graph.initial import initial_weights
from edgeser_export.graph.op_graph import Graph, Weights
from edgeser_export.utilities.errors import EdgeserError
from edgeser_export.utilities.files import write_bytes, write_json
from edgeser_export.utilities.progress import note, progress_bar

BOARD_SEED = 0
"""Seed of the order of the views with which a board trains unless it is told otherwise."""

Say: TypeAlias = Callable[[str], None]
"""A function that tells the user something, a line at a time."""


@dataclass(frozen=True)
class Material:
    """Everything that a run works on, read and checked before anything is trained.

    Attributes:
        features: The corpus, its parts and their representation.
        settings: Settings with everything decided.
        method: The row of the method.
        task: The training clips and the student.
    """

    features: Features
    settings: Settings
    method: Method
    task: Task

    @property
    def corpus(self) -> Corpus:
        """The corpus."""
        return self.features.corpus

    @property
    def split(self) -> Split:
        """The parts of the corpus."""
        return self.features.split

    @property
    def graph(self) -> Graph:
        """The student's op graph."""
        return self.task.graph


def prepare(settings: Settings, workers: Workers) -> Material:
    """Read the corpus in its representation, and check that the settings fit.

    Raises:
        CorpusError: The corpus cannot be used; a leaf says why.
        SettingsError: The budget, method or student does not fit.
    """
    require_possible(settings)
    return material_of(representation_of(settings).extract(settings, workers), settings)


def material_of(features: Features, settings: Settings) -> Material:
    """Check that the settings fit a corpus that was read, and decide what they leave open.

    Raises:
        SettingsError: The budget or student does not fit.
    """
    method = find_method(settings.method)
    names, clips = features.corpus.labels, features.train.crops
    graph = build(settings.arch, len(names), settings.width, clips.shape[1:])
    train = features.train
    weights = balance(features.corpus, train.utterances) if features.corpus.parts else None
    task = Task(graph, clips, train.labels, len(names), features.representation, train.speakers, weights)
    decided = resolve(settings, len(task.clips), task.classes, task.fewest_clips)
    fixed = features.representation.pinned(decided)
    require_enough_items(settings, fixed, task, names)
    require_guarantee(fixed)
    most_items(task, names, fixed)
    return Material(features, fixed, method, task)


def refusal(corpus: Corpus, split: str | None, workers: Workers) -> EdgeserError | None:
    """Return why distill refuses a corpus even at one random item a class; None where it accepts it."""
    try:
        features = extract(corpus, make_split(corpus, split or None), FrontendSpec(), workers)
        material_of(features, Settings(corpus.name, split=split or "", method="random", ipc=1))
    except (CorpusError, SettingsError) as error:
        return error
    return None


def left_out(material: Material) -> list[str]:
    """Return what a user must know of how the corpus was read: what was guessed, and what was left out."""
    skipped = Counter(each.reason for each in material.features.corpus.skipped)
    return [
        *(f"note: {remark}" for remark in material.features.corpus.remarks),
        *(f"left out: {count} of the recordings, because {reason}" for reason, count in skipped.items()),
        *(f"left out: {reason}" for _, reason in material.features.unreadable),
    ]


def require_enough_items(asked_for: Settings, settings: Settings, task: Task, names: tuple[str, ...]) -> None:
    """Check that every class has as many training items as the method and the budget ask for.

    Args:
        asked_for: Settings as the user gave them.
        settings: Settings with method and budget decided.
        task: The training clips.
        names: Names of the classes.

    Raises:
        SettingsError: One has fewer.
    """
    method, counts = find_method(settings.method), np.bincount(task.labels, minlength=task.classes)
    rarest = int(counts.argmin())
    if counts[rarest] < method.fewest_clips:
        raise SettingsError(
            f"the class {names[rarest]!r} has {counts[rarest]} training items, "
            f"fewer than the {method.fewest_clips} that --method {settings.method} needs",
            "record more of it, or use --method invert",
        )
    wanted = settings.ipc * (settings.samples_per_item if method.takes_clips(settings.start) else 1)
    if counts[rarest] < wanted and not method.makes_more:
        share = f"--share {asked_for.share:g} asks for ({settings.ipc} a class)"
        asked = f"--ipc {settings.ipc}" if asked_for.ipc else share
        fewer = max(1, int(counts[rarest]) // (wanted // settings.ipc))
        holding = f" with samples_per_item {settings.samples_per_item}" if wanted > settings.ipc else ""
        raise SettingsError(
            f"the class {names[rarest]!r} has {counts[rarest]} training items, fewer than {asked}{holding}",
            "set samples_per_item to 1"
            if holding and counts[rarest] >= settings.ipc
            else f"use --ipc {fewer} or fewer",
        )


def distill(
    settings: Settings, out: Path, workers: Workers, resume: bool, warn: Say, watch: Stopwatch | None = None
) -> Run:
    """Make a run, or go on with an interrupted one.

    Args:
        settings: Settings of the run, as the user gave them.
        out: The run's folder.
        workers: The processes that train experts.
        resume: Whether ``out`` may hold the beginning of this run.
        warn: A function that is told what the budget decided and what was left out.
        watch: Counts the phases; what it found is logged when the run is finished.

    Raises:
        RunError: ``out`` holds something else, a run of other settings or of another corpus, or somebody writes it.
        EdgeserError: A leaf says what does not fit.
    """
    run, watch = Run(out), watch or Stopwatch()
    begun = require_usable(out, settings, resume)  # before the corpus is read, which may take minutes
    if run.is_finished:
        return run
    with watch.phase("features"):
        material = prepare(begun, workers)
    for line in left_out(material):
        warn(line)
    warn(in_words(settings, material.settings))
    with only_writer(open_run(out, material.settings, resume, settings)):
        with watch.phase("features"):
            describe_once(run, material)
            write_entries(material.settings, out / CORPORA_FILE)
            learnt = replace(material, task=released_once(run, material, warn))
        with watch.phase("experts"):
            assignment = assign(run, learnt, workers)
        with watch.phase("experts"):
            workers.release()  # the method computes in this process; the others would keep their memory
        run.save_student(material.graph, assignment.init)
        with one_thread():
            state = learn(run, assignment, material, watch)
            with watch.phase("labels"):
                note("labelling the views")
                distilled = assemble(assignment, state)
            files = assignment.method.files
            for name, data in files(assignment, state).items() if files else ():
                write_bytes(out / name, data)
            if promised(assignment.settings):
                run.log("utility", dev_uar=utility(assignment, distilled, material.features))
        write_bytes(out / "distilled.safetensors", distilled.to_bytes())
        run.log("finished", items=len(distilled), views=len(distilled.recipes), **watch.summary())
    return run


def learn(run: Run, assignment: Assignment, material: Material, watch: Stopwatch) -> State:
    """The method's loop, or the rest of it: the state that is shipped."""
    settings, method = assignment.settings, assignment.method
    total = max(1, settings.iterations if method.improve else 0)
    check = dev_check(assignment, material.features) if number_of_checks(method, settings) else None

    def timed(state: State) -> float:
        with watch.phase("checks"):
            return check(state) if check else 0.0

    with watch.phase("method"), progress_bar(f"distil ({settings.method})", total, iterations_done(run)) as advance:
        return run_method(run, assignment, advance, timed if check else None)


def released_once(run: Run, material: Material, warn: Say = note) -> Task:
    """The task that is learnt: the clips, or with ``--privacy`` clips drawn from what is kept of them.

    What is kept is written once: noise that was drawn twice would hide less.

    Raises:
        SettingsError: A class has too few clips or speakers for it.
    """
    settings, task, names = material.settings, material.task, material.corpus.labels
    if settings.privacy == "none":
        return task
    path = run.folder / "released.safetensors"
    if not path.is_file():
        release(task, names, settings).save(path)
    released = Released.load(path)
    for line in fewer_items(released, names, settings.ipc):
        warn(line)
    return released.task(task, settings.seed)


def label_experts(run: Run, material: Material, workers: Workers) -> dict[str, Trajectory]:
    """The label experts of a run; those that it lacks are trained again, on what it learnt from."""
    learnt = released_once(run, material)
    return train_experts(run, learnt, label_jobs(material.settings, learnt), workers)


def promised(settings: Settings) -> Mapping[str, Any] | None:
    """What differential privacy covers in a run; None where it was not asked for."""
    return promise(settings) or guarantee(settings)


def utility(assignment: Assignment, distilled: StoredSet, features: Features) -> float:
    """UAR on the dev speakers of a student that is trained on the set as a board trains it: what noise leaves."""
    graph = assignment.task.graph
    student = train_on_set(graph, assignment.init, distilled, BOARD_SEED)
    return score(graph, student, Clips.of(features.dev, assignment.task.classes)).uar


def describe_once(run: Run, material: Material) -> None:
    """Write run.json, or check that the corpus is still the one that the interrupted run was begun with.

    Raises:
        RunError: Recordings were added, removed or relabelled since.
    """
    if (run.folder / "run.json").is_file():
        require_same_corpus(run, material)
        return
    write_json(run.folder / "run.json", describe(material))
    run.log("features", clips=len(material.task.clips), unreadable=len(material.features.unreadable))


def require_same_corpus(run: Run, material: Material) -> None:
    """Check that the corpus is now what it was when the run was made.

    What a representation says of itself stands for the contents of the training clips.

    Raises:
        RunError: It is not.
    """
    before, now = run.description(), describe(material)
    words = {"split": "recordings or speakers", "labels": "emotions"}
    words |= dict.fromkeys(material.features.representation.describe(), "recordings") | {"weights": "weights"}
    for key, what in words.items():
        if before.get(key) != now.get(key):
            raise RunError(
                f"the corpus has other {what} than when the run {run.folder} was made",
                "restore the corpus, or distil it again in a new --out",
            )


def assign(run: Run, material: Material, workers: Workers) -> Assignment:
    """Train or reload the experts, and put together what the method works on."""
    settings, task = material.settings, material.task
    trained = train_experts(run, task, needed_experts(material.method, settings, task), workers)
    return with_experts(task, material.corpus.labels, material.method, settings, trained)


def with_experts(
    task: Task, names: tuple[str, ...], method: Method, settings: Settings, trained: dict[str, Trajectory]
) -> Assignment:
    """The assignment of a method, from trained experts by their names."""
    start = initial_weights(task.graph, settings.seed)
    paths = tuple(trajectory for name, trajectory in trained.items() if name.startswith("trajectory"))
    return Assignment(
        task=task,
        names=names,
        settings=settings,
        method=method,
        init=fixed_init(task.graph, start, paths, settings.init_epoch),
        ensemble=label_ensemble(settings, task, trained),
        trajectories=paths,
    )


def fixed_init(graph: Graph, start: Weights, paths: tuple[Trajectory, ...], epoch: int) -> Arrays:
    """The student's fixed initialisation: the first trajectory's snapshot after ``epoch`` epochs, or the start."""
    parameters = paths[0].at(epoch) if epoch else {name: start[name] for name in graph.parameters}
    return {**parameters, **{name: start[name] for name in graph.statistics}}


def describe(material: Material) -> dict[str, Any]:
    """The content of run.json."""
    settings, task = material.settings, material.task
    items = int(np.minimum(settings.ipc, most_items(task, material.corpus.labels, settings)).sum())
    return {
        "edgeser": __version__,
        "corpus": {
            "name": material.corpus.name,
            "folder": str(material.corpus.folder),
            "fingerprint": material.features.fingerprint,
            **material.corpus.card.describe(),
            **describe_parts(material.corpus),
        },
        **({"weights": {part.name: part.weight for part in material.corpus.parts}} if material.corpus.parts else {}),
        "labels": list(material.corpus.labels),
        **material.features.representation.describe(),
        "split": material.split.describe(),
        "student": {
            "architecture": settings.arch,
            "width": settings.width,
            "parameters": task.graph.parameter_count,
            "multiply_accumulates": task.graph.multiply_accumulates,
        },
        "method": settings.method,
        "seed": settings.seed,
        "start": settings.start if material.method.has_starts else None,
        "budget": {
            "ipc": settings.ipc,
            "share": round(items / len(task.clips), 6),
            "items": items,
            "formations": settings.samples_per_item,
            "views": items * settings.samples_per_item * max(1, settings.views // settings.samples_per_item),
            "train_items": len(task.clips),
        },
        "corpus_bytes": material.features.size,
        "privacy": settings.privacy,
        **({"dp": kept} if (kept := promised(settings)) else {}),
        "unreadable": [[str(path), reason] for path, reason in material.features.unreadable],
    }
