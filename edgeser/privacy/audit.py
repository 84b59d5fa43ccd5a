"""The audit of a run: all attacks, and RUN/audit.json.

found = audit(run, AuditPlan(shadows=16, starts=()), Workers(2))
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeser import __version__
from edgeser.config.settings import SETTINGS, Settings
from edgeser.config.values import changed, given_in
from edgeser.errors import AuditError, SettingsError
from edgeser.models.network import as_input, infer
from edgeser.packaging.card import MADE_BY
from edgeser.privacy.attack_lines import CONTROL, LEAK, control_lines, summary_lines
from edgeser.privacy.copies import Bands, copy_figures, pattern_distances, plain_distances, shifted_distances
from edgeser.privacy.item_sounds import aligned, write_picture, write_sounds
from edgeser.privacy.material import Opened, left_out, open_audit, real_sets, with_voices
from edgeser.privacy.membership import membership_figures
from edgeser.privacy.shadows import FROM, THREATS, ShadowPlan, attack_shadow, observations, speaker_numbers
from edgeser.privacy.speakers import Linked, linkage_figures, sex_figures
from edgeser.run import Run
from edgeser.workers import Workers
from edgeser_device.machine import describe_machine
from edgeser_export.graph.op_graph import Linear
from edgeser_export.utilities.files import write_json
from edgeser_export.utilities.progress import note, progress_bar

FEWEST_SHADOWS = 4
"""With fewer no shadow is left that tells how a statistic is distributed with a clip and without."""
LAST_LAYER = "features: the last hidden layer of the first label expert"
LOG_MEL_WORDS = (
    "root mean square difference of log-mels at the same mean level and at the best circular shift; patterns: "
    f"1 - correlation, at the best shift, of what stands out of its surroundings in time and frequency; {LAST_LAYER}"
)
VECTOR_WORDS = (
    f"log_mel: root mean square difference of vectors at mean 0; patterns: 1 - their correlation; {LAST_LAYER}"
)
UNNAMED = "0.1.0"
"""The version that began to audit, which is not in the names of its shadows' folders; that of every later one is."""
OVERRIDES = {"experts": "experts.count", "expert_steps": "experts.steps", "iterations": "{method}.iterations"}
"""Settings that shadows may have other ones of than the run, to be quicker; the figures are then of another run."""


@dataclass(frozen=True)
class AuditPlan:
    """The attacks that an audit makes.

    Attributes:
        shadows: Shadow runs, an even number from 4 on; 0 leaves membership out.
        starts: Starts of further sets of the run's method, beside its own: rows of ``STARTS``.
        resume: Whether shadows of an earlier call are used.
        overrides: Settings of the shadows that differ from the run's; names of ``OVERRIDES``.
        folder: The present folder of the corpus, if it was moved.
        sounds: Whether WAV files are written.

    Raises:
        SettingsError: An impossible number of shadows, a start that does not exist, or that the method has not.
    """

    shadows: int = 16
    starts: tuple[str, ...] = ()
    resume: bool = False
    overrides: Mapping[str, int] | None = None
    folder: str = ""
    sounds: bool = True

    def __post_init__(self) -> None:
        if self.shadows and (self.shadows < FEWEST_SHADOWS or self.shadows % 2):
            raise SettingsError(
                f"--shadows is {self.shadows}; shadows come in pairs, and fewer than {FEWEST_SHADOWS} tell nothing",
                f"give an even number from {FEWEST_SHADOWS} on, or 0 to leave membership out",
            )
        for start in self.starts:
            SETTINGS["start"].check(start)

    @property
    def command(self) -> str:
        """The command that repeats the audit, with RUN for the run."""
        words = ["edgeser", "audit", "RUN", "--shadows", str(self.shadows)]
        words += [word for start in self.starts for word in ("--from", start)]
        for name, value in (self.overrides or {}).items():
            words += [f"--{name.replace('_', '-')}", str(value)]
        return shlex.join(words)


