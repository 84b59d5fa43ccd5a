"""The one table of corpora.

corpus = load_corpus("demo")
corpus = load_corpus("ravdess", Path("~/data/ravdess"))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from edgeser.corpora import demo
from edgeser.corpora.corpus import Corpus, CorpusFormat, Skipped
from edgeser.corpora.errors import CorpusNotFound, EmptyCorpus, UnclearLayout, UnknownCorpus, WrongCorpus
from edgeser.corpora.formats import audformat, cremad, demos, emodb, folder_per_class, iemocap, ravdess, urdu
from edgeser.corpora.formats import listed as manifest
from edgeser.corpora.scan import load_by_name
from edgeser_device.data.recordings import OTHER_ENDINGS, ending, find_audio
from edgeser_export.utilities.outside import expand, require_path

_FORMATS = (demo, demos, iemocap, emodb, ravdess, cremad, urdu, folder_per_class, manifest, audformat)

CORPORA: Mapping[str, CorpusFormat] = MappingProxyType({module.FORMAT.name: module.FORMAT for module in _FORMATS})
"""Every corpus format by its name on the command line."""


def load_corpus(name: str, folder: Path | str | None = None) -> Corpus:
    """Read a corpus from the disk; no recording is opened.

    Args:
        name: A key of `CORPORA`.
        folder: The folder of the corpus, or one above it. The built-in ``demo`` needs none.

    Raises:
        UnknownCorpus: No format has that name.
        CorpusNotFound: The folder does not exist, or none was named.
        EmptyCorpus: It holds no recording.
        WrongCorpus: No recording fits the format; the hint names the format that fits, if one does.
        UnclearLayout: It is not clear which names are emotions; the hint likewise.
        CorpusError: A leaf of it for every other defect of labels and speakers.
        TextError: The folder's name, a label or another text is none that files of a run or a kit can carry.
    """
    form, place = find_corpus(name, folder)
    try:
        found = form.load(place) if form.load else load_by_name(form, place)
    except EmptyCorpus as error:
        raise EmptyCorpus(error.folder, error.layout, (each.reason for each in _left_out(error.folder))) from None
    except WrongCorpus as error:
        raise WrongCorpus(name, error.folder, error.layout, error.example, _looks_like(error.folder, name)) from None
    except UnclearLayout as error:
        if guess := _looks_like(place, name):
            error.hint = f"wrong --corpus? the names look like --corpus {guess}"
        raise
    return replace(found, skipped=(*found.skipped, *_left_out(found.folder))) if form.wanted == "folder" else found


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
    if place is None or not require_path(place.absolute()).exists():
        raise CorpusNotFound(name, place, form.wanted)
    return form, place


def _left_out(folder: Path) -> list[Skipped]:
    """Return the recordings below a folder in forms that are not read."""
    return [
        Skipped(path, f"{ending(path.name)} files are not read; convert them to WAV or FLAC")
        for path in find_audio(folder, OTHER_ENDINGS)
    ]


def _looks_like(folder: Path, asked: str) -> str | None:
    """Return the other format whose file names fit most of the recordings, if any fits."""
    stems = [path.stem for path in find_audio(folder)]
    fitting = {name: sum(form.parse_name(stem) is not None for stem in stems) for name, form in CORPORA.items()}
    best = max(fitting, key=fitting.__getitem__)
    return best if fitting[best] and best != asked else None
