"""From a corpus to a finished run: features, experts, the method's loop, the label bank, the distilled set.

    run = distill(settings, Path("runs/rav"), Workers(jobs=2), resume=False, warn=print)

Every stage leaves its result in the run, so an interrupted run goes on where it stopped and ends with the same bits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from edgeser import __version__
from edgeser.corpora.corpus import Corpus
from edgeser.corpora.errors import CorpusError
from edgeser.corpora.splits import Split, make_split
from edgeser.corpora.table import load_corpus
from edgeser.distill.candidates import BOARD_SEED, Candidate, best_of, candidate, try_candidates
from edgeser.distill.dev_check import dev_check
from edgeser.distill.expert_jobs import label_ensemble, needed_experts, train_experts
from edgeser.distill.guarantee import guarantee, require_guarantee
from edgeser.distill.loop import iterations_done, number_of_checks, run_method
from edgeser.distill.memory import find_memory
from edgeser.distill.method import Assignment, State
from edgeser.distill.shipping import finish as finish
from edgeser.distill.shipping import student_schedule as student_schedule
from edgeser.distill.table import decided, find_method, has_starts, require_start, takes_clips
from edgeser.errors import RunError, SettingsError
from edgeser.experts import Task, Trajectory
from edgeser.features import Features, extract
from edgeser.fingerprint import corpus_fingerprint
from edgeser.labels import LABELS
from edgeser.run import Run, only_writer, open_run, require_usable
from edgeser.scoring import Clips, score
from edgeser.settings import Settings
from edgeser.stopwatch import Stopwatch
from edgeser.students import build, initial_weights
from edgeser.training import Arrays, train_on_set
from edgeser.workers import Workers, one_thread
from edgeser_device.frontend import FrontendSpec
from edgeser_device.progress import note, progress_bar
from edgeser_export.errors import EdgeserError, choice_hint
from edgeser_export.files import write_bytes, write_json
from edgeser_export.graph import Graph, Weights

Say: TypeAlias = Callable[[str], None]
"""Told something that the user must know, a line at a time."""


@dataclass(frozen=True)
class Material:
    """What a run works on, read and checked before anything is trained.

    Attributes:
        corpus: The corpus.
        split: Its parts.
        features: Their log-mels.
        settings: With ``ipc`` decided.
        task: The training clips and the student.
    """

    corpus: Corpus
    split: Split
    features: Features
    settings: Settings
    task: Task

    @property
    def graph(self) -> Graph:
        """The student's op graph."""
        return self.task.graph


def prepare(settings: Settings, workers: Workers) -> Material:
    """Read the corpus, split it, compute features, and check that the settings fit.

    Raises:
        CorpusError: The corpus cannot be used; a leaf says why.
        SettingsError: The budget, method or student does not fit.
    """
    if not find_method(settings.method).makes_more and (settings.ratio, settings.ship) != ("balanced", "items"):
        raise SettingsError(
            f"--method {settings.method} has no generator", "use --method gan, or leave out --ratio and --ship"
        )
    if settings.ship != "items" and settings.formations > 1:
        raise SettingsError(f"--ship {settings.ship} makes whole log-mels", "use --formations 1")
    require_start(settings)
    find_memory(settings.memory)
    if settings.labels not in LABELS:
        raise SettingsError(f"there is no kind of labels {settings.labels!r}", choice_hint(settings.labels, LABELS))
    spec = FrontendSpec()
    for arch, width in ((settings.arch, settings.width), (settings.label_arch, settings.label_width or 1.0)):
        build(arch, 2, width, (1, spec.mels, spec.frames))  # a wrong name shows before hours of reading
    return material_of(load_corpus(settings.corpus, settings.folder or None), settings, workers)


def material_of(corpus: Corpus, settings: Settings, workers: Workers) -> Material:
    """Split a corpus, compute features, and check that the settings fit.

    Raises:
        CorpusError: The corpus cannot be used; a leaf says why.
        SettingsError: The budget or student does not fit.
    """
    spec = FrontendSpec()
    split = make_split(corpus, settings.split or None)
    graph = build(settings.arch, len(corpus.labels), settings.width, (1, spec.mels, spec.frames))
    features = extract(corpus, split, spec, workers)
    train = features.train
    task = Task(graph, train.crops, train.labels, len(corpus.labels), train.speakers, float(features.frontend.std))
    count, classes = len(task.clips), task.classes
    fixed = decided(settings, count, classes, task.fewest_clips)
    require_enough_items(settings, fixed, task, corpus.labels)
    require_free_choice(fixed)
    require_guarantee(fixed)
    return Material(corpus, split, features, fixed, task)


def refusal(corpus: Corpus, split: str | None, workers: Workers) -> EdgeserError | None:
    """Return why distill refuses a corpus even at one random item a class; None where it accepts it."""
    try:
        material_of(corpus, Settings(corpus.name, split=split or "", method="random", ipc=1), workers)
    except (CorpusError, SettingsError) as error:
        return error
    return None