def audit(run: Run, plan: AuditPlan, workers: Workers) -> dict[str, Any]:
    """Make all attacks and write RUN/audit.json, with sounds and a picture in RUN/audit.

    Args:
        run: A finished run.
        plan: The attacks to make.
        workers: The processes that make shadows, one shadow each.

    Returns:
        What is written; see :mod:`edgeser.privacy`.

    Raises:
        RunError: The run is not finished, or the corpus is not the one that it was made of.
        AuditError: The recordings are gone, there are too few speakers or clips, or shadows of an earlier call are
            there and ``resume`` was not asked for.
        SettingsError: The run's method has no other start.
    """
    begun = time.monotonic()
    opened, shadows = prepare_audit(run, plan, workers)
    membership = _membership(shadows, plan, workers)
    note("copies, speakers, sounds")
    sets = real_sets(opened, plan.starts, shadows.folder, workers)
    copies, nearest, distances = _copies(opened, sets)
    inversion = _inversion(opened, nearest, distances, plan)
    asked = "speakers" not in opened.left_out
    utterances = opened.material.features.train.utterances
    classes = _classes(opened)
    found: dict[str, Any] = {
        "schema": 1,
        "edgeser": __version__,
        "machine": describe_machine(),
        "seconds": 0.0,
        "command": plan.command,
        "run": _described(opened),
        "threat_models": dict(THREATS),
        "sets": _sets_in_words(opened, sets, plan),
        "copies": copies,
        "nearest": [
            {
                "item": place,
                "class": classes[place],
                "clip": _relative(utterances[clip].path, opened.material.corpus.folder),
                "speaker": utterances[clip].speaker,
                **{space: round(float(values[place, clip]), 4) for space, values in distances.items()},
            }
            for place, clip in enumerate(nearest)
        ],
        "membership": membership,
        "speakers": linkage_figures(opened.voices, with_voices(sets)) if asked else None,
        "sex": sex_figures(opened.voices, with_voices(sets)) if asked else None,
        "left_out": list(opened.left_out.values()),
        "inversion": inversion,
        "dp": run.description().get("dp"),
    }
    found["controls"] = control_lines(found)
    found["summary"] = summary_lines(found)
    found["seconds"] = round(time.monotonic() - begun, 1)
    write_json(run.folder / "audit.json", found)
    return found


def prepare_audit(run: Run, plan: AuditPlan, workers: Workers) -> tuple[Opened, ShadowPlan]:
    """Open the run and check that everything fits, before hours of work.

    Raises:
        EdgeserError: As :func:`audit`.
    """
    if run.settings().gan.ship == "generator":
        raise AuditError(
            f"the kit of {run.folder} draws its items from a generator: an audit would be of items that are not in it",
            "distil with --set gan.ship=items and audit that",
        )
    opened = open_audit(run, workers, plan.folder)
    settings = opened.material.settings
    has_others = opened.material.method.has_starts and not settings.match.dp and settings.privacy == "none"
    if plan.starts and not has_others:
        raise SettingsError(f"items of --method {settings.method} in this run have no other start", "leave out --from")
    overrides = {
        OVERRIDES[name].format(method=settings.method): value for name, value in (plan.overrides or {}).items()
    }
    if not overrides.keys() <= SETTINGS.keys():
        raise SettingsError(f"--method {settings.method} makes no iterations", "leave out --iterations")
    own = changed(settings, overrides)
    task = opened.assignment.task
    speaker_numbers(task.speakers)
    folder = run.folder / "audit" / f"shadows-{_digest(opened, own)}"
    shadows = ShadowPlan(folder, task, opened.distilled.names, own, opened.material.method, plan.starts)
    shadows.require_enough(plan.shadows)
    if plan.shadows and not plan.resume and folder.is_dir():
        raise AuditError(
            f"{folder} holds shadows of an earlier audit", "add --resume to use them and make what is missing"
        )
    return replace(opened, left_out=left_out(opened, plan.starts)), shadows


def _membership(shadows: ShadowPlan, plan: AuditPlan, workers: Workers) -> dict[str, Any] | None:
    if not plan.shadows:
        return None
    missing = shadows.missing(plan.shadows)
    with progress_bar("shadows", plan.shadows, plan.shadows - len(missing)) as advance:
        advance(plan.shadows - len(missing), "")
        for done, number in enumerate(workers.each(attack_shadow, [(shadows, number) for number in missing]), 1):
            advance(plan.shadows - len(missing) + done, f"shadow {number}")
    workers.release()
    seen = observations(shadows, plan.shadows)
    speakers = len(set(shadows.task.speakers))
    changed = ", ".join(f"{name} {value}" for name, value in (plan.overrides or {}).items())
    return {
        "words": f"{plan.shadows} shadow runs of the whole distillation, each on half of the training clips, as many "
        "items as the run has" + (f"; with other settings than the run's: {changed}" if changed else ""),
        "shadows": plan.shadows,
        "speakers": speakers,
        "sets": {
            name: {threat: membership_figures(observed) for threat, observed in by_threat.items()}
            for name, by_threat in seen.items()
        },
    }


