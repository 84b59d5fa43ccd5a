"""The material of an audit: a run, its recordings, and the sets beside the run's own, with the voices in each item.

opened = open_audit(run, Workers(2), folder="")
sets = real_sets(opened, starts=("real",), folder)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeser.corpora.errors import CorpusNotFound, EmptyCorpus, WrongCorpus
from edgeser.distill.expert_jobs import label_ensemble, needed_experts, train_experts
from edgeser.distill.method import Assignment
from edgeser.distill.methods.coresets import random_choice
from edgeser.distill.pipeline import Material, label_experts, prepare, require_same_corpus, with_experts
from edgeser.distill.starts import find_start
from edgeser.errors import AuditError
from edgeser.models.experts import Ensemble
from edgeser.privacy.copies import shifted_distances
from edgeser.privacy.shadows import FROM, make_distilled, noise_items, reference, started
from edgeser.privacy.speakers import Linked, Voices, too_few_clips
from edgeser.run import Run
from edgeser.workers import Workers, one_thread
from edgeser_device.data.stored import StoredSet
from edgeser_export.utilities.errors import EdgeserError
from edgeser_export.utilities.files import write_bytes

OF_NOBODY = "no item began as a single recording or as a few"
GENERATED = (
    "its items are drawn from a generator that learnt sums of recordings,"
    " and whose voices are in which was not followed"
)
"""Why items have no sources."""


@dataclass(frozen=True)
class Opened:
    """A run with its recordings.

    Attributes:
        run: The run, finished.
        material: Its corpus and settings, with everything decided.
        assignment: As its method had it; without trajectories.
        judges: Its label experts, trained for this where the run had none.
        distilled: Its set.
        left_out: Questions that cannot be asked, with the reason; see :func:`left_out`.
    """

    run: Run
    material: Material
    assignment: Assignment
    judges: Ensemble
    distilled: StoredSet
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def voices(self) -> Voices:
        """The training clips with their speakers, and the sex of each where the corpus tells it of all."""
        utterances = self.material.features.train.utterances
        _, speakers = np.unique([utterance.speaker for utterance in utterances], return_inverse=True)
        sexes = [utterance.sex for utterance in utterances]
        females = None if None in sexes else np.array([sex == "female" for sex in sexes])
        return Voices(self.assignment.task.maps, np.asarray(speakers, dtype=np.int64), females)


def open_audit(run: Run, workers: Workers, folder: str) -> Opened:
    """Read a run's recordings, and train again the label experts that it lacks.

    Args:
        run: The run.
        workers: The processes that compute.
        folder: The present folder of the corpus, if it was moved.

    Raises:
        RunError: The run is not finished, or the corpus is not the one that it was made of.
        AuditError: The recordings are not there.
    """
    distilled = run.stored_set()
    hint = (
        f"run: edgeser audit {run.folder} --folder DIR, with the folder of the recordings; "
        "edgeser data download gets corpora that are open"
    )
    material = read_again(run, workers, folder, AuditError, hint)
    decided, task = material.settings, material.task
    trained = label_experts(run, material, workers)
    workers.release()
    judges = label_ensemble(decided, task, trained)
    asked = any(name.startswith("label") for name in needed_experts(material.method, decided, task))
    ensemble = judges if asked else replace(judges, members=(), starts=())
    assignment = Assignment(task, distilled.names, decided, material.method, run.init(), ensemble)
    return Opened(run, material, assignment, judges, distilled)


def read_again(run: Run, workers: Workers, folder: str, kind: type[EdgeserError], hint: str) -> Material:
    """The corpus of a run with its log-mels, from the cache or computed again.

    Args:
        run: A finished run.
        workers: The processes that compute.
        folder: The folder of the corpus now, if it was moved.
        kind: The error that is raised where the recordings are not there.
        hint: The hint of that error.

    Raises:
        RunError: The corpus is not the one that the run was made of.
        EdgeserError: An error of that kind.
    """
    settings = run.settings()
    try:
        material = prepare(replace(settings, folder=folder or settings.folder), workers)
    except (CorpusNotFound, EmptyCorpus, WrongCorpus) as error:
        raise kind(f"the features of {run.folder} cannot be computed again: {error.message}", hint) from error
    require_same_corpus(run, material)
    return material


def real_sets(opened: Opened, starts: tuple[str, ...], folder: Path, workers: Workers) -> dict[str, Linked]:
    """The run's set and those beside it, made of all training clips; the slow ones are kept in ``folder``."""
    task, plain = opened.assignment.task, reference(opened.assignment)
    chosen, by_lot = _beside(plain)
    sets = {
        "distilled": Linked(opened.distilled.items(), *_sources(opened, opened.assignment.settings.start)),
        "real_subset": Linked(task.maps[chosen], chosen[:, None], "the speaker of the clip that the item is"),
        "noise": Linked(noise_items(plain), by_lot[:, None], "none: a speaker drawn by lot, as a control"),
    }
    for start in starts:
        made = _with_start(opened, start, folder, workers)
        sets[FROM + start] = Linked(made.items(), *_sources(opened, start))
    return sets


