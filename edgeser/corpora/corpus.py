"""The corpus as a data type: utterances with emotion and speaker, a card, and the speaker lists of its splits."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

from edgeser.corpora.errors import UnreadableLabels
from edgeser_export.utilities.outside import fault_of, require_text, tidy

Kind = Literal["acted", "elicited", "natural", "synthetic", "unknown"]


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recording of one person, with one emotion."""

    path: Path
    """The recording."""
    emotion: str
    """A plain English noun: anger, happiness, neutral ..."""
    speaker: str
    """Who speaks; unique within the corpus."""
    sex: str | None = None
    """"female", "male" or unknown."""
    session: str | None = None
    """The recording session, where the corpus has sessions."""


@dataclass(frozen=True, slots=True)
class Card:
    """The facts that one must know before using a corpus: its licence, its kind and the consent behind it."""

    title: str
    language: str
    licence: str
    licence_url: str | None
    kind: Kind
    """Whether the emotion was acted, elicited, natural or made by a machine."""
    citation: str
    access: str
    """The place where the corpus is got, and the agreement that must be signed for it."""
    consent: str
    """The use that the speakers agreed to, as far as it is known."""
    notes: str = ""
    """Known defects of the recordings or labels."""

    def describe(self) -> dict[str, str | None]:
        """Return the fields as a JSON-able mapping."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True)
class SpeakerParts:
    """The speakers of the dev and test parts; every other speaker is for training."""

    dev: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A recording that a loader left out, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Corpus:
    """A corpus as it lies on the disk."""

    name: str
    folder: Path
    utterances: tuple[Utterance, ...]
    """Sorted by path."""
    labels: tuple[str, ...]
    """The emotions that occur, in alphabetical order. This order is the class order everywhere."""
    card: Card
    splits: Mapping[str, SpeakerParts] = field(default_factory=lambda: MappingProxyType({}))
    """Named splits with fixed speaker lists: quick, official, fold:1 ..."""
    skipped: tuple[Skipped, ...] = ()
    remarks: tuple[str, ...] = ()
    """Sentences about labels and names that a loader read otherwise than they are written, or could not be sure of."""
    parts: tuple[Corpus, ...] = ()
    """The corpora of which this one is made; none of a single corpus. Speakers are called PART/SPEAKER here."""
    form: str = ""
    """The name of the format of such a part."""
    renamed: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Names that emotions of such a part have here, by their own names; empty where they were dropped."""
    weight: float = 1.0
    """The share of such a part beside the others."""

    @property
    def ignored(self) -> int:
        """The number of recordings that were left out."""
        return len(self.skipped)

    def below(self, path: Path) -> str:
        """Return a recording's path below the corpus's folder."""
        return path.relative_to(self.folder).as_posix() if path.is_relative_to(self.folder) else str(path)

    @property
    def speakers(self) -> tuple[str, ...]:
        """All speakers, in alphabetical order."""
        return tuple(sorted({utterance.speaker for utterance in self.utterances}))


@dataclass(frozen=True, slots=True)
class Spoken:
    """The facts that a file name states about its utterance."""

    emotion: str
    speaker: str
    sex: str | None = None
    session: str | None = None


NameParser = Callable[[str], Spoken | str | None]
"""Reads a file name without its extension; None where the name does not fit the corpus, or a reason to leave it out."""


@dataclass(frozen=True)
class CorpusFormat:
    """A row of the table of corpora."""

    name: str
    layout: str
    """One line: what the folder must look like."""
    emotions: tuple[str, ...]
    """The emotions the full corpus has, in alphabetical order; empty where the user's data decide."""
    card: Card
    load: Callable[[Path], Corpus] | None = None
    """A function that reads a corpus from its place; None where file names say everything."""
    parse_name: NameParser = lambda _stem: None
    splits: Mapping[str, SpeakerParts] = field(default_factory=lambda: MappingProxyType({}))
    """Named splits of a corpus whose file names say everything."""
    wanted: str = "folder"
    """The kind of place that `load` is given: a folder, or a manifest."""
    built_in: Path | None = None
    """The folder of the recordings when they are part of the package."""


def sorted_labels(utterances: tuple[Utterance, ...]) -> tuple[str, ...]:
    """Return the emotions that occur, in alphabetical order."""
    return tuple(sorted({utterance.emotion for utterance in utterances}))


def conflicts_of(copies: Collection[Utterance]) -> list[str]:
    """Return what differs between copies of one recording and must not: emotions, speakers, or both."""
    words = {"emotions": {one.emotion for one in copies}, "speakers": {one.speaker for one in copies}}
    return [word for word, values in words.items() if len(values) > 1]


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
