"""The user's own recordings, a folder a class.

    anger/anna_001.wav        the speaker is what stands before the first underscore
    anger/anna/001.wav        or a folder inside the class
    anna/anger/001.wav        or a folder around it, where only the inner names are known emotions
    speakers.csv              or a table: file,speaker[,sex]   (file: a path relative to the table)
    labels.txt                classes that are no known emotions, one a line

Folders such as ``train`` or ``female`` are nobody. The rule for speakers, in this order: ``speakers.csv`` where it
exists, and then for every recording; else a folder; else the file name up to its first underscore. A recording of which
none of these says who speaks is an error, and so is a corpus in which no speaker has two recordings: then the names are
numbers of clips, not of people. So are names of which it is not clear whether they are people or emotions.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Container, Iterable
from pathlib import Path

from edgeser.corpora.corpus import UNSTATED, Corpus, CorpusFormat, Skipped, Utterance, read_card
from edgeser.corpora.emotions import is_emotion, plain_name, read_label
from edgeser.corpora.errors import EmptyCorpus, UnclearLayout, UnknownSpeaker, UnreadableLabels, WrongCorpus
from edgeser.corpora.formats.listed import LABELS_FILE, declared_labels
from edgeser.corpora.label_tables import read_rows, read_sex, read_speaker
from edgeser.corpora.scan import find_path, make_corpus, need_folder
from edgeser_device.data.recordings import find_audio
from edgeser_export.utilities.outside import require_text

SPEAKERS_FILE = "speakers.csv"
LAYOUT = "a folder for each emotion with files such as anna_001.wav, or with a folder for each speaker"
WAY_OUT = f"name it SPEAKER_anything.wav, or list every recording in {SPEAKERS_FILE} (file,speaker) beside the folders"
_PARTS = "train training dev val valid validation test testing eval evaluation"
_OTHERS = "female females male males woman women man men audio clips data recordings speech wav wavs"
NOBODY = frozenset(f"{_PARTS} {_OTHERS}".split())
"""Names of folders that are no speaker's."""
SHOWN_NAMES = 8

Listed = dict[Path, tuple[str, str | None]]
"""Speaker and sex of recordings."""


def load(folder: Path) -> Corpus:
    """Read a folder a class.

    Raises:
        CorpusNotFound: ``folder`` is no folder.
        EmptyCorpus: There is no recording in it.
        WrongCorpus: All recordings lie beside each other, in no class folder.
        UnclearLayout: It is not clear which names are emotions.
        UnknownSpeaker: A recording does not say who speaks.
        UnreadableLabels: ``speakers.csv`` is broken.
        TextError: A label or a speaker is text that no kit can carry.
    """
    folder = need_folder("folder", folder)
    recordings = find_audio(folder)
    if not recordings:
        raise EmptyCorpus(folder, LAYOUT)
    root = _class_root(folder, recordings)
    declared = declared_labels(root / LABELS_FILE)
    inner = {path: path.relative_to(root).parts[:-1] for path in recordings}
    level, remarks = _class_level(root, inner, declared)
    listed = _read_speakers(root)
    utterances: list[Utterance] = []
    skipped: list[Skipped] = []
    for path, parts in inner.items():
        if len(parts) <= level:
            skipped.append(Skipped(path, "it lies in no class folder"))
            continue
        speaker, sex = _speaker(path, parts, level, root, listed)
        utterances.append(Utterance(path, read_label(parts[level], str(path.parent)), speaker, sex))
    if not utterances:
        raise WrongCorpus("folder", folder, LAYOUT, recordings[0].relative_to(folder).as_posix())
    if listed is None:
        _check_speakers(root, utterances, inner, level)
    return make_corpus("folder", root, utterances, read_card(root), skipped=skipped, remarks=remarks)


def _class_root(folder: Path, recordings: tuple[Path, ...]) -> Path:
    """Go down while everything lies in one folder that is no class but holds folders: an extra folder above."""
    root = folder
    while not any((root / name).is_file() for name in (SPEAKERS_FILE, LABELS_FILE)):
        below = [path.relative_to(root).parts for path in recordings]
        first = below[0][0]
        if any(parts[0] != first or len(parts) < 3 for parts in below) or is_emotion(first):
            return root
        root = root / first
    return root


