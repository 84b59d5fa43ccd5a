"""What an audit works on: a run, its recordings, and the sets beside the run's own, with the voices in each item.

opened = open_audit(run, Workers(2), folder="")
sets = real_sets(opened, starts=("real",), folder)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeser.audit.copies import shifted_distances
from edgeser.audit.shadows import FROM, make_distilled, noise_items, reference, started
from edgeser.audit.speakers import Linked, Voices
from edgeser.corpora.errors import CorpusNotFound, EmptyCorpus, WrongCorpus
from edgeser.distill.coresets import random_choice
from edgeser.distill.expert_jobs import label_ensemble, label_jobs, needed_experts, train_experts
from edgeser.distill.method import Assignment
from edgeser.distill.pipeline import Material, describe, prepare, require_same_corpus, with_experts
from edgeser.distill.starts import VOICES, draws
from edgeser.distill.table import find_method
from edgeser.errors import AuditError
from edgeser.experts import Ensemble
from edgeser.run import Run
from edgeser.workers import Workers, one_thread
from edgeser_device.distilled import DistilledSet
from edgeser_export.files import write_bytes


@dataclass(frozen=True)
class Opened:
    """A run with its recordings.

    Attributes:
        run: The run, finished.
        material: Its corpus and settings, with everything decided.
        assignment: As its method had it; without trajectories.
        judges: Its label experts, trained for this where the run had none.
        distilled: Its set.
    """

    run: Run
    material: Material
    assignment: Assignment
    judges: Ensemble
    distilled: DistilledSet

    @property
    def voices(self) -> Voices:
        """The training clips with their speakers, and the sex of each where the corpus tells it of all."""
        utterances = self.material.features.train.utterances
        _, speakers = np.unique([utterance.speaker for utterance in utterances], return_inverse=True)
        sexes = [utterance.sex for utterance in utterances]
        females = None if None in sexes else np.array([sex == "female" for sex in sexes])
        return Voices(self.assignment.task.clips[:, 0], np.asarray(speakers, dtype=np.int64), females)


def open_audit(run: Run, workers: Workers, folder: str) -> Opened:
    """Read a run's recordings, and train again the label experts that it lacks.

    Args:
        run: The run.
        workers: Where is computed.
        folder: Where the corpus is now, if it was moved.

    Raises:
        RunError: The run is not finished, or the corpus is not the one that it was made of.
        AuditError: The recordings are not there.
    """
    distilled, settings = run.distilled(), run.settings()
    settings = replace(settings, folder=folder or settings.folder)
    try:
        material = prepare(settings, workers)
    except (CorpusNotFound, EmptyCorpus, WrongCorpus) as error:
        raise AuditError(
            f"the log-mels of {run.folder} cannot be computed again: {error.message}",
            f"run: edgeser audit {run.folder} --folder DIR, with the folder of the recordings; "
            "edgeser data download gets corpora that are open",
        ) from error
    require_same_corpus(run, describe(material))
    decided, task = material.settings, material.task
    trained = train_experts(run, task, label_jobs(decided, task), workers)
    workers.release()
    judges = label_ensemble(decided, task, trained)
    asked = any(name.startswith("label") for name in needed_experts(decided, task))
    ensemble = judges if asked else replace(judges, members=(), starts=())
    assignment = Assignment(task, distilled.names, decided, run.init(), ensemble)
    return Opened(run, material, assignment, judges, distilled)


def real_sets(opened: Opened, starts: tuple[str, ...], folder: Path, workers: Workers) -> dict[str, Linked]:
    """The run's set and those beside it, made of all training clips; the slow ones are kept in ``folder``."""
    assignment = opened.assignment
    items = opened.distilled.items()
    plain = reference(assignment)
    chosen = random_choice(plain)
    drawn = np.random.default_rng([assignment.settings.seed, 0x107]).permutation(len(assignment.task.clips))
    by_lot = np.resize(drawn, len(chosen))[:, None]
    sets = {
        "distilled": _linked(opened, items, assignment.settings.start_from),
        "real_subset": Linked(
            assignment.task.clips[chosen, 0], chosen[:, None], "the speaker of the clip that the item is"
        ),
        "noise": Linked(noise_items(plain), by_lot, "none: a speaker drawn by lot, as a control"),
    }
    for start in starts:
        made = _with_start(opened, start, folder, workers)
        sets[FROM + start] = _linked(opened, made.items(), start)
    return sets


def with_voices(sets: Mapping[str, Linked]) -> dict[str, Linked]:
    """Those of the sets whose items have known voices."""
    return {name: linked for name, linked in sets.items() if linked.sources.shape[1]}


def _linked(opened: Opened, items: NDArray[np.float32], start: str) -> Linked:
    """Items of the run's method with the clips that each is or began as."""
    assignment = opened.assignment
    method = find_method(assignment.settings.method)
    if method.improve is None:
        nearest = shifted_distances(items, assignment.task.clips[:, 0]).argmin(1)
        return Linked(items, nearest[:, None], "the speaker of the clip that the item is")
    voices = 0 if method.items is not None else VOICES[start]
    if not voices:
        return Linked(items, np.zeros((len(items), 0), dtype=np.int64), "none: no item began as a recording")
    with one_thread():
        sources = np.concatenate(draws(started(assignment, start), voices))
    clips = "the clip" if voices == 1 else f"the {voices} clips"
    speaker = "speaker" if voices == 1 else "speakers"
    return Linked(items, sources, f"the {speaker} of {clips} that the item began as")


def _with_start(opened: Opened, start: str, folder: Path, workers: Workers) -> DistilledSet:
    """The run's method with another start, on all clips; made once."""
    path = folder / f"{FROM}{start}.safetensors"
    if not path.is_file():
        task, settings = opened.assignment.task, opened.assignment.settings
        trained = train_experts(opened.run, task, needed_experts(settings, task), workers)
        workers.release()
        own = replace(settings, check_every=0, candidates=1)
        whole = started(with_experts(task, opened.distilled.names, own, trained), start)
        place = Run(folder / f"{FROM}{start}")
        place.folder.mkdir(parents=True, exist_ok=True)
        with one_thread():
            made = make_distilled(place, whole, opened.distilled.frontend, 0)
        write_bytes(path, made.distilled.to_bytes())
    return DistilledSet.from_bytes(path.read_bytes())