def left_out(material: Material) -> list[str]:
    """Return what a user must know of how the corpus was read: what was guessed, and what was left out."""
    skipped = Counter(each.reason for each in material.corpus.skipped)
    return [
        *(f"note: {remark}" for remark in material.corpus.remarks),
        *(f"left out: {count} of the recordings, because {reason}" for reason, count in skipped.items()),
        *(f"left out: {reason}" for _, reason in material.features.unreadable),
    ]


def require_enough_items(asked_for: Settings, settings: Settings, task: Task, names: tuple[str, ...]) -> None:
    """Check that every class has as many training items as the method and the budget ask for.

    Args:
        asked_for: As the user gave them.
        settings: With method and budget decided.
        task: The training clips.
        names: Of the classes.

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
    wanted = settings.ipc * (settings.formations if takes_clips(settings) else 1)
    if counts[rarest] < wanted and not method.makes_more:
        share = f"--share {asked_for.share:g} asks for ({settings.ipc} a class)"
        asked = f"--ipc {settings.ipc}" if asked_for.ipc else share
        fewer = max(1, int(counts[rarest]) // (wanted // settings.ipc))
        with_formations = f" with --formations {settings.formations}" if wanted > settings.ipc else ""
        raise SettingsError(
            f"the class {names[rarest]!r} has {counts[rarest]} training items, fewer than {asked}{with_formations}",
            "use --formations 1"
            if with_formations and counts[rarest] >= settings.ipc
            else f"use --ipc {fewer} or fewer",
        )


def require_free_choice(settings: Settings) -> None:
    """Check that candidates can have initialisations and views of their own.

    Raises:
        SettingsError: What was learnt belongs to one initialisation and its views.
    """
    reason = ""
    if find_method(settings.method).labels is not None:
        reason = f"--method {settings.method} learns for one initialisation and its views"
    elif settings.ship != "items":
        reason = f"--ship {settings.ship} has no views of its own"
    elif settings.init_epoch:
        reason = "--init-epoch trains one initialisation"
    if settings.candidates > 1 and reason:
        raise SettingsError(f"{reason}, so there are no {settings.candidates} candidates", "use --candidates 1")


def distill(
    settings: Settings, out: Path, workers: Workers, resume: bool, warn: Say, watch: Stopwatch | None = None
) -> Run:
    """Make a run, or go on with an interrupted one.

    Args:
        settings: What to make.
        out: The run's folder.
        workers: Where experts are trained.
        resume: Whether ``out`` may hold the beginning of this run.
        warn: Told what was left out.
        watch: Counts the phases; what it found is logged when the run is finished.

    Raises:
        RunError: ``out`` holds something else, a run of other settings or of another corpus, or somebody writes it.
        EdgeserError: A leaf says what does not fit.
    """
    run, watch = Run(out), watch or Stopwatch()
    require_usable(out, settings, resume)  # before the corpus is read, which may take minutes
    if run.is_finished:
        return run
    with watch.phase("features"):
        material = prepare(settings, workers)
    for line in left_out(material):
        warn(line)
    with only_writer(open_run(out, settings, resume)):
        with watch.phase("features"):
            describe_once(run, material)
        with watch.phase("experts"):
            assignment = assign(run, material, workers)
        with watch.phase("experts"):
            workers.release()  # the method computes in this process; the others would keep their memory
        run.save_student(material.graph, assignment.init)
        with one_thread():
            state = learn(run, assignment, material, watch)
            with watch.phase("labels"):
                chosen = choose(run, assignment, state, material.features)
            run.save_student(material.graph, chosen.init)
            files = find_method(assignment.settings.method).files
            for name, data in files(assignment, state, material.features.frontend).items() if files else ():
                write_bytes(out / name, data)
            if assignment.settings.dp:
                run.log("utility", dev_uar=utility(assignment, chosen, material.features))
        distilled = chosen.distilled
        write_bytes(out / "distilled.safetensors", distilled.to_bytes())
        run.log("finished", items=len(distilled), views=len(distilled.recipes), **watch.summary())
    return run


def learn(run: Run, assignment: Assignment, material: Material, watch: Stopwatch) -> State:
    """The method's loop, or the rest of it: the state that is shipped."""
    settings, method = assignment.settings, find_method(assignment.settings.method)
    total = max(1, settings.iterations if method.improve else 0)
    check = dev_check(assignment, material.features) if number_of_checks(method, settings) else None

    def timed(state: State) -> float:
        with watch.phase("checks"):
            return check(state) if check else 0.0

    with watch.phase("method"), progress_bar(f"distil ({settings.method})", total, iterations_done(run)) as advance:
        return run_method(run, method, assignment, advance, timed if check else None)


