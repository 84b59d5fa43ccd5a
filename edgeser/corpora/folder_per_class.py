"""The user's own recordings, a folder a class.

    anger/anna_001.wav        the speaker is what stands before the first underscore
    anger/anna/001.wav        or a folder inside the class
    speakers.csv              or a table: file,speaker[,sex]   (file: a path relative to the table)

The rule, in this order: ``speakers.csv`` where it exists, and then for every recording; else a folder inside the class;
else the file name up to its first underscore. A recording of which none of these says who speaks is an error, and so is
a corpus in which no speaker has two recordings: then the names are numbers of clips, not of people.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from edgeser.corpora.cards import UNSTATED, read_card
from edgeser.corpora.corpus import Corpus, CorpusFormat, Skipped, Utterance
from edgeser.corpora.emotions import EMOTIONS, plain_name
from edgeser.corpora.errors import EmptyCorpus, UnknownSpeaker, UnreadableLabels, WrongCorpus
from edgeser.corpora.rows import read_rows, read_sex
from edgeser.corpora.scan import make_corpus, need_folder
from edgeser_device.recordings import find_audio

SPEAKERS_FILE = "speakers.csv"
LAYOUT = "a folder for each emotion with files such as anna_001.wav, or with a folder for each speaker"
WAY_OUT = f"name it SPEAKER_anything.wav, or list every recording in {SPEAKERS_FILE} (file,speaker) beside the folders"


def load(folder: Path) -> Corpus:
    """Read a folder a class.

    Raises:
        CorpusNotFound: ``folder`` is no folder.
        EmptyCorpus: There is no recording in it.
        WrongCorpus: All recordings lie beside each other, in no class folder.
        UnknownSpeaker: A recording does not say who speaks.
        UnreadableLabels: ``speakers.csv`` is broken.
    """
    folder = need_folder("folder", folder)
    recordings = find_audio(folder)
    if not recordings:
        raise EmptyCorpus(folder, LAYOUT)
    root = _class_root(folder, recordings)
    listed = _read_speakers(root)
    utterances: list[Utterance] = []
    skipped: list[Skipped] = []
    for path in recordings:
        parts = path.relative_to(root).parts
        if len(parts) < 2:
            skipped.append(Skipped(path, "it lies in no class folder"))
            continue
        speaker, sex = _speaker(path, root, listed)
        utterances.append(Utterance(path, plain_name(parts[0]), speaker, sex))
    if not utterances:
        raise WrongCorpus("folder", folder, LAYOUT, recordings[0].relative_to(folder).as_posix())
    if listed is None:
        _check_speakers(root, utterances)
    return make_corpus("folder", root, utterances, read_card(root), skipped=skipped)


def _class_root(folder: Path, recordings: tuple[Path, ...]) -> Path:
    """Go down while everything lies in one folder that is no class but holds folders: an extra folder above."""
    root = folder
    while not (root / SPEAKERS_FILE).is_file():
        below = [path.relative_to(root).parts for path in recordings]
        first = below[0][0]
        if any(parts[0] != first or len(parts) < 3 for parts in below) or plain_name(first) in EMOTIONS:
            return root
        root = root / first
    return root


def _read_speakers(root: Path) -> dict[Path, tuple[str, str | None]] | None:
    path = root / SPEAKERS_FILE
    if not path.is_file():
        return None
    speakers: dict[Path, tuple[str, str | None]] = {}
    for row in read_rows(path, ("file", "speaker")):
        if not row.cells.get("speaker"):
            raise UnknownSpeaker(row.where(path), "fill the column speaker; one person has one name over all rows")
        recording = root / row.cells["file"]
        if recording in speakers:
            raise UnreadableLabels(path, f"line {row.number} names {row.cells['file']!r} again")
        speakers[recording] = row.cells["speaker"], read_sex(path, row)
    return speakers


def _speaker(path: Path, root: Path, listed: dict[Path, tuple[str, str | None]] | None) -> tuple[str, str | None]:
    if listed is not None:
        if path not in listed:
            raise UnknownSpeaker(str(path), f"add a row for it to {root / SPEAKERS_FILE}")
        return listed[path]
    inside = path.relative_to(root).parts[1:-1]
    if inside:
        return inside[0], None
    speaker, underscore, _ = path.stem.partition("_")
    if not speaker or not underscore:
        raise UnknownSpeaker(str(path), WAY_OUT)
    return speaker, None


def _check_speakers(root: Path, utterances: list[Utterance]) -> None:
    """Refuse file names of which each would be a speaker of its own."""
    by_name = Counter(one.speaker for one in utterances if one.path.parent.parent == root)
    if len(by_name) > 1 and max(by_name.values()) == 1:
        raise UnknownSpeaker(f"{root} (each of {len(by_name)} recordings has another name)", WAY_OUT)


FORMAT = CorpusFormat("folder", LAYOUT, (), UNSTATED, load)