def _class_level(root: Path, inner: dict[Path, tuple[str, ...]], declared: Container[str]) -> tuple[int, list[str]]:
    """Return the level of folders that names the classes, counted from 0, and what must be said about that.

    It is the outermost one, unless only the names of another one are all known emotions.

    Raises:
        UnclearLayout: Names of inner folders or files are known emotions, and those of the outer ones are not.
    """

    def known(name: str) -> bool:
        return plain_name(name) in declared or is_emotion(name)

    names: dict[int, Counter[str]] = defaultdict(Counter)
    for parts in inner.values():
        for level, name in enumerate(parts):
            names[level][name] += 1
    share = {level: sum(found[name] for name in found if known(name)) / len(inner) for level, found in names.items()}
    level = max(share, key=share.__getitem__, default=0)  # the outermost of equals
    if not names or all(plain_name(name) in declared for name in names[level]):
        return level, []
    outer, found = _listed(names[0]), _listed(names[level])
    if _are_pairs(names[level]):
        raise UnclearLayout(root, f"the folders {found} name something beside the emotion, perhaps people")
    if level and not all(map(known, names[level])):
        raise UnclearLayout(root, f"{outer} are no emotions, and of the folders in them, {found}, some are")
    if level:
        return level, [f"the classes are {found}, because {outer} are not all emotions"]
    if share[0]:
        return 0, []
    if sum(any(map(known, _words(path.stem))) for path in inner) * 2 >= len(inner):
        raise UnclearLayout(root, f"names of files hold emotions, and the folders, {outer}, are none")
    return 0, [f"no folder is named after a known emotion: the classes are {outer}"]


def _are_pairs(names: Iterable[str]) -> bool:
    """Tell whether all names are an emotion and something else, and two such others have several emotions each."""
    emotions: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for name in names:
        found = [word for word in _words(name) if is_emotion(word)]
        if len(found) != 1:
            return False
        emotions[tuple(word for word in _words(name) if word not in found)].add(found[0])
    return sum(len(each) > 1 for each in emotions.values()) > 1


def _words(name: str) -> list[str]:
    return re.findall(r"[^\W\d_]+|\d+", unicodedata.normalize("NFC", name))


def _listed(names: Iterable[str]) -> str:
    found = sorted(names)
    more = f" and {len(found) - SHOWN_NAMES} more" if len(found) > SHOWN_NAMES else ""
    return ", ".join(map(repr, found[:SHOWN_NAMES])) + more


def _read_speakers(root: Path) -> Listed | None:
    path = root / SPEAKERS_FILE
    if not path.is_file():
        return None
    speakers: Listed = {}
    for row in read_rows(path, ("file", "speaker")):
        name, recording = read_speaker(path, row), find_path(root, row.cells["file"])
        if recording in speakers:
            raise UnreadableLabels(path, f"line {row.number} names {row.cells['file']!r} again")
        if recording is not None:
            speakers[recording] = name, read_sex(path, row)
    return speakers


def _speaker(
    path: Path, parts: tuple[str, ...], level: int, root: Path, listed: Listed | None
) -> tuple[str, str | None]:
    if listed is not None:
        if path not in listed:
            raise UnknownSpeaker(str(path), f"add a row for it to {root / SPEAKERS_FILE}")
        return listed[path]
    around, inside = _people(parts[:level]), _people(parts[level + 1 :])
    if around and inside:
        raise UnknownSpeaker(f"{path} ({around[-1]!r} or {inside[0]!r})", WAY_OUT)
    name, underscore, _ = path.stem.partition("_")
    found = (*around[-1:], *inside[:1], *_people([name] if underscore else []))
    if not found:
        raise UnknownSpeaker(str(path), WAY_OUT)
    return require_text(found[0], f"{path}, speaker"), None


def _people(names: Iterable[str]) -> list[str]:
    """Return the names that may be those of people."""
    return [name for name in names if name.strip() and name.lower() not in NOBODY]


def _check_speakers(root: Path, utterances: list[Utterance], inner: dict[Path, tuple[str, ...]], level: int) -> None:
    """Refuse names of which each would be a speaker of its own, and names of emotions."""
    if all(is_emotion(one.speaker) for one in utterances):
        raise UnknownSpeaker(f"{root} (names of emotions stand where names of people should)", WAY_OUT)
    by_name = Counter(
        one.speaker
        for one in utterances
        if not _people(inner[one.path][:level]) and not _people(inner[one.path][level + 1 :])
    )
    if len(by_name) > 1 and max(by_name.values()) == 1:
        raise UnknownSpeaker(f"{root} (each of {len(by_name)} recordings has another name)", WAY_OUT)


FORMAT = CorpusFormat("folder", LAYOUT, (), UNSTATED, load)
"""A folder a class."""
