"""The commands that repeat a run and what was measured of it.

for line in commands(run, metrics, audit):
    ...                                         # edgeser distill DIR --corpus ravdess --ipc 6 --out RUN
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from edgeser.distill.table import defaults_of, settings_for
from edgeser.representation import representation_of
from edgeser.representation.vector_file import CORPUS
from edgeser.rows import BASELINES
from edgeser.settings import Settings

FLAGS = {"start_from": "--from"}
"""Settings whose flag is not called as they are."""
RUN, FOLDER, FILE = "RUN", "DIR", "FILE"
"""Stand for the run's folder, the corpus's and a file of vectors, which lie elsewhere on another machine."""


def commands(settings: Settings, metrics: Mapping[str, Any], audit: Mapping[str, Any] | None) -> list[str]:
    """What to type, in this order.

    Args:
        settings: Of the run.
        metrics: What evaluate measured.
        audit: What audit found, or None.
    """
    lines = [distill_command(settings), evaluate_command(metrics)]
    lines += [across_command(entry, metrics) for entry in metrics.get("cross_corpus") or []]
    if audit is not None:
        lines.append(str(audit["command"]))
    lines.append(shlex.join(["edgeser", "report", RUN]))
    of_log_mels = representation_of(settings.corpus).has_time
    return [*lines, shlex.join(["edgeser", "pack", RUN, "--target", "rpi4"])] if of_log_mels else lines


def distill_command(settings: Settings) -> str:
    """The command that makes a run of these settings; only what differs from the defaults is named."""
    own = asdict(settings)
    usual = asdict(settings_for(settings.method, corpus=settings.corpus, ipc=1, start_from=settings.start_from))
    method = defaults_of({"corpus": settings.corpus})["method"]
    usual |= {"ipc": 0, "method": method, "start_from": Settings.start_from}
    of_vectors = settings.corpus == CORPUS
    given = {
        name: own[name] for name in ("method", *own) if own[name] != usual[name] and name not in ("corpus", "folder")
    }
    source = ["--features", FILE] if of_vectors else ["--corpus", settings.corpus]
    words = ["edgeser", "distill", *([FOLDER] if settings.folder and not of_vectors else []), *source]
    for name, value in given.items():
        words += [FLAGS.get(name, f"--{name.replace('_', '-')}"), str(value)]
    return shlex.join([*words, "--out", RUN])


def evaluate_command(metrics: Mapping[str, Any]) -> str:
    """The command that measures the same rows with the same seeds."""
    words = ["edgeser", "evaluate", RUN]
    words += [f"--{row.replace('_', '-')}" for row in ("full", "full_best", "full_soft") if metrics.get(row)]
    if set(metrics.get("baselines") or {}) & set(BASELINES):
        words.append("--baselines")
    words += [word for name in metrics.get("transfer") or {} for word in ("--arch", name)]
    if metrics.get("convergence"):
        words.append("--convergence")
    return shlex.join([*words, "--seeds", str(len(metrics["seeds"]))])


def across_command(entry: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """The command that scores the student on another corpus, with the same emotions; DIR-NAME is where that lies."""
    labels, corpus = entry["labels"], entry["corpus"]
    maps = {own: their for own, their in labels.items() if own != their}
    maps |= {own: "" for own in metrics.get("distilled", {}).get("recalls", {}) if own not in labels}
    place = [] if corpus == "demo" else ["--on", f"{FOLDER}-{corpus}"]
    words = ["edgeser", "evaluate", RUN, *place, "--corpus", corpus]
    words += [word for own, their in maps.items() for word in ("--map", f"{own}={their}")]
    return shlex.join([*words, "--seeds", str(len(entry.get("seeds", metrics["seeds"])))])
