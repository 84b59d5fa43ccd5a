"""The audit as one table: an attack a line, a set a column, chance at the end; and the same lines as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from rich.table import Table

Found: TypeAlias = Mapping[str, Any]
"""What ``audit.json`` holds."""
Line: TypeAlias = tuple[str, str, Mapping[str, Any], float | None]
"""Attack, threat model, figure of each set, chance."""

THREAT_WORDS = {"set": "the set", "set_and_labels": "the kit", "model": "a model"}
SPACE_WORDS = {"log_mel": "log-mel", "patterns": "patterns", "features": "features"}


def summary_lines(found: Found) -> list[dict[str, Any]]:
    """One entry for each attack and set; a figure that counts do not allow is left out."""
    return [
        {
            "set": name,
            "attack": attack,
            "threat_model": threat,
            "figure": figure,
            "chance": chance,
            "words": _words(figure),
        }
        for attack, threat, figures, chance in _lines(found)
        for name, figure in figures.items()
        if figure is not None
    ]


def audit_table(found: Found) -> Table:
    """What ``edgeser audit`` prints."""
    from rich.table import Table

    run, membership = found["run"], found["membership"]
    shadows = f"{membership['shadows']} shadows" if membership else "no shadows"
    table = Table(
        title=f"{run['corpus']}, {found['sets']['distilled']['words'].partition(': ')[2]}, {run['items']} items "
        f"({run['share']:.1%}), {run['speakers']} speakers, {shadows}",
        caption="value (interval of 95 %). real_subset is the planted leak, noise the control. "
        f"{found['machine'].get('cpu') or ''}",
    )
    table.add_column("attack")
    table.add_column("attacker has")
    names = list(found["sets"])
    for name in [*names, "chance"]:
        table.add_column(name, justify="right")
    for attack, threat, figures, chance in _lines(found):
        cells = [_words(figures[name]) if figures.get(name) else "" for name in names]
        table.add_row(attack, THREAT_WORDS[threat], *cells, "" if chance is None else f"{chance:.3g}")
    return table


def _lines(found: Found) -> Iterator[Line]:
    yield from _membership_lines(found["membership"])
    yield from _copy_lines(found["copies"])
    speakers = found["speakers"]
    for name, words in (("applied", "speaker of an item"), ("retrained", "speaker of a recording, learnt from items")):
        own = _with_bank({key: each[name]["top_1"] for key, each in speakers["sets"].items()})
        yield f"{words}, top-1", "set", own, None if name == "applied" else speakers["chance"]["top_1"]
        own = _with_bank({key: each[name]["equal_error"] for key, each in speakers["sets"].items()})
        yield f"{words}, equal error", "set", own, 0.5
    guessed = _with_bank({key: {"value": each["chance"]} for key, each in speakers["sets"].items()})
    yield "speaker of an item, top-1 by guessing", "set", guessed, None
    if found["sex"]:
        own = _with_bank({key: each["applied"]["auc"] for key, each in found["sex"]["sets"].items()})
        yield "sex of an item's speaker, AUC", "set", own, 0.5


def _membership_lines(membership: Found | None) -> Iterator[Line]:
    if membership is None:
        return
    for level in ("utterance", "speaker"):
        for threat in THREAT_WORDS:
            own = {name: each[threat][level] for name, each in membership["sets"].items()}
            for attack, words in (("likelihood_ratio", "likelihood ratio"), ("threshold", "threshold")):
                known = {name: each[attack] if each else {} for name, each in own.items()}
                for key, title, chance in (
                    ("auc", "AUC", 0.5),
                    ("tpr_at_5", "TPR at 5 % FPR", 0.05),
                    ("tpr_at_1", "TPR at 1 % FPR", 0.01),
                    ("tpr_at_0.1", "TPR at 0.1 % FPR", 0.001),
                ):
                    figures = {name: each.get(key) for name, each in known.items()}
                    if any(figures.values()) and (key == "auc" or attack == "likelihood_ratio"):
                        yield f"member ({level}), {words}, {title}", threat, figures, chance


def _copy_lines(copies: Found) -> Iterator[Line]:
    for space, found in copies["spaces"].items():
        where = SPACE_WORDS[space]
        own = _with_bank({name: {"value": each["nearest"]["least"]} for name, each in found["sets"].items()})
        least = found["real"]["other_speaker"].get("least")
        yield f"least distance to a recording, {where} ({found['unit']}; chance: other speakers')", "set", own, least
        linked = _with_bank({name: each["source"] for name, each in found["sets"].items()})
        yield f"items nearest to a recording that they are or began as, {where}", "set", linked, _chance(linked)
        for relative, words in ((False, "nearer than"), (True, "nearer for its neighbourhood than")):
            for key, title, chance in (("below_least", "all", None), ("below_lower", "95 % of", 0.05)):
                figures = {name: (each["relative"] if relative else each)[key] for name, each in found["sets"].items()}
                figures = _with_bank(figures)
                yield f"items {words} {title} recordings of others, {where}", "set", figures, chance


def _chance(figures: dict[str, Any]) -> float | None:
    """Chance where it is the same for all sets."""
    found = {figure["chance"] for figure in figures.values() if figure}
    return found.pop() if len(found) == 1 else None


def _with_bank(figures: dict[str, Any]) -> dict[str, Any]:
    """What does not depend on labels is the same for the bank and for the subset: their items are."""
    return {**figures, "random_bank": figures["real_subset"]}


def _words(figure: Mapping[str, float]) -> str:
    if "count" in figure:
        return f"{figure['count']} of {figure['of']}"
    if "low" not in figure:
        return f"{figure['value']:.3g}"
    return f"{figure['value']:.3f} ({figure['low']:.2f} to {figure['high']:.2f})"