def left_out(opened: Opened, starts: tuple[str, ...]) -> dict[str, str]:
    """The questions that an audit cannot ask, with the reason, before anything is made of the clips.

    Returns:
        ``speakers`` where too few clips are left for an attacker to learn from, and the sets whose items have no
        sources; nothing where everything can be asked.
    """
    known = {
        "distilled": _sources(opened, opened.assignment.settings.start),
        **{FROM + start: _sources(opened, start) for start in starts},
    }
    used = np.concatenate([*_beside(reference(opened.assignment)), *(clips.ravel() for clips, _ in known.values())])
    reason = too_few_clips(opened.voices.speakers, used)
    without = {
        name: f"sources, speakers and sex of {name} were not asked about: {link.removeprefix('none: ')}"
        for name, (clips, link) in known.items()
        if not clips.size
    }
    return {**({"speakers": reason} if reason else {}), **without}


def _beside(plain: Assignment) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The clips of the planted leak, and as many drawn by lot for noise."""
    chosen = random_choice(plain)
    drawn = np.random.default_rng([plain.settings.seed, 0x107]).permutation(len(plain.task.clips))
    return chosen, np.resize(drawn, len(chosen))


def with_voices(sets: Mapping[str, Linked]) -> dict[str, Linked]:
    """Those of the sets whose items have known voices."""
    return {name: linked for name, linked in sets.items() if linked.sources.shape[1]}


def _sources(opened: Opened, start: str) -> tuple[NDArray[np.int64], str]:
    """The clips that each item of the run's method is or began as, (items, sources), and the same in words."""
    assignment = opened.assignment
    method = assignment.method
    if method.improve is None and not method.of_vectors:
        nearest = shifted_distances(opened.distilled.items(), assignment.task.maps).argmin(1)
        return nearest[:, None], "the speaker of the clip that the item is"
    drawn = find_start(start).draws if method.has_starts else None
    if drawn is None:
        why = OF_NOBODY if method.items is None else GENERATED
        return np.zeros((len(opened.distilled.items()), 0), dtype=np.int64), f"none: {why}"
    with one_thread():
        sources = np.concatenate(drawn(started(assignment, start)))
    voices = sources.shape[1]
    clips = "the clip" if voices == 1 else f"the {voices} clips"
    speaker = "speaker" if voices == 1 else "speakers"
    return sources, f"the {speaker} of {clips} that the item began as"


def _with_start(opened: Opened, start: str, folder: Path, workers: Workers) -> StoredSet:
    """The run's method with another start, on all clips; made once."""
    path = folder / f"{FROM}{start}.safetensors"
    if not path.is_file():
        task, settings = opened.assignment.task, opened.assignment.settings
        trained = train_experts(opened.run, task, needed_experts(opened.material.method, settings, task), workers)
        workers.release()
        own = replace(settings, check_every=0)
        whole = started(with_experts(task, opened.distilled.names, opened.material.method, own, trained), start)
        place = Run(folder / f"{FROM}{start}")
        place.folder.mkdir(parents=True, exist_ok=True)
        with one_thread():
            made = make_distilled(place, whole, 0)
        write_bytes(path, made.distilled.to_bytes())
    return opened.assignment.representation.read_set(path.read_bytes())
