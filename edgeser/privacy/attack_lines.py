"""The figures of an audit as lines: one for each attack, with what chance is and which side of it tells of a leak.

for line in attack_lines(found):
    print(line.attack, line.figures["distilled"], line.chance)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from edgeser.report.tables import Sheet
from edgeser_export.utilities.words import counted

Found: TypeAlias = Mapping[str, Any]
"""The contents of ``audit.json``."""
THREAT_WORDS = {"set": "the set", "set_and_labels": "the kit", "model": "a model"}
SPACE_WORDS = {"log_mel": "log-mel", "patterns": "patterns", "features": "features"}
LEAK, CONTROL = "real_subset", "noise"
"""Sets of which it is known what an attack must say: everything, nothing."""
RATES = (
    ("auc", "AUC", 0.5),
    ("tpr_at_5", "TPR at 5 % FPR", 0.05),
    ("tpr_at_1", "TPR at 1 % FPR", 0.01),
    ("tpr_at_0.1", "TPR at 0.1 % FPR", 0.001),
)
ATTACKS = (("likelihood_ratio", "likelihood ratio"), ("threshold", "threshold"))


@dataclass(frozen=True)
class Line:
    """One attack.

    Attributes:
        attack: The attack in words.
        threat: The attacker's knowledge, a key of ``THREAT_WORDS``.
        figures: The figure of each set; None where counts do not allow it. One may have a ``chance`` of its own.
        chance: The figure of an attack that knows nothing; None where there is none, or one for each set.
        worse: "more" or "less" where a figure on that side of chance tells of a leak; empty where none does.
    """

    attack: str
    threat: str
    figures: Mapping[str, Mapping[str, Any] | None]
    chance: float | None
    worse: str = ""

    def tells(self, name: str) -> bool | None:
        """Whether the whole interval of a set is on the leak's side of chance; None where that cannot be said."""
        figure, chance = self.figures.get(name), self.chance_of(name)
        if not figure or "low" not in figure or chance is None or not self.worse:
            return None
        return bool(figure["low"] > chance if self.worse == "more" else figure["high"] < chance)

    def chance_of(self, name: str) -> float | None:
        """The figure of an attack that knows nothing on a set."""
        own: float | None = (self.figures.get(name) or {}).get("chance", self.chance)
        return own


def attack_lines(found: Found) -> Iterator[Line]:
    """All attacks: membership, copies, speakers, sex."""
    yield from _membership_lines(found["membership"])
    yield from _copy_lines(found["copies"])
    yield from _speaker_lines(found["speakers"])
    if found["sex"]:
        own = _with_bank({key: each["applied"]["auc"] for key, each in found["sex"]["sets"].items()})
        yield Line("sex of an item's speaker, AUC", "set", own, 0.5, "more")


def control_lines(found: Found) -> list[dict[str, Any]]:
    """The answers of each attack on the planted leak and on noise: one that misses the leak tells nothing of others.

    An interval of 95 % is above chance by accident in one of forty attacks that know nothing.
    """
    return [
        {
            "attack": line.attack,
            "threat_model": line.threat,
            "finds_the_leak": line.tells(LEAK),
            "finds_noise": line.tells(CONTROL),
        }
        for line in attack_lines(found)
        if line.tells(LEAK) is not None
    ]


def control_words(controls: list[dict[str, Any]]) -> str:
    """The same in a sentence."""
    found = sum(line["finds_the_leak"] for line in controls)
    asked = [line["finds_noise"] for line in controls if line["finds_noise"] is not None]
    leak = f"{found} of {len(controls)} figures are above chance on the planted leak"
    return f"{leak}, {sum(asked)} of {len(asked)} on noise"


def _membership_lines(membership: Found | None) -> Iterator[Line]:
    if membership is None:
        return
    for level in ("utterance", "speaker"):
        for threat in THREAT_WORDS:
            own = {name: each[threat][level] for name, each in membership["sets"].items()}
            for attack, words in ATTACKS:
                known = {name: each[attack] if each else {} for name, each in own.items()}
                for key, title, chance in RATES:
                    figures = {name: each.get(key) for name, each in known.items()}
                    if any(figures.values()) and (key == "auc" or attack == "likelihood_ratio"):
                        yield Line(f"member ({level}), {words}, {title}", threat, figures, chance, "more")


def _copy_lines(copies: Found) -> Iterator[Line]:
    for space, found in copies["spaces"].items():
        where, sets = SPACE_WORDS[space], found["sets"]
        own = _with_bank({name: {"value": each["nearest"]["least"]} for name, each in sets.items()})
        least = found["real"]["other_speaker"].get("least")
        attack = f"least distance to a recording, {where} ({found['unit']}; chance: other speakers')"
        yield Line(attack, "set", own, least)
        linked = _with_bank({name: each["source"] for name, each in sets.items()})
        yield Line(f"items nearest to a recording that they are or began as, {where}", "set", linked, None, "more")
        for relative, words in ((False, "nearer than"), (True, "nearer for its neighbourhood than")):
            for key, title, chance in (("below_least", "all", None), ("below_lower", "95 % of", 0.05)):
                figures = {name: (each["relative"] if relative else each)[key] for name, each in sets.items()}
                attack = f"items {words} {title} recordings of others, {where}"
                yield Line(attack, "set", _with_bank(figures), chance, "more")


def _speaker_lines(speakers: Found | None) -> Iterator[Line]:
    if speakers is None:
        return
    sets = speakers["sets"]
    for name, words in (("applied", "speaker of an item"), ("retrained", "speaker of a recording, learnt from items")):
        own = _with_bank({key: each[name]["top_1"] for key, each in sets.items()})
        yield Line(f"{words}, top-1", "set", own, speakers["chance"]["top_1"] if name == "retrained" else None, "more")
        own = _with_bank({key: each[name]["equal_error"] for key, each in sets.items()})
        yield Line(f"{words}, equal error", "set", own, 0.5, "less")
    guessed = _with_bank({key: {"value": each["chance"]} for key, each in sets.items()})
    yield Line("speaker of an item, top-1 by guessing", "set", guessed, None)


def _with_bank(figures: dict[str, Any]) -> dict[str, Any]:
    """The figures with those of the bank, which are the leak's where labels play no part: their items are the same."""
    return {**figures, "random_bank": figures[LEAK]} if LEAK in figures else figures


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
    """The table that ``edgeser audit`` prints."""
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
