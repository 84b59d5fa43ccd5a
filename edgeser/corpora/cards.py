"""The card of a user's own corpus: ``card.toml`` beside the recordings.

title = "Our kitchen"
language = "English"
licence = "private"
kind = "acted"
consent = "all four of us agreed in writing"
"""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import Any, get_args

from edgeser.corpora.corpus import Card, Kind
from edgeser.corpora.errors import UnreadableLabels
from edgeser_export.text import fault_of, require_text, tidy

FILE_NAME = "card.toml"

UNSTATED = Card(
    title="own recordings",
    language="not stated",
    licence="not stated",
    licence_url=None,
    kind="unknown",
    citation="",
    access="the owner's own files",
    consent=f"not stated: write it into {FILE_NAME}",
)
"""The card of recordings about which nothing is stated."""


def read_card(folder: Path) -> Card:
    """Read ``card.toml``; what it does not state stays unstated.

    Raises:
        UnreadableLabels: It is not TOML, has an unknown key, or a value that is no text.
        TextError: A text holds signs that cannot be shown, or is too long.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        name = tidy(folder.resolve().name)
        return dataclasses.replace(UNSTATED, title=UNSTATED.title if not name or fault_of(name) else name)
    try:
        stated: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UnreadableLabels(path, f"is not readable TOML ({error})") from error
    known = [field.name for field in dataclasses.fields(Card)]
    for key, value in stated.items():
        if key not in known:
            raise UnreadableLabels(path, f"{key!r} is no field of a card; known: {', '.join(known)}")
        if not isinstance(value, str):
            raise UnreadableLabels(path, f"{key} must be text, not {value!r}")
    if stated.get("kind", "unknown") not in get_args(Kind):
        raise UnreadableLabels(path, f"kind is {stated['kind']!r}; known: {', '.join(get_args(Kind))}")
    return tidy_card(dataclasses.replace(UNSTATED, **stated), path)


def tidy_card(card: Card, path: Path) -> Card:
    """Return a card whose texts a kit can carry, each in one line.

    Raises:
        TextError: A text holds signs that cannot be shown, or is too long.
    """
    texts: dict[str, Any] = {
        key: value and require_text(value, f"{path}, {key}") for key, value in card.describe().items()
    }
    return dataclasses.replace(card, **texts)
