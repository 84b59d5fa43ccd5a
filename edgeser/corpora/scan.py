"""Find recordings under a folder, and read a corpus whose file names carry the labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
from edgeser_device.recordings import find_audio


def need_folder(name: str, folder: Path) -> Path:
    """Return ``folder`` with its tilde expanded.

    Raises:
        CorpusNotFound: It does not exist, or is a file.
    """
    folder = folder.expanduser()
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
