"""The audit as one table: an attack a line, a set a column, chance at the end; and the same lines as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeser.audit.lines import THREAT_WORDS, Found, attack_lines, control_words
from edgeser.sheet import Sheet
from edgeser_export.words import counted


def summary_lines(found: Found) -> list[dict[str, Any]]:
    """One entry for each attack and set; a figure that counts do not allow is left out."""
    return [
        {
            "set": name,
            "attack": line.attack,
            "threat_model": line.threat,
            "figure": figure,
            "chance": line.chance_of(name),
            "worse": line.worse,
            "words": figure_words(figure),
        }
        for line in attack_lines(found)
        for name, figure in line.figures.items()
        if figure is not None
    ]


def audit_table(found: Found) -> Sheet:
    """What ``edgeser audit`` prints."""
    run, membership = found["run"], found["membership"]
    shadows = counted(membership["shadows"], "shadow") if membership else "no shadows"
    names = list(found["sets"])
    table = Sheet(
        "attack",
        "attacker has",
        *(f">{name}" for name in (*names, "chance")),
        title=f"{run['corpus']}, {found['sets']['distilled']['words'].partition(': ')[2]}, "
        f"{counted(run['items'], 'item')} ({run['share']:.1%}), {counted(run['speakers'], 'speaker')}, {shadows}",
        caption="value (interval of 95 %). real_subset is the planted leak, noise the control: "
        f"{control_words(found['controls'])}. {found['machine'].get('cpu') or ''}"
        + "".join(f"\n{line}" for line in found.get("left_out", ())),
    )
    for line in attack_lines(found):
        cells = [figure_words(figure) if (figure := line.figures.get(name)) else "" for name in names]
        chance = "" if line.chance is None else f"{line.chance:.3g}"
        table.add(line.attack, THREAT_WORDS[line.threat], *cells, chance)
    return table


def figure_words(figure: Mapping[str, float]) -> str:
    """A figure with its interval, or a count, with its chance where that is its own."""
    if "count" in figure:
        return f"{figure['count']} of {figure['of']}" + _chance(figure)
    if "low" not in figure:
        return f"{figure['value']:.3g}"
    return f"{figure['value']:.3f} ({figure['low']:.2f} to {figure['high']:.2f})"


def _chance(figure: Mapping[str, float]) -> str:
    return f" (chance {100 * figure['chance']:.1f} %)" if "chance" in figure else ""