def _copies(
    opened: Opened, sets: Mapping[str, Linked]
) -> tuple[dict[str, Any], list[int], dict[str, np.ndarray[Any, np.dtype[np.float64]]]]:
    """The entry ``copies``; the nearest clip of each of the run's items; its distances to all clips by space."""
    task, voices = opened.assignment.task, opened.voices
    clips = task.maps
    stored = opened.distilled
    unit, decibels = stored.unit
    graph, member = opened.judges.graph, opened.judges.members[0]
    last = next(op for op in reversed(graph.ops) if isinstance(op, Linear)).source
    features = infer(graph, member, task.clips, last).astype(np.float64)
    spread = features.std(0) + 1e-6

    def seen(items: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.asarray(infer(graph, member, as_input(graph, items), last).astype(np.float64) / spread)

    mels = {name: decibels * shifted_distances(linked.items, clips) for name, linked in sets.items()}
    bands, own_features = Bands.of(clips), features / spread
    patterns = {name: pattern_distances(linked.items, clips, bands) for name, linked in sets.items()}
    penultimate = {name: plain_distances(seen(linked.items), own_features) for name, linked in sets.items()}
    measured = {
        "log_mel": (unit, decibels * shifted_distances(clips, clips), mels),
        "patterns": ("1 - correlation", pattern_distances(clips, clips, bands), patterns),
        "features": ("standard deviations", plain_distances(own_features, own_features), penultimate),
    }
    sources = {name: linked.sources for name, linked in sets.items()}
    spaces = {
        space: copy_figures(unit, real, voices.speakers, task.labels, found, sources)
        for space, (unit, real, found) in measured.items()
    }
    words = VECTOR_WORDS if stored.log_mels is None else LOG_MEL_WORDS
    own = {"log_mel": mels["distilled"], "patterns": patterns["distilled"], "features": penultimate["distilled"]}
    return {"words": words, "spaces": spaces}, own["patterns"].argmin(1).tolist(), own


def _inversion(
    opened: Opened, nearest: list[int], distances: Mapping[str, np.ndarray[Any, np.dtype[np.float64]]], plan: AuditPlan
) -> dict[str, Any]:
    stored = opened.distilled.log_mels
    if stored is None:
        return {"words": "vectors, which were not made into sounds", "picture": None, "sounds": []}
    items = stored.items()
    everything = opened.assignment.task.maps
    clips = aligned(items, everything[nearest], Bands.of(everything))
    classes = _classes(opened)
    picture = "audit/items.png"
    write_picture(items, clips, classes, 1 - distances["patterns"].min(1), opened.run.folder / picture)
    return {
        "words": "Griffin and Lim, from the log-mels of the items and of the recordings nearest to them",
        "picture": picture,
        "sounds": write_sounds(items, clips, classes, stored.frontend, opened.run.folder) if plan.sounds else [],
    }


def _classes(opened: Opened) -> list[str]:
    """The emotion of each log-mel of the run's set."""
    return [opened.distilled.names[int(number)] for number in opened.distilled.item_classes()]


def _described(opened: Opened) -> dict[str, Any]:
    description, settings = opened.run.description(), opened.material.settings
    budget = description["budget"]
    return {
        "corpus": description["corpus"]["name"],
        "method": settings.method,
        "start_from": settings.start if opened.material.method.has_starts else None,
        "labels": settings.labels,
        **{key: budget[key] for key in ("ipc", "items", "share", "train_items")},
        "speakers": len(set(opened.assignment.task.speakers)),
        "privacy": settings.privacy,
        "seed": settings.seed,
    }


def _sets_in_words(opened: Opened, sets: Mapping[str, Linked], plan: AuditPlan) -> dict[str, Any]:
    settings = opened.material.settings
    words = {
        "distilled": f"the run's own: {settings.method}",
        "random_bank": "random real clips, labelled by the experts; member: a clip that the experts learnt",
        LEAK: "random real clips; member: a clip that is stored; the planted leak",
        CONTROL: "smooth noise with hard labels, of no recording; the control",
        **{FROM + start: f"{settings.method} from {start}" for start in plan.starts},
    }
    words["distilled"] += (
        f" from {settings.start}" if opened.material.method.has_starts else f"; its items {MADE_BY[settings.method]}"
    )
    counts = {name: len(linked.items) for name, linked in sets.items()}
    return {name: {"words": text, "items": counts.get(name, counts[LEAK])} for name, text in words.items()}


def _digest(opened: Opened, settings: Settings) -> str:
    """Ten letters for what decides a shadow."""
    import hashlib
    import json

    chosen = {key: value for key, value in given_in(settings).items() if key != "folder"}
    known = [chosen, opened.material.features.fingerprint, opened.material.split.describe()]
    known += [__version__] if __version__ != UNNAMED else []
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:10]


def _relative(path: Path, folder: Path) -> str:
    """A recording's place in its corpus."""
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else path.name
