"""Find recordings under a folder, and read a corpus whose file names carry the labels."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from edgeser.corpora.corpus import (
    Card,
    Corpus,
    NameParser,
    Skipped,
    SpeakerParts,
    Utterance,
    sorted_labels,
)
from edgeser.corpora.errors import CorpusNotFound, EmptyCorpus, WrongCorpus
from edgeser_export.home import expand

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".mp3", ".ogg"})
"""Extensions of recordings. They only say what to look at: the decoder decides by content."""


def find_audio(folder: Path) -> tuple[Path, ...]:
    """Return every recording below ``folder``, sorted; see `find_files`."""
    return find_files(folder, is_audio)


def find_files(folder: Path, wanted: Callable[[str], object]) -> tuple[Path, ...]:
    """Return the files below ``folder`` whose names are wanted, sorted; links are followed, hidden folders are not."""
    found: list[Path] = []
    seen: set[str] = set()
    for parent, children, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:  # a link that points back up
            children.clear()
            continue
        seen.add(real)
        children[:] = [child for child in children if not _hidden(child)]
        found += [Path(parent, name) for name in names if wanted(name)]
    return tuple(sorted(found))


def is_audio(name: str) -> bool:
    """Say whether a file name is that of a recording."""
    return not _hidden(name) and Path(name).suffix.lower() in AUDIO_SUFFIXES


def _hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX"))


def need_folder(name: str, folder: Path) -> Path:
    """Return ``folder`` with its tilde expanded.

    Raises:
        CorpusNotFound: It does not exist, or is a file.
    """
    folder = expand(folder)
    if not folder.is_dir():
        raise CorpusNotFound(name, folder)
    return folder


def load_by_name(
    name: str,
    folder: Path,
    parse: NameParser,
    layout: str,
    card: Card,
    splits: Mapping[str, SpeakerParts] | None = None,
) -> Corpus:
    """Read a corpus whose file names say everything.

    A name stands for one utterance: further files of the same name (a second copy in another folder, or in another
    format) are skipped. So are files whose names do not fit; both are counted in ``Corpus.skipped``.

    Raises:
        CorpusNotFound: ``folder`` is no folder.
        EmptyCorpus: There is no recording in it.
        WrongCorpus: No file name fits.
    """
    folder = need_folder(name, folder)
    recordings = find_audio(folder)
    if not recordings:
        raise EmptyCorpus(folder, layout)
    utterances: dict[str, Utterance] = {}
    skipped: list[Skipped] = []
    for path in recordings:
        spoken = parse(path.stem)
        if spoken is None:
            skipped.append(Skipped(path, "the name does not fit"))
        elif path.stem in utterances:
            skipped.append(Skipped(path, "another copy of an utterance"))
        else:
            utterances[path.stem] = Utterance(path, spoken.emotion, spoken.speaker, spoken.sex, spoken.session)
    if not utterances:
        raise WrongCorpus(name, folder, layout, recordings[0].relative_to(folder).as_posix())
    return make_corpus(name, folder, utterances.values(), card, splits, skipped)


def make_corpus(
    name: str,
    folder: Path,
    utterances: Iterable[Utterance],
    card: Card,
    splits: Mapping[str, SpeakerParts] | None = None,
    skipped: Iterable[Skipped] = (),
) -> Corpus:
    """Put the utterances in order and name the labels that occur."""
    ordered = tuple(sorted(utterances, key=lambda utterance: utterance.path))
    return Corpus(name, folder, ordered, sorted_labels(ordered), card, splits or {}, tuple(skipped))
