"""Find recordings under a folder, and read a corpus whose file names carry the labels."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from edgeser.corpora.corpus import (
    Card,
    Corpus,
    CorpusFormat,
    Skipped,
    SpeakerParts,
    Spoken,
    Utterance,
    sorted_labels,
)
from edgeser.corpora.errors import CorpusNotFound, EmptyCorpus, WrongCorpus
from edgeser_device.data.recordings import find_audio
from edgeser_export.utilities.outside import expand, is_path, require_path, spelling


def find_path(folder: Path, written: str) -> Path | None:
    """Return the file that a table names below its folder; None where there is none.

    Backslashes part folders too, and a letter with an accent may be composed in the table and decomposed on the disk.
    """
    with suppress(OSError):  # a name that is too long, or a folder that cannot be listed
        for text in (written, written.replace("\\", "/")):
            if (folder / text).is_file():
                return folder / text
        place = folder
        for part in Path(written.replace("\\", "/")).parts:
            alike = unicodedata.normalize("NFC", part)
            names = [part] if (place / part).exists() else sorted(each.name for each in place.iterdir())
            place /= next((name for name in names if unicodedata.normalize("NFC", name) == alike), part)
        return place if place.is_file() else None
    return None


def need_folder(name: str, folder: Path) -> Path:
    """Return ``folder`` with its tilde expanded.

    Raises:
        CorpusNotFound: It does not exist, or is a file.
    """
    folder = expand(folder)
    if not folder.is_dir():
        raise CorpusNotFound(name, folder)
    return folder


def load_by_name(form: CorpusFormat, folder: Path) -> Corpus:
    """Read a corpus whose file names say everything.

    A name stands for one utterance: further files of the same name (a second copy in another folder, or in another
    format) are skipped. So are files whose names do not fit; both are counted in ``Corpus.skipped``.

    Raises:
        CorpusNotFound: ``folder`` is no folder.
        EmptyCorpus: There is no recording in it.
        WrongCorpus: No file name fits.
    """
    folder = need_folder(form.name, folder)
    recordings = find_audio(folder)
    if not recordings:
        raise EmptyCorpus(folder, form.layout)
    utterances: dict[str, Utterance] = {}
    skipped: list[Skipped] = []
    for path in recordings:
        spoken = form.parse_name(path.stem)
        if not isinstance(spoken, Spoken):
            skipped.append(Skipped(path, spoken or "the name does not fit"))
        elif path.stem in utterances:
            skipped.append(Skipped(path, "another copy of an utterance"))
        else:
            utterances[path.stem] = Utterance(path, spoken.emotion, spoken.speaker, spoken.sex, spoken.session)
    if not utterances:
        raise WrongCorpus(form.name, folder, form.layout, recordings[0].relative_to(folder).as_posix())
    return make_corpus(form.name, folder, utterances.values(), form.card, form.splits, skipped)


def make_corpus(
    name: str,
    folder: Path,
    utterances: Iterable[Utterance],
    card: Card,
    splits: Mapping[str, SpeakerParts] | None = None,
    skipped: Iterable[Skipped] = (),
    remarks: Iterable[str] = (),
) -> Corpus:
    """Put the utterances in order, give each speaker one name, and name the labels that occur.

    Recordings whose names are not UTF-8 are left out, because no file of a run could name them.

    Raises:
        TextError: No recording has a name in UTF-8.
    """
    found = sorted(utterances, key=lambda utterance: utterance.path)
    named = [utterance for utterance in found if is_path(utterance.path)]
    if not named:
        require_path(found[0].path)
    people, merged = one_spelling(utterance.speaker for utterance in named)
    ordered = tuple(replace(utterance, speaker=people[utterance.speaker]) for utterance in named)
    labels = sorted_labels(ordered)
    odd = (Skipped(utterance.path, "its name is not UTF-8") for utterance in found if not is_path(utterance.path))
    said = (*remarks, *merged, *_alike(labels))
    return Corpus(name, folder, ordered, labels, card, splits or {}, (*skipped, *odd), said)


def one_spelling(speakers: Iterable[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the name that is meant for each name of a speaker as written, and a remark for each that is changed.

    Where all names are whole numbers, ``3.0`` means ``3``. Names that differ in case, width, gaps or leading zeros are
    one person's, who must not stand in two parts of a split; the name that occurs most often is taken.
    """
    names = list(speakers)
    whole = all(re.fullmatch(r"\d+(\.0+)?", name) for name in names)
    written = {name: name.partition(".")[0] if whole else name for name in names}
    counts = Counter(written[name] for name in names)
    people: dict[str, set[str]] = defaultdict(set)
    for name in counts:
        people[spelling(name)].add(name)
    chosen = {key: min(alike, key=lambda name: (-counts[name], name)) for key, alike in people.items()}
    remarks = tuple(
        f"the speakers {' and '.join(map(repr, sorted(alike)))} are taken for one person, {chosen[key]!r}"
        for key, alike in sorted(people.items())
        if len(alike) > 1
    )
    return {name: chosen[spelling(written[name])] for name in written}, remarks


def _alike(labels: tuple[str, ...]) -> list[str]:
    """Return a remark for labels that may be one class in two spellings."""
    groups: dict[str, list[str]] = defaultdict(list)
    for label in labels:
        groups[spelling(label)].append(label)
    return [
        f"the labels {' and '.join(map(repr, names))} are {len(names)} classes; give them one spelling if they are one"
        for names in groups.values()
        if len(names) > 1
    ]
