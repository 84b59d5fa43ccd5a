"""The one table of corpora.

corpus = load_corpus("demo")
corpus = load_corpus("ravdess", Path("~/data/ravdess"))
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from edgeser.corpora import (
    audformat,
    cremad,
    demo,
    demos,
    emodb,
    folder_per_class,
    iemocap,
    manifest,
    ravdess,
    urdu,
)
from edgeser.corpora.corpus import Corpus, CorpusFormat
from edgeser.corpora.errors import CorpusNotFound, UnknownCorpus, WrongCorpus
from edgeser.corpora.scan import find_audio
from edgeser_export.home import expand

_FORMATS = (demo, demos, iemocap, emodb, ravdess, cremad, urdu, folder_per_class, manifest, audformat)

CORPORA: Mapping[str, CorpusFormat] = MappingProxyType({module.FORMAT.name: module.FORMAT for module in _FORMATS})
"""Every corpus format by its name on the command line."""


def load_corpus(name: str, folder: Path | str | None = None) -> Corpus:
    """Read a corpus from the disk; no recording is opened.

    Args:
        name: A key of `CORPORA`.
        folder: Where it lies; a folder above it will do. The built-in ``demo`` needs none.

    Raises:
        UnknownCorpus: No format has that name.
        CorpusNotFound: The folder does not exist, or none was named.
        EmptyCorpus: It holds no recording.
        WrongCorpus: No recording fits the format; the hint names the format that fits, if one does.
        CorpusError: A leaf of it for every other defect of labels and speakers.
    """
    form, place = find_corpus(name, folder)
    try:
        return form.load(place)
    except WrongCorpus as error:
        raise WrongCorpus(name, error.folder, error.layout, error.example, _looks_like(error.folder, name)) from None


def find_corpus(name: str, folder: Path | str | None = None) -> tuple[CorpusFormat, Path]:
    """The format of a corpus and the place where it lies, which is not looked into.

    Raises:
        UnknownCorpus: No format has that name.
        CorpusNotFound: The place does not exist, or none was named.
    """
    form = CORPORA.get(name)
    if form is None:
        raise UnknownCorpus(name, CORPORA)
    place = expand(Path(folder)) if folder is not None else form.built_in
    if place is None or not place.exists():
        raise CorpusNotFound(name, place, form.wanted)
    return form, place


def _looks_like(folder: Path, asked: str) -> str | None:
    """Return the other format whose file names fit most of the recordings, if any fits."""
    stems = [path.stem for path in find_audio(folder)]
    fitting = {
        form.name: sum(form.parse_name(stem) is not None for stem in stems)
        for form in CORPORA.values()
        if form.parse_name is not None
    }
    best = max(fitting, key=fitting.__getitem__)
    return best if fitting[best] and best != asked else None
