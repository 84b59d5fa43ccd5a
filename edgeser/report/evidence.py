"""What an audit and tests on other corpora found, as tables and figures of the page.

table = audit_table(json.loads(path.read_bytes()))
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeser.errors import RunError
from edgeser.privacy.audit_summary import largest_area
from edgeser.report.charts import figure_chart
from edgeser.run import Run

FILE = "audit.json"
KNOWS = {"set": "the set", "set_and_labels": "the kit", "model": "a model"}
"""What an attacker has, by threat model."""


@dataclass(frozen=True)
class Attack:
    """A line of the audit's table.

    Attributes:
        words: The attack.
        knows: What the attacker has.
        cells: What it found in each set, in words; empty where counts do not allow a figure.
        chance: What guessing finds, in words.
    """

    words: str
    knows: str
    cells: tuple[str, ...]
    chance: str


@dataclass(frozen=True)
class Audit:
    """The audit of a run.

    Attributes:
        found: What audit.json holds.
        sets: Names of the sets that were attacked, with what each is.
        attacks: Lines of the table.
        chart: Membership as a picture, or empty.
        worst: The highest AUC of any membership attack about recordings on the run's own set, or None.
        silent: Attacks that did not find the planted leak, in words; they say nothing of the other sets.
    """

    found: Mapping[str, Any]
    sets: Mapping[str, str]
    attacks: Sequence[Attack]
    chart: str
    worst: Mapping[str, Any] | None
    silent: Sequence[str]


def read_audit(run: Run) -> Audit | None:
    """The audit of a run; None where it has none, or ships a generator: it would be of items that are not shipped.

    Raises:
        RunError: audit.json is damaged, or of another version.
    """
    path = run.folder / FILE
    if not path.is_file() or run.settings().gan.ship == "generator":
        return None
    try:
        return _audit(json.loads(path.read_bytes()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"{path} cannot be understood: {error!r}", f"run: edgeser audit {run.folder} --resume"
        ) from error


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
        attacks.append(Attack(words, KNOWS.get(threat, threat), cells, "" if chance is None else f"{chance:.3g}"))
    areas = _membership_areas(found.get("membership"))
    chart = figure_chart("membership", areas, 0.5, "AUC; dotted: chance") if areas else ""
    worst = largest_area(found, "distilled")
    silent = [
        f"{line['attack']} ({KNOWS.get(line['threat_model'], line['threat_model'])})"
        for line in found.get("controls") or []
        if not line["finds_the_leak"]
    ]
    return Audit(found, sets, attacks, chart, worst, silent)


def _membership_areas(membership: Mapping[str, Any] | None) -> list[tuple[str, Mapping[str, float]]]:
    """By set and threat model, the AUC of the likelihood-ratio attack on utterances."""
    if membership is None:
        return []
    return [
        (f"{name}, {KNOWS.get(threat, threat)}", levels["utterance"]["likelihood_ratio"]["auc"])
        for name, by_threat in membership["sets"].items()
        for threat, levels in by_threat.items()
        if levels["utterance"] and levels["utterance"]["likelihood_ratio"]["auc"]
    ]
