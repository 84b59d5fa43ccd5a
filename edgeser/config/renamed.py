"""Old names of settings, which are understood for one more release: on the command line, in files and in older runs.

values, notes = modern({"expert_span": 6, "method": "mtt"})    # {"mtt.expert_span": 6, ...}, and what to write now
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from edgeser.config.settings import METHODS, SETTINGS, Settings
from edgeser.errors import SettingsError

CALLED_OTHERWISE: Mapping[str, str] = MappingProxyType(
    {
        "formations": "samples_per_item",
        "start_from": "start",
        "experts": "experts.count",
        "label_arch": "experts.arch",
        "label_width": "experts.width",
        "expert_steps": "experts.steps",
        "temperature": "experts.temperature",
        "flatness": "mtt.sam",
        "earliest_start": "mtt.min_start_epoch",
        "first_window": "mtt.first_max_start_epoch",
        "start_window": "mtt.max_start_epoch",
        "window_growth": "mtt.start_epoch_growth",
        "gate": "mtt.loss_threshold",
        "item_average": "mtt.ema_decay",
        "unroll_window": "unroll.window",
        "latent": "gan.codebook",
    }
)
IN_A_GROUP = {key.partition(".")[2]: key for key in SETTINGS if key.partition(".")[0] in METHODS}
OLD: Mapping[str, str] = MappingProxyType({**IN_A_GROUP, **CALLED_OTHERWISE})
"""Old names to keys: those above, and settings of methods, which stood without the method's name."""
REMOVED: Mapping[str, tuple[Any, ...]] = MappingProxyType({"candidates": (1, "1"), "polish": (0, "0")})
"""Settings that are gone, with the values by which nothing changed."""
FLAGS: Mapping[str, str] = MappingProxyType(
    {
        f"--{name.replace('_', '-')}": name
        for name in (*OLD, *REMOVED, *(key for key, each in SETTINGS.items() if not each.flag))
        if "." not in name and name not in ("start_from", "folder")
    }
)
"""Old options of ``distill``; ``--set`` takes their place."""


def modern(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The values by today's keys, and a note for each that was given by an old name.

    What older runs hold of other methods than their own, as it was by itself, is left out.

    Raises:
        SettingsError: A setting, or its value, is there no more.
    """
    method = values.get("method", Settings.method)
    found: dict[str, Any] = {}
    notes = []
    for name, value in values.items():
        if value in REMOVED.get(name, ()):
            continue
        if name in REMOVED or value == "crowd":
            what = "--from crowd" if value == "crowd" else f"{name} {value}"
            raise SettingsError(f"{what} was removed: no measurement showed that it helps", "leave it out")
        own = f"{method}.{name}"
        key = name if name in SETTINGS else own if name in OLD and own in SETTINGS else OLD.get(name, name)
        kept = "aligned" if value == "duet" else value
        if key != name and _was_usual(key, kept, method):
            continue
        found[key] = kept
        if (key, kept) != (name, value):
            old = spelled(name, value) if name in SETTINGS else f"{name} {value}"
            notes.append(f"{old} is now: {spelled(key, kept)}")
    return found, notes


def spelled(key: str, value: object) -> str:
    """The words that give a value of a setting on the command line."""
    flag = SETTINGS[key].flag
    return f"{flag} {value}" if flag else f"--set {key}={value}"


def _was_usual(key: str, value: object, method: str) -> bool:
    """Whether an older run holds this because every run held every setting; 0 left the method its own."""
    group = key.partition(".")[0]
    elsewhere = group in METHODS and group != method
    return (value == 0 and (elsewhere or SETTINGS[key].low > 0)) or (elsewhere and value == SETTINGS[key].default)
