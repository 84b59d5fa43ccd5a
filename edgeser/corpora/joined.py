"""Several corpora as one, as a TOML file names them.

    [[corpora]]
    folder = "data/ravdess"
    corpus = "ravdess"
    labels = { calm = "neutral", disgust = "" }

    corpus = load_joined(Path("corpora.toml"), leave_out="urdu")

``folder`` is relative to the file, and the built-in corpus needs none. ``labels`` says what their emotions are called
here; an empty name drops one. ``weight`` is the share of a corpus beside the others (1), and ``name`` its name where
two corpora have one format. A speaker is called CORPUS/SPEAKER, so that no two corpora share one.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeser.config.settings import JOINED, Settings
from edgeser.corpora.corpus import Card, Corpus, Utterance, sorted_labels
from edgeser.corpora.emotions import plain_name, read_label
from edgeser.corpora.errors import BadCorpora
from edgeser.corpora.table import CORPORA, find_corpus, load_corpus
from edgeser_export.utilities.errors import choice_hint
from edgeser_export.utilities.files import write_bytes
from edgeser_export.utilities.outside import expand, require_label

KEYS: Mapping[str, type | tuple[type, ...]] = {
    "corpus": str,
    "folder": str,
    "labels": dict,
    "name": str,
    "weight": (int, float),
}
"""The keys of a table, and the types of their values."""
MOST_WEIGHT = 100
"""The largest weight of a corpus."""
EXAMPLE = 'write a table for each: [[corpora]], folder = "data/emodb", corpus = "emodb"'


@dataclass(frozen=True)
class Entry:
    """One corpus of several, as the file names it.

    Attributes:
        name: Its name beside the others.
        corpus: The name of its format.
        folder: Its place; None for the built-in corpus.
        labels: Our emotion for each of theirs that is called otherwise; empty where it is dropped.
        weight: Its share beside the others.
    """

    name: str
    corpus: str
    folder: Path | None
    labels: Mapping[str, str]
    weight: float

    def to_toml(self) -> dict[str, Any]:
        """The table of the file, with an absolute folder."""
        place = {"folder": str(self.folder)} if self.folder else {}
        return {"name": self.name, "corpus": self.corpus, **place, "labels": dict(self.labels), "weight": self.weight}


def read_entries(path: Path, leave_out: str = "") -> tuple[Entry, ...]:
    """The corpora that a file names, without the one of the name ``leave_out``; no corpus is looked into.

    Raises:
        BadCorpora: The file cannot be read, or says something that is not understood.
        CorpusError: A format or a folder does not exist.
    """
    try:
        stated = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise BadCorpora(path, f"cannot be read ({error.strerror})", "check the path given to --corpora") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadCorpora(path, f"is not readable TOML ({error})", EXAMPLE) from error
    tables = stated.get("corpora")
    if set(stated) != {"corpora"} or not isinstance(tables, list) or not tables:
        others = sorted(set(stated) - {"corpora"})
        raise BadCorpora(path, f"has the unknown key {others[0]!r}" if others else "has no [[corpora]]", EXAMPLE)
    entries = tuple(_entry(path, number, table) for number, table in enumerate(tables, start=1))
    names = [entry.name for entry in entries]
    for name in names:
        if names.count(name) > 1:
            raise BadCorpora(path, f"has two corpora called {name!r}", 'tell them apart: name = "..." in each table')
    if leave_out and leave_out not in names:
        raise BadCorpora(path, f"has no corpus {leave_out!r} to leave out", choice_hint(leave_out, names))
    kept = tuple(entry for entry in entries if entry.name != leave_out)
    if not kept:
        raise BadCorpora(path, "has no corpus besides the one that is left out", "name at least one other corpus")
    return kept


def _entry(path: Path, number: int, table: Any) -> Entry:
    where = f"in table {number} of [[corpora]], "
    if not isinstance(table, dict):
        raise BadCorpora(path, f"{where}there is no table", EXAMPLE)
    for key, value in table.items():
        if key not in KEYS:
            raise BadCorpora(path, f"{where}{key!r} is no known key", choice_hint(key, KEYS))
        if not isinstance(value, KEYS[key]) or isinstance(value, bool):
            raise BadCorpora(path, f"{where}{key} is {value!r}", EXAMPLE)
    if not table.get("corpus"):
        raise BadCorpora(path, f"{where}no corpus is named", EXAMPLE)
    weight = float(table.get("weight", 1))
    if not 0 < weight <= MOST_WEIGHT:
        raise BadCorpora(path, f"{where}weight is {weight:g}", f"give a number above 0, at most {MOST_WEIGHT}")
    name = require_label(str(table.get("name") or table["corpus"]), f"{path}, name")
    labels = {}
    for theirs, ours in table.get("labels", {}).items():
        if not isinstance(ours, str):
            raise BadCorpora(path, f"{where}{theirs!r} is mapped to {ours!r}", 'give a name, or "" to drop it')
        labels[plain_name(theirs)] = read_label(ours, f"{path}, labels") if ours.strip() else ""
    place = (path.parent / expand(Path(table["folder"]))).resolve() if table.get("folder") else None
    find_corpus(table["corpus"], place)
    return Entry(name, table["corpus"], place, labels, weight)


def load_joined(path: Path, leave_out: str = "") -> Corpus:
    """The corpora that a file names, as one; no recording is opened.

    Raises:
        BadCorpora: As :func:`read_entries`; or a map names an emotion that its corpus has not, leaves nothing of it,
            or all corpora together have fewer than two emotions; or two of them are the same folder.
        CorpusError: One of them cannot be used; a leaf says why.
    """
    parts = tuple(_load(path, entry) for entry in read_entries(path, leave_out))
    for number, part in enumerate(parts):
        for other in parts[:number]:
            if {each.path for each in part.utterances} & {each.path for each in other.utterances}:
                raise BadCorpora(path, f"{other.name!r} and {part.name!r} share recordings", "name each folder once")
    utterances = tuple(
        replace(each, speaker=f"{part.name}/{each.speaker}") for part in parts for each in part.utterances
    )
    labels = sorted_labels(utterances)
    if len(labels) < 2:
        raise BadCorpora(path, f"leaves one emotion only ({labels[0]})", "map fewer of them to one, or drop fewer")
    return Corpus(
        name=JOINED,
        folder=path,
        utterances=utterances,
        labels=labels,
        card=_card(parts),
        skipped=tuple(each for part in parts for each in part.skipped),
        remarks=(*(remark for part in parts for remark in part.remarks), *_remarks(parts, labels)),
        parts=parts,
    )


def write_entries(settings: Settings, path: Path) -> None:
    """Write the file that names the several corpora of settings, with absolute folders; nothing of a single corpus."""
    if settings.corpus == JOINED:
        import tomli_w

        entries = read_entries(Path(settings.folder))
        write_bytes(path, tomli_w.dumps({"corpora": [entry.to_toml() for entry in entries]}).encode())


def corpus_of(settings: Settings) -> Corpus:
    """The corpus of settings, which may be several; errors as :func:`load_joined` and :func:`load_corpus`."""
    if settings.corpus == JOINED:
        return load_joined(Path(settings.folder), settings.leave_out)
    return load_corpus(settings.corpus, settings.folder or None)


def describe_parts(corpus: Corpus) -> dict[str, Any]:
    """The entry ``corpora`` of run.json: for each of several corpora its place, weight, counts and card."""
    from edgeser.corpora.fingerprint import corpus_fingerprint

    if not corpus.parts:
        return {}
    found = [
        {
            "name": part.name,
            "corpus": part.form,
            "folder": str(part.folder),
            "fingerprint": corpus_fingerprint(part),
            "labels": dict(part.renamed),
            "weight": part.weight,
            "utterances": len(part.utterances),
            "speakers": len(part.speakers),
            **part.card.describe(),
        }
        for part in corpus.parts
    ]
    return {"corpora": found}


def renamed(corpus: Corpus, labels: Mapping[str, str]) -> Corpus:
    """The corpus with other names for its emotions; those whose new name is empty are left out."""
    named = (replace(each, emotion=labels.get(each.emotion, each.emotion)) for each in corpus.utterances)
    kept = tuple(each for each in named if each.emotion)
    return replace(corpus, utterances=kept, labels=sorted_labels(kept))


def balance(corpus: Corpus, utterances: Sequence[Utterance]) -> NDArray[np.float32]:
    """The weight of each clip in a loss, float32 (clips,), 1 in the mean; of a single corpus all are 1.

    Of several corpora every emotion counts the same, and within an emotion every corpus as much as its weight says.
    """
    if not corpus.parts:
        return np.ones(len(utterances), dtype=np.float32)
    share = {part.name: part.weight for part in corpus.parts}
    cells = [(corpus_in(each.speaker), each.emotion) for each in utterances]
    counts = {cell: cells.count(cell) for cell in set(cells)}
    total: dict[str, float] = {}
    for name, emotion in counts:
        total[emotion] = total.get(emotion, 0.0) + share[name]
    found = np.array([share[name] / total[emotion] / counts[name, emotion] for name, emotion in cells])
    return np.asarray(found / found.mean(), dtype=np.float32)


def corpus_in(speaker: str) -> str:
    """The name of the corpus of a speaker of several."""
    return speaker.partition("/")[0]


def _load(path: Path, entry: Entry) -> Corpus:
    whole = load_corpus(entry.corpus, entry.folder)
    for theirs in entry.labels:
        if theirs not in {*whole.labels, *CORPORA[entry.corpus].emotions}:
            raise BadCorpora(path, f"{entry.name} has no emotion {theirs!r}", choice_hint(theirs, whole.labels))
    found = renamed(whole, entry.labels)
    if not found.utterances:
        raise BadCorpora(path, f"drops every emotion of {entry.name}", "drop fewer, or remove its table")
    return replace(found, name=entry.name, form=entry.corpus, renamed=entry.labels, weight=entry.weight)


def _remarks(parts: Sequence[Corpus], labels: Iterable[str]) -> list[str]:
    """A sentence on each emotion that not all corpora have."""
    have = {label: [part.name for part in parts if label in part.labels] for label in labels}
    return [
        f"{label} is in {', '.join(names)} only: a student can tell the corpora apart by it"
        for label, names in have.items()
        if len(names) < len(parts)
    ]


def _card(parts: Sequence[Corpus]) -> Card:
    """One card of several corpora; what differs is said for each."""

    def said(key: str) -> str:
        values = {part.name: str(getattr(part.card, key) or "") for part in parts}
        several = [f"{name}: {value}" for name, value in values.items() if value]
        return "; ".join(several) if len(set(values.values())) > 1 else next(iter(values.values()))

    kinds = {part.card.kind for part in parts}
    return Card(
        title=" and ".join(dict.fromkeys(part.card.title for part in parts)),
        licence_url=None,
        kind=kinds.pop() if len(kinds) == 1 else "unknown",
        **{key: said(key) for key in ("language", "licence", "citation", "access", "consent", "notes")},
    )