def choose(run: Run, assignment: Assignment, state: State, features: Features) -> Candidate:
    """The set that is shipped: the only candidate, or the best on dev speakers; what was tried is kept in the log."""
    count = assignment.settings.candidates
    note(f"labelling the views of {count} candidates" if count > 1 else "labelling the views")
    if count == 1:
        return candidate(assignment, state, features, 0)
    found = {int(event["number"]): float(event["dev_uar"]) for event in run.events("candidate")}
    with progress_bar("candidates", count) as advance:
        advance(len(found), "")
        for number, uar in try_candidates(assignment, state, features, found):
            run.log("candidate", number=number, dev_uar=uar)
            found[number] = uar
            advance(len(found), f"dev UAR {uar:.3f}")
    return candidate(assignment, state, features, best_of(found))


def utility(assignment: Assignment, chosen: Candidate, features: Features) -> float:
    """UAR on the dev speakers of a student that is trained on the set as a board trains it: what noise leaves."""
    graph = assignment.task.graph
    student = train_on_set(graph, chosen.init, chosen.distilled, BOARD_SEED)
    return score(graph, student, Clips.of(features.dev, assignment.task.classes)).uar


def describe_once(run: Run, material: Material) -> None:
    """Write run.json, or check that the corpus is still the one that the interrupted run was begun with.

    Raises:
        RunError: Recordings were added, removed or relabelled since.
    """
    description = describe(material)
    if (run.folder / "run.json").is_file():
        require_same_corpus(run, description)
        return
    write_json(run.folder / "run.json", description)
    run.log("features", clips=len(material.task.clips), unreadable=len(material.features.unreadable))


def require_same_corpus(run: Run, description: Mapping[str, Any]) -> None:
    """Check that a description of the corpus as it is now says what the run's does.

    Raises:
        RunError: It does not.
    """
    before = run.description()
    for key, words in (("split", "recordings or speakers"), ("labels", "emotions"), ("frontend", "recordings")):
        # "frontend" holds the mean and standard deviation of the training clips: their contents, in short.
        if before.get(key) != description[key]:
            raise RunError(
                f"the corpus has other {words} than when the run {run.folder} was made",
                "restore the corpus, or distil it again in a new --out",
            )


def assign(run: Run, material: Material, workers: Workers) -> Assignment:
    """Train or reload the experts, and put together what the method works on."""
    settings, task = material.settings, material.task
    trained = train_experts(run, task, needed_experts(settings, task), workers)
    return with_experts(task, material.corpus.labels, settings, trained)


def with_experts(task: Task, names: tuple[str, ...], settings: Settings, trained: dict[str, Trajectory]) -> Assignment:
    """What the method works on, of trained experts by their names."""
    start = initial_weights(task.graph, settings.seed)
    paths = tuple(trajectory for name, trajectory in trained.items() if name.startswith("trajectory"))
    return Assignment(
        task=task,
        names=names,
        settings=settings,
        init=fixed_init(task.graph, start, paths, settings.init_epoch),
        ensemble=label_ensemble(settings, task, trained),
        trajectories=paths,
    )


def fixed_init(graph: Graph, start: Weights, paths: tuple[Trajectory, ...], epoch: int) -> Arrays:
    """The student's fixed initialisation: the first trajectory's snapshot after ``epoch`` epochs, or the start."""
    parameters = paths[0].at(epoch) if epoch else {name: start[name] for name in graph.parameters}
    return {**parameters, **{name: start[name] for name in graph.statistics}}


def describe(material: Material) -> dict[str, Any]:
    """What run.json holds."""
    settings, task = material.settings, material.task
    items = settings.ipc * task.classes
    return {
        "edgeser": __version__,
        "corpus": {
            "name": material.corpus.name,
            "folder": str(material.corpus.folder),
            "fingerprint": corpus_fingerprint(material.corpus),
            **material.corpus.card.describe(),
        },
        "labels": list(material.corpus.labels),
        "frontend": material.features.frontend.to_json(),
        "split": material.split.describe(),
        "student": {
            "architecture": settings.arch,
            "width": settings.width,
            "parameters": task.graph.parameter_count,
            "multiply_accumulates": task.graph.multiply_accumulates,
        },
        "method": settings.method,
        "seed": settings.seed,
        "start": settings.start_from if has_starts(settings) else None,
        "budget": {
            "ipc": settings.ipc,
            "share": round(items / len(task.clips), 6),
            "items": items,
            "formations": settings.formations,
            "views": items * settings.formations * max(1, settings.views // settings.formations),
            "train_items": len(task.clips),
        },
        "corpus_bytes": material.features.audio_bytes,
        **({"dp": guarantee(settings)} if settings.dp else {}),
        "unreadable": [[str(path), reason] for path, reason in material.features.unreadable],
    }
