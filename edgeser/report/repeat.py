"""The commands that repeat a run and what was measured of it.

for line in commands(run, metrics, audit):
    ...                                         # edgeser distill DIR --corpus ravdess --ipc 6 --out RUN
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from edgeser.config.renamed import spelled
from edgeser.config.settings import JOINED, VECTORS, Settings
from edgeser.config.values import given_in
from edgeser.evaluation.conditions import BASELINES
from edgeser.representation import representation_of

RUN, FOLDER, FILE = "RUN", "DIR", "FILE"
"""Stand for the run's folder, the corpus's, and a file of vectors or corpora: they lie elsewhere on another machine."""
TARGET = "rpi4"
"""The board whose kit is made and measured; those of other boards differ by a few bytes."""


def commands(settings: Settings, metrics: Mapping[str, Any], audit: Mapping[str, Any] | None) -> list[str]:
    """The commands to type, in this order.

    Args:
        settings: The settings of the run, as the user gave them.
        metrics: The figures that evaluate measured.
        audit: The findings of audit, or None.
    """
    lines = [distill_command(settings), evaluate_command(metrics)]
    lines += [across_command(entry, metrics) for entry in metrics.get("on") or []]
    if audit is not None:
        lines.append(str(audit["command"]))
    lines.append(f"edgeser report {RUN}")
    of_log_mels = representation_of(settings).has_time
    return [*lines, f"edgeser pack {RUN} --target {TARGET} --out {RUN}.edgeser"] if of_log_mels else lines


def distill_command(settings: Settings) -> str:
    """The command that makes a run of these settings; only what differs from the defaults is named."""
    given = given_in(settings)
    if settings.corpus in (VECTORS, JOINED):
        source = [f"--{settings.corpus}", FILE]
    else:
        source = [*([FOLDER] if settings.folder else []), "--corpus", settings.corpus]
    words = ["edgeser", "distill", *source]
    for key, value in given.items():
        words += [] if key in ("corpus", "folder") else spelled(key, value).split(" ", 1)
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
    if metrics.get("robust"):
        words.append("--robust")
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
