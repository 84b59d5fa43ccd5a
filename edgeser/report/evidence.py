"""The findings of an audit, as tables and figures of the page.

audit = read_audit(run)
audit.worst, audit.attacks
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeser.privacy.attack_lines import THREAT_WORDS
from edgeser.privacy.audit_summary import largest_area, read_found
from edgeser.report.charts import figure_chart
from edgeser.run import Run

FILE = "audit.json"


@dataclass(frozen=True)
class Audit:
    """The audit of a run.

    Attributes:
        found: The contents of audit.json.
        sets: Names of the sets that were attacked, with what each is.
        attacks: Lines of the table: "words" of the attack, what it "knows", the "cells" with what it found in each set,
            and what guessing finds, "chance"; texts that are empty where there is no figure.
        chart: Membership as a picture, or empty.
        worst: The highest AUC of any membership attack about recordings on the run's own set, or None.
        silent: Attacks that did not find the planted leak, in words; they say nothing of the other sets.
    """

    found: Mapping[str, Any]
    sets: Mapping[str, str]
    attacks: Sequence[Mapping[str, Any]]
    chart: str
    worst: Mapping[str, Any] | None
    silent: Sequence[str]


def read_audit(run: Run) -> Audit | None:
    """The audit of a run; None where it has none, or ships a generator: it would be of items that are not shipped.

    Raises:
        RunError: audit.json is damaged, or of another version.
    """
    return None if run.settings().gan.ship == "generator" else read_found(run.folder, _audit)


def _audit(found: Mapping[str, Any]) -> Audit:
    sets = {name: str(each["words"]) for name, each in found["sets"].items()}
    lines: dict[tuple[str, str], dict[str, Any]] = {}
    for line in found["summary"]:
        lines.setdefault((line["attack"], line["threat_model"]), {})[line["set"]] = line
    attacks = []
    for (words, threat), by_set in lines.items():
        chances = {line["chance"] for line in by_set.values()}
        chance = chances.pop() if len(chances) == 1 else None  # each of its own stands in its cell
        cells = tuple(by_set[name]["words"] if name in by_set else "" for name in sets)
        guessed = "" if chance is None else f"{chance:.3g}"
        attacks.append({"words": words, "knows": THREAT_WORDS[threat], "cells": cells, "chance": guessed})
    areas = _membership_areas(found.get("membership"))
    chart = figure_chart("membership", areas, 0.5, "AUC; dotted: chance") if areas else ""
    worst = largest_area(found, "distilled")
    silent = [
        f"{line['attack']} ({THREAT_WORDS[line['threat_model']]})"
        for line in found.get("controls") or []
        if not line["finds_the_leak"]
    ]
    return Audit(found, sets, attacks, chart, worst, silent)


def _membership_areas(membership: Mapping[str, Any] | None) -> list[tuple[str, Mapping[str, float]]]:
    """By set and threat model, the AUC of the likelihood-ratio attack on utterances."""
    if membership is None:
        return []
    return [
        (f"{name}, {THREAT_WORDS[threat]}", levels["utterance"]["likelihood_ratio"]["auc"])
        for name, by_threat in membership["sets"].items()
        for threat, levels in by_threat.items()
        if levels["utterance"] and levels["utterance"]["likelihood_ratio"]["auc"]
    ]
