"""A list of the user's recordings: CSV or JSON Lines.

    path,emotion,speaker,sex,session,split
    clips/001.wav,anger,anna,female,,train

``path``, ``emotion`` and ``speaker`` are needed; paths are relative to the manifest. A column ``split`` (train, dev,
test) becomes the corpus's official split. Emotions that are no common name stand in ``labels.txt`` beside the manifest,
one a line.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from edgeser.corpora.corpus import UNSTATED, Corpus, CorpusFormat, SpeakerParts, Utterance, read_card
from edgeser.corpora.emotions import EMOTIONS, read_label
from edgeser.corpora.errors import CorpusNotFound, SpeakerLeak, UnknownLabel, UnreadableLabels
from edgeser.corpora.label_tables import Row, read_rows, read_sex, read_speaker
from edgeser.corpora.scan import find_path, make_corpus, one_spelling

COLUMNS = ("path", "emotion", "speaker")
FILE_NAMES = ("manifest.csv", "manifest.jsonl")
LABELS_FILE = "labels.txt"
LAYOUT = "a CSV or JSON Lines file with path, emotion, speaker (or a folder with manifest.csv or manifest.jsonl)"
PART_OF_WORD = MappingProxyType(
    {"train": "train", "dev": "dev", "val": "dev", "valid": "dev", "validation": "dev", "test": "test"}
)


def load(place: Path) -> Corpus:
    """Read a manifest, or the manifest in a folder.

    Raises:
        CorpusNotFound: There is no manifest.
        UnreadableLabels: A line is broken, names a file that does not exist, or names one twice.
        MissingColumns: path, emotion or speaker is absent.
        UnknownLabel: An emotion is empty, or neither known nor declared.
        UnknownSpeaker: A speaker is empty.
        TextError: A label or a speaker is text that no kit can carry.
        SpeakerLeak: The column ``split`` puts a speaker into two parts.
    """
    path = _find_manifest(place)
    rows = read_rows(path, COLUMNS)
    folder = path.parent
    known = (*EMOTIONS, *declared_labels(folder / LABELS_FILE))
    utterances: dict[Path, Utterance] = {}
    for row in rows:
        utterance = _utterance(path, row, known)
        if utterance.path in utterances:
            raise UnreadableLabels(path, f"line {row.number} names {row.cells['path']!r} again")
        utterances[utterance.path] = utterance
    official = _official(path, rows, [utterance.speaker for utterance in utterances.values()])
    return make_corpus("manifest", folder, utterances.values(), read_card(folder), official)


def declared_labels(path: Path) -> tuple[str, ...]:
    """Read labels that the user declares, one a line; ``#`` begins a comment. None where there is no such file."""
    if not path.is_file():
        return ()
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableLabels(path, f"cannot be read ({error})") from error
    names = enumerate((line.partition("#")[0].strip() for line in lines), start=1)
    return tuple(read_label(name, f"{path}, line {number}") for number, name in names if name)


def _find_manifest(place: Path) -> Path:
    if place.is_dir():
        found = [place / name for name in FILE_NAMES if (place / name).is_file()]
        if len(found) > 1:
            raise UnreadableLabels(place, f"holds both {' and '.join(FILE_NAMES)}; name the file that is meant")
        if found:
            return found[0]
    if not place.is_file():
        raise CorpusNotFound("manifest", place, "manifest")
    return place


def _utterance(path: Path, row: Row, known: tuple[str, ...]) -> Utterance:
    cells = row.cells
    written = cells.get("emotion", "")
    emotion = read_label(written, row.where(path)) if written else ""
    if emotion not in known:
        raise UnknownLabel(row.where(path), emotion, known, path.parent / LABELS_FILE)
    speaker = read_speaker(path, row)
    recording = find_path(path.parent, cells["path"])
    if recording is None:
        raise UnreadableLabels(path, f"line {row.number}: there is no recording {path.parent / cells['path']}")
    return Utterance(recording, emotion, speaker, read_sex(path, row), cells.get("session") or None)


def _official(path: Path, rows: tuple[Row, ...], names: list[str]) -> Mapping[str, SpeakerParts]:
    """Read the column ``split``, where there is one; the names are the speakers of the rows."""
    words = [row.cells.get("split", "").lower() for row in rows]
    if not any(words):
        return {}
    people, _ = one_spelling(names)
    speakers: dict[str, set[str]] = {"train": set(), "dev": set(), "test": set()}
    for row, word, name in zip(rows, words, names, strict=True):
        part = PART_OF_WORD.get(word)
        if part is None:
            raise UnreadableLabels(path, f"line {row.number}: split is {word!r}; known: train, dev, test")
        speakers[part].add(people[name])
    for first, second in (("train", "dev"), ("train", "test"), ("dev", "test")):
        shared = speakers[first] & speakers[second]
        if shared:
            raise SpeakerLeak(f"official (column split of {path.name})", first, second, sorted(shared))
    return {"official": SpeakerParts(tuple(sorted(speakers["dev"])), tuple(sorted(speakers["test"])))}


FORMAT = CorpusFormat("manifest", LAYOUT, (), UNSTATED, load, wanted="manifest")
