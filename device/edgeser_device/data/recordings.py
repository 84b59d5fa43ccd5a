"""The files that are taken for recordings, on host and board alike. Importing this loads nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

_READ = """
    .wav .wave .bwf .rf64 .w64 .flac .ogg .oga .opus .mp3 .mp2 .aif .aiff .aifc .au .snd .caf .sph .nist .voc .avr .paf
    .pvf .svx .8svx .sds .ircam
"""
_OTHER = ".m4a .m4b .mp4 .aac .wma .amr .awb .3gp .webm .weba .mka .ape .wv .spx .ac3 .dsf .ra .gsm .vox .pcm .raw"
ENDINGS = frozenset(_READ.split())
"""Endings of files that libsndfile reads. They only say what is looked for in a folder: the content decides."""
OTHER_ENDINGS = frozenset(_OTHER.split())
"""Endings of recordings that nothing here reads; they are named, so that none is left out in silence."""


def ending(name: str) -> str:
    """The ending of a file's name in small letters, with its dot."""
    return Path(name).suffix.lower()


def is_hidden(name: str) -> bool:
    """Whether a file or folder is one that systems keep for themselves."""
    return name.startswith((".", "__MACOSX"))


def find_files(folder: Path, wanted: Callable[[str], object]) -> tuple[Path, ...]:
    """The files below ``folder`` whose names are wanted, sorted; links are followed, hidden folders are not."""
    found: list[Path] = []
    seen: set[str] = set()
    for parent, children, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:  # a link that points back up
            children.clear()
            continue
        seen.add(real)
        children[:] = [child for child in children if not is_hidden(child)]
        found += [Path(parent, name) for name in names if wanted(name)]
    return tuple(sorted(found))


def find_audio(folder: Path, endings: frozenset[str] = ENDINGS) -> tuple[Path, ...]:
    """The recordings below ``folder`` with one of these endings, sorted; hidden ones are none."""
    return find_files(folder, lambda name: ending(name) in endings and not is_hidden(name))
