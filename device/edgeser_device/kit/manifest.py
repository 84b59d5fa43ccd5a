"""The fields of a kit's manifest in one table, checked before anything else of a kit is used."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from edgeser_device.errors import KitError
from edgeser_export.utilities.outside import is_label, is_text

Check: TypeAlias = Callable[[Any], bool]
MOST_DEPTH = 12
MOST_CLASSES = 255
"""Classes are stored in one byte each."""


def is_plain(value: Any, depth: int = 0) -> bool:
    """Any JSON value whose texts can be printed, not too deep."""
    if depth > MOST_DEPTH:
        return False
    if isinstance(value, str):
        return is_text(value)
    if isinstance(value, list):
        return all(is_plain(item, depth + 1) for item in value)
    if isinstance(value, dict):
        return all(is_text(key) and is_plain(item, depth + 1) for key, item in value.items())
    return value is None or isinstance(value, bool | int | float)


def whole(least: int, most: int) -> Check:
    """A whole number from ``least`` to ``most``."""
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def number(least: float, most: float) -> Check:
    """A number from ``least`` to ``most``."""
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def optional(check: Check) -> Check:
    """None, or what ``check`` says."""
    return lambda value: value is None or check(value)


def texts(most: int, check: Check = is_text) -> Check:
    """At most this many texts."""
    return lambda value: isinstance(value, list) and len(value) <= most and all(map(check, value))


def of_plain_object(value: Any) -> bool:
    """An object of any printable values."""
    return isinstance(value, dict) and is_plain(value)


def _hexadecimal(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None


_COUNT = whole(0, 1 << 62)
_TARGET: Mapping[str, Check] = {
    "name": is_text,
    "title": is_text,
    "memory_mb": whole(1, 1 << 30),
    "threads": whole(1, 256),
    "runtime": is_text,
    "precision": is_text,
    "platforms": texts(64),
    "known_bad": of_plain_object,
}
_STUDENT: Mapping[str, Check] = {
    "architecture": is_text,
    "width": number(0, 1000),
    "parameters": _COUNT,
    "multiply_accumulates": _COUNT,
}
_BUDGETS: Mapping[str, Check] = {
    "ipc": whole(1, 65535),
    "share": optional(number(0, 1_000_000)),
    "items": whole(1, 65535),
    "train_items": optional(_COUNT),
    "views": whole(1, 1 << 31),
    "corpus_bytes": optional(_COUNT),
    "distilled_bytes": _COUNT,
}
_PROVENANCE: Mapping[str, Check] = {
    "edgeser": optional(is_text),
    "method": is_text,
    "seed": whole(-(1 << 62), 1 << 62),
    "corpus": of_plain_object,
    "split": of_plain_object,
    "config": of_plain_object,
}
_PRIVACY: Mapping[str, Check] = {"privacy": is_text, "dp": of_plain_object}
NOTHING: Mapping[str, Check] = {}
_MEMBER: Mapping[str, Check] = {
    "bytes": _COUNT,
    "sha256": _hexadecimal,
    "packed_bytes": _COUNT,
    "packed_sha256": _hexadecimal,
}
_WHEELS: Mapping[str, Check] = {"python": is_text, "platforms": texts(64), "requirements": texts(128)}
_SIGNER: Mapping[str, Check] = {"algorithm": lambda value: value == "ed25519", "key": is_text}


def has(fields: Mapping[str, Check], more: Mapping[str, Check] = NOTHING) -> Check:
    """An object of exactly these fields, and of any of ``more``."""
    return lambda value: (
        isinstance(value, dict)
        and set(fields) <= set(value) <= {*fields, *more}
        and all({**fields, **more}[name](entry) for name, entry in value.items())
    )


def _members(value: Any) -> bool:
    return isinstance(value, dict) and all(is_text(name) and has(_MEMBER)(entry) for name, entry in value.items())


FIELDS: Mapping[str, Check] = {
    "schema": whole(1, 1 << 30),
    "edgeser": is_text,
    "target": has(_TARGET),
    "labels": texts(MOST_CLASSES, is_label),
    "frontend": of_plain_object,
    "schedule": of_plain_object,
    "student": has(_STUDENT),
    "budgets": has(_BUDGETS),
    "provenance": has(_PROVENANCE, _PRIVACY),
    "results": of_plain_object,
    "members": _members,
}
"""The fields that a manifest must have, and the check of each."""
EXTRA_FIELDS: Mapping[str, Check] = {"wheels": has(_WHEELS), "signer": has(_SIGNER)}
"""Fields that a manifest may have: the wheels for an installation without a network, and the signer."""


def check_manifest(manifest: Mapping[str, Any]) -> None:
    """Compare a manifest with the tables of fields.

    Raises:
        KitError: A field is missing, unknown, or not what it should be.
    """
    for name in sorted(set(FIELDS) - set(manifest)):
        raise KitError(f"the kit's manifest lacks {name!r}", "pack the kit again")
    for name, value in manifest.items():
        check = FIELDS.get(name) or EXTRA_FIELDS.get(name)
        if check is None:
            raise KitError(f"the kit's manifest has an unknown field {name[:40]!r}", "pack the kit again")
        if not check(value):
            raise KitError(f"the kit's manifest has an impossible {name!r}", "pack the kit again")
