"""Across corpora: a run's student, trained on its set and on all its real clips, scored on another corpus.

    other = open_other(run, "emodb", Path("data/emodb"), (), Workers(2))
    entries = measure_across(run, [other], seeds=(0, 1, 2), workers=Workers(2))

Only emotions that both corpora have count, by a map that is stated: the probabilities of our emotions that mean the
same one of theirs are added, those of the others are left out, and the largest is the answer. No speaker of the other
corpus was trained on or chosen with, so all of them are scored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeser.cache import read_recordings
from edgeser.corpora.corpus import Corpus
from edgeser.corpora.emotions import plain_name
from edgeser.corpora.fingerprint import corpus_fingerprint
from edgeser.corpora.joined import renamed
from edgeser.corpora.table import load_corpus
from edgeser.errors import SettingsError
from edgeser.evaluation.adapted import ADAPTED_DRAWS, score_adapted
from edgeser.evaluation.conditions import ROWS, Bench
from edgeser.evaluation.evaluate import Shelf, open_bench
from edgeser.evaluation.intervals import deviation, of_draws
from edgeser.evaluation.scoring import average_by_clip, probabilities
from edgeser.representation import representation_of
from edgeser.run import Run
from edgeser.workers import Workers
from edgeser_device.errors import AudioError
from edgeser_device.machine import describe_machine
from edgeser_export.utilities.errors import choice_hint
from edgeser_export.utilities.files import write_json
from edgeser_export.utilities.progress import progress_bar

COMPARED = ("distilled", "full")
"""The rows: the set, and all real clips for as many steps."""
FEWEST_SPEAKERS = 4
"""Fewest speakers of the other corpus with which an interval over speakers means anything."""
DRAWS = 2000
"""Number of draws of the bootstrap over speakers."""


@dataclass(frozen=True)
class Other:
    """Recordings of another corpus, as a run's student hears them.

    Attributes:
        corpus: Its name.
        fingerprint: The fingerprint of the whole corpus.
        labels: Its emotion for each of ours that it shares.
        ours: The run's emotions in the order of the classes.
        x: Windows as the run's student reads them, float32 (windows, channels, rows, columns).
        owners: Clip of each window, int64 (windows,).
        truth: Place of each clip's emotion in :attr:`theirs`, int64 (clips,).
        speakers: Speaker of each clip, int64 (clips,), from 0.
        unreadable: Recordings that were left out, in words.
    """

    corpus: str
    fingerprint: str
    labels: Mapping[str, str]
    ours: tuple[str, ...]
    x: NDArray[np.float32]
    owners: NDArray[np.int64]
    truth: NDArray[np.int64]
    speakers: NDArray[np.int64]
    unreadable: tuple[str, ...] = ()

    @property
    def theirs(self) -> tuple[str, ...]:
        """Their emotions that count, in alphabetical order."""
        return tuple(sorted(set(self.labels.values())))

    @property
    def groups(self) -> NDArray[np.float64]:
        """The share of our probabilities that counts for each of their emotions, float64 (ours, theirs), 0 or 1."""
        found = np.zeros((len(self.ours), len(self.theirs)))
        for own, their in self.labels.items():
            found[self.ours.index(own), self.theirs.index(their)] = 1
        return found


def label_map(ours: Sequence[str], theirs: Sequence[str], given: Sequence[str] = ()) -> dict[str, str]:
    """Their emotion for each of ours that counts: equal names, changed by what is ``given``.

    Args:
        ours: The run's emotions.
        theirs: The other corpus's.
        given: OURS=THEIRS each; nothing after the sign leaves ours out.

    Raises:
        SettingsError: One of them is not understood, or fewer than two emotions are shared.
    """
    found = {name: name for name in ours if name in theirs}
    for text in given:
        own, sign, their = (plain_name(part) for part in text.partition("="))
        if not sign:
            raise SettingsError(f"--map {text} is no pair", "write --map OURS=THEIRS, such as --map calm=neutral")
        for name, known, whose in ((own, ours, "the run"), (their, theirs, "the other corpus")):
            if name not in known and (name or whose == "the run"):
                raise SettingsError(f"--map {text}: {whose} has no emotion {name!r}", choice_hint(name, known))
        found.pop(own, None)
        if their:
            found[own] = their
    if len(set(found.values())) < 2:
        shared = " and ".join(sorted(set(found.values()))) or "none"
        raise SettingsError(
            f"the run and the other corpus share fewer than two emotions: {shared}",
            f"state which mean the same with --map OURS=THEIRS; ours: {', '.join(ours)}; theirs: {', '.join(theirs)}",
        )
    return {name: found[name] for name in ours if name in found}


def open_other(run: Run, corpus: str, folder: Path | None, given: Sequence[str], workers: Workers) -> Other:
    """Read another corpus as a run's student would hear it.

    Args:
        run: A finished run.
        corpus: Name of the other corpus's format.
        folder: The folder of the corpus; the built-in one needs none.
        given: Changes of the label map, see :func:`label_map`.
        workers: The processes that read recordings.

    Raises:
        CorpusError: It cannot be used; a leaf says why.
        AudioError: No recording of a shared emotion can be read.
        SettingsError: It is the run's own corpus, or shares fewer than two emotions.
        RunError: The run is not finished.
    """
    distilled, description = run.stored_set(), run.description()
    hears = representation_of(run.settings()).of_run(run.settings(), distilled)
    other = load_corpus(corpus, folder)
    fingerprint = corpus_fingerprint(other)
    own = description["corpus"]
    if any(_is_same(other, each) for each in own.get("corpora") or [own]):
        raise SettingsError(
            f"{corpus} is a corpus that the run {run.folder} was made of",
            "its test speakers are scored by edgeser evaluate RUN, without --on",
        )
    labels = label_map(distilled.names, other.labels, given)
    wanted = [utterance for utterance in other.utterances if utterance.emotion in labels.values()]
    found = read_recordings([utterance.path for utterance in wanted], hears.reader(), workers)
    workers.release()
    readable = tuple(each for each in wanted if not isinstance(found[each.path], str))
    theirs = sorted(set(labels.values()))
    for name in theirs:
        if not any(each.emotion == name for each in readable):
            raise AudioError(
                f"no recording of {name!r} in {other.folder} can be read",
                f"see what is wrong: edgeser data check {other.folder} --corpus {corpus}",
            )
    truth = np.array([theirs.index(each.emotion) for each in readable], dtype=np.int64)
    part = hears.part(readable, truth, tuple(np.asarray(found[each.path]) for each in readable))
    x, owners = part.windows()
    _, speakers = np.unique(part.speakers, return_inverse=True)
    reasons = tuple(reason for reason in found.values() if isinstance(reason, str))
    return Other(
        corpus, fingerprint, labels, distilled.names, x, owners, truth, np.asarray(speakers, dtype=np.int64), reasons
    )


def measure_across(
    run: Run, others: Sequence[Other], seeds: Sequence[int], workers: Workers, folder: str = "", adapt: int = 0
) -> list[dict[str, Any]]:
    """Train the run's student on its set and on all its real clips, and score each on all ``others``.

    Args:
        run: A finished run.
        others: Corpora from :func:`open_other`.
        seeds: One training for each, of each row.
        workers: The processes that train the students.
        folder: The present folder of the run's own corpus, if it was moved.
        adapt: Clips of each speaker by which the student on the set is adapted, too; 0 measures no adaptation.

    Returns:
        An entry of ``on`` for each of the others.

    Raises:
        RunError: The corpus is not the one that the run was made of.
        EdgeserError: The run's own corpus is gone, or does not fit any more.
    """
    bench, _ = open_bench(run, run.stored_set(), Shelf(workers, folder))
    bench = replace(bench, assignment=replace(bench.assignment, trajectories=()))
    jobs = [(row, bench, seed, tuple(others), adapt if row == "distilled" else 0) for row in COMPARED for seed in seeds]
    answers: dict[str, list[list[NDArray[np.int64]]]] = {row: [] for row in COMPARED}
    adapted: list[list[dict[str, float]]] = []
    with progress_bar("across corpora", len(jobs)) as advance:
        for done, found in enumerate(workers.each(answers_of, jobs)):
            answers[jobs[done][0]].append([each for each, _ in found])
            if jobs[done][4]:
                adapted.append([each for _, each in found])
            advance(done + 1, f"{jobs[done][0]}, seed {jobs[done][2]}")
    return [
        {
            **entry_of(other, {row: np.stack([each[place] for each in answers[row]]) for row in COMPARED}, seeds),
            **({"adapted": adapted_entry([each[place] for each in adapted], adapt)} if adapt else {}),
        }
        for place, other in enumerate(others)
    ]


def adapted_entry(found: Sequence[Mapping[str, float]], clips: int) -> dict[str, Any]:
    """The entry ``adapted`` of the scores of :func:`edgeser.evaluation.adapted.score_adapted`, one a seed."""
    return {
        **_spread(np.array([each["uar"] for each in found])),
        "clips": clips,
        "plain": {"uar_mean": float(np.mean([each["plain"] for each in found]))},
        "refused": float(np.mean([each["refused"] for each in found])),
        "draws": ADAPTED_DRAWS,
    }


def answers_of(
    row: str, bench: Bench, seed: int, others: Sequence[Other], adapt: int
) -> list[tuple[NDArray[np.int64], dict[str, float]]]:
    """Train one row with one seed, and let it answer.

    Returns:
        For each of the others its answers, places in ``theirs``, int64 (clips,), and what adaptation by ``adapt`` clips
        of each speaker gives; nothing where that is 0.
    """
    graph = bench.task.graph
    weights = ROWS[row](bench, graph, bench.assignment.init, seed)
    found = []
    for other in others:
        rows = average_by_clip(probabilities(graph, weights, other.x), other.owners, len(other.truth))
        adapted = score_adapted(graph, weights, other, adapt) if adapt else {}
        found.append((np.asarray((rows @ other.groups).argmax(1), dtype=np.int64), adapted))
    return found


def entry_of(other: Other, answers: Mapping[str, NDArray[np.int64]], seeds: Sequence[int]) -> dict[str, Any]:
    """One entry of ``on``: UAR of each row with its interval over speakers, and what distillation costs.

    Args:
        other: The corpus that was scored.
        answers: Answers of each row, int64 (seeds, clips).
        seeds: Seeds of the trainings.
    """
    recalls = {row: _recalls(other, found) for row, found in answers.items()}
    drawn = {row: _drawn_uar(other, found) for row, found in answers.items()}
    rows = {
        row: {
            **_spread(found.mean(1)),
            **_interval(float(found.mean()), drawn[row]),
            "recalls": dict(zip(other.theirs, found.mean(0).round(6).tolist(), strict=True)),
        }
        for row, found in recalls.items()
    }
    reached, full = rows["distilled"]["uar_mean"], rows["full"]["uar_mean"]
    ours, theirs = drawn["distilled"], drawn["full"]
    cost = None if ours is None or theirs is None else ours - theirs
    return {
        "corpus": other.corpus,
        "fingerprint": other.fingerprint,
        "labels": dict(other.labels),
        "clips": len(other.truth),
        "speakers": int(other.speakers.max()) + 1,
        "chance": 1 / len(other.theirs),
        **rows,
        "ratio": reached / full,
        "difference": {
            "value": reached - full,
            **_interval(reached - full, cost),
        },
        "seeds": list(seeds),
        "varies": "order of training; intervals of 95 % are over speakers of the other corpus",
        "machine": describe_machine(),
    }


def keep_entries(run: Run, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Write entries into the run's metrics.json, in the place of earlier ones of the same corpus; what is written."""
    metrics = dict(run.metrics() or {})
    known = {entry["fingerprint"] for entry in entries}
    kept = [entry for entry in metrics.get("on") or [] if entry["fingerprint"] not in known]
    metrics["on"] = [*kept, *entries]
    write_json(run.folder / "metrics.json", metrics)
    return metrics


