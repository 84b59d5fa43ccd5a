"""An audit in a few figures: what a kit's card says of it.

read_digest(Path("runs/ravdess"))       # None where the run was not audited
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from edgeser.errors import RunError
from edgeser.privacy.attack_lines import THREAT_WORDS, Found, attack_lines, control_lines, figure_words

Result = TypeVar("Result")


def read_digest(folder: Path) -> dict[str, Any] | None:
    """The digest of a run's audit; None where there is none.

    Raises:
        RunError: audit.json is damaged, or of another version.
    """
    return read_found(folder, audit_digest)


def read_found(folder: Path, understood: Callable[[Found], Result]) -> Result | None:
    """The result of a function of a run's audit; None where there is none.

    Raises:
        RunError: audit.json is damaged, or of another version.
    """
    path = folder / "audit.json"
    if not path.is_file():
        return None
    try:
        return understood(json.loads(path.read_bytes()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path} cannot be understood: {error!r}", f"run: edgeser audit {folder} --resume") from error


def audit_digest(found: Found) -> dict[str, Any]:
    """The largest area of a membership attack, copies and sources of the run's set, and whether attacks work.

    Returns:
        ``{"shadows", "membership": null or {"value", "low", "high", "attack", "threat_model"}, "items", "nearer": items
        nearer to a recording than recordings of two speakers are, by space, "sources": in patterns, null or {"count",
        "of", "chance"}, "controls": {"found", "of"}}``
    """
    spaces, controls = found["copies"]["spaces"], control_lines(found)
    source = spaces["patterns"]["sets"]["distilled"]["source"]
    return {
        "shadows": found["membership"]["shadows"] if found["membership"] else 0,
        "membership": largest_area(found, "distilled"),
        "items": found["run"]["items"],
        "nearer": {name: space["sets"]["distilled"]["below_least"]["count"] for name, space in spaces.items()},
        "sources": {key: source[key] for key in ("count", "of", "chance")} if source else None,
        "controls": {"found": sum(line["finds_the_leak"] for line in controls), "of": len(controls)},
    }


def largest_area(found: Found, name: str) -> dict[str, Any] | None:
    """The largest area of any membership attack about recordings on a set, with its interval; None without shadows."""
    areas = [
        {**figure, "attack": line.attack.split(", ")[1], "threat_model": line.threat}
        for line in attack_lines(found)
        if line.attack.startswith("member (utterance)") and line.attack.endswith("AUC")
        if (figure := line.figures.get(name))
    ]
    return max(areas, key=lambda area: area["value"], default=None)


def digest_lines(digest: Mapping[str, Any]) -> list[str]:
    """The digest in sentences."""
    lines, area = [], digest["membership"]
    if area:
        interval = f"AUC {area['value']:.3f}, {area['low']:.2f} to {area['high']:.2f} (0.5 is chance)"
        lines.append(
            f"Was a recording used? {interval}: the best of the attacks that were tried, {area['attack']} by who has "
            f"{THREAT_WORDS[area['threat_model']]}; {digest['shadows']} shadow runs"
        )
    nearer = ", ".join(f"{count} by {name.replace('_', '-')}" for name, count in digest["nearer"].items())
    lines.append(f"Of {digest['items']} items, nearer to a recording than recordings of two speakers are: {nearer}")
    if digest["sources"]:
        found = figure_words(digest["sources"])
        lines.append(f"For {found} items the nearest recording is one that they are or began as (patterns)")
    controls = digest["controls"]
    lines.append(f"{controls['found']} of {controls['of']} figures of these attacks find a leak that was planted")
    return lines