def _is_same(other: Corpus, own: Mapping[str, Any]) -> bool:
    """Whether the other corpus is one of the run's, or lies where one of them lies, under whatever name."""
    if corpus_fingerprint(renamed(other, own.get("labels") or {})) == own["fingerprint"]:
        return True
    return bool(own["folder"]) and other.folder.resolve() == Path(own["folder"]).resolve()


def _counts(other: Other, answers: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Right answers (seeds, speakers, classes) and clips (speakers, classes)."""
    place = other.speakers * len(other.theirs) + other.truth
    size = (int(other.speakers.max()) + 1) * len(other.theirs)
    shape = (-1, len(other.theirs))
    right = [np.bincount(place, weights=row == other.truth, minlength=size).reshape(shape) for row in answers]
    return np.stack(right), np.bincount(place, minlength=size).reshape(shape).astype(np.float64)


def _recalls(other: Other, answers: NDArray[np.int64]) -> NDArray[np.float64]:
    """Recall of each of their emotions, (seeds, classes)."""
    right, clips = _counts(other, answers)
    return np.asarray(right.sum(1) / clips.sum(0))


def _drawn_uar(other: Other, answers: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """UAR, mean over seeds, of draws of whole speakers (draws,); NaN where a draw lacks an emotion.

    The draws are the same for all rows, so rows can be subtracted. None where there are too few speakers.
    """
    right, clips = _counts(other, answers)
    speakers = len(clips)
    if speakers < FEWEST_SPEAKERS:
        return None
    weights = np.random.default_rng(0).multinomial(speakers, np.full(speakers, 1 / speakers), DRAWS).astype(float)
    with np.errstate(invalid="ignore"):
        return np.asarray((weights @ right.mean(0) / (weights @ clips)).mean(1))


def _interval(value: float, drawn: NDArray[np.float64] | None) -> Mapping[str, float | None]:
    return (None if drawn is None else of_draws(value, drawn)) or {"low": None, "high": None}


def _spread(values: NDArray[np.float64]) -> dict[str, Any]:
    return {
        "uar_mean": float(values.mean()),
        "uar_std": deviation(values.tolist()),
        "uar": values.round(6).tolist(),
    }
