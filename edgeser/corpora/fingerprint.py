"""Fingerprints of corpora: by one a kit knows the recordings that it was made of, without saying anything of them.

corpus_fingerprint(load_corpus("folder", Path("mine")))      # 64 hexadecimal digits
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeser.corpora import Corpus

HASH_DIGITS = 16
"""Number of hexadecimal digits of a speaker's hash: enough that no two of a corpus are alike."""


def corpus_fingerprint(corpus: Corpus) -> str:
    """SHA-256 over the recordings' paths below the corpus's folder and their labels, hexadecimal.

    The same corpus in another place or on another system has the same one. Contents are not read: a recording that was
    cut or cleaned under its old name is still the same one.
    """
    if corpus.parts:
        text = "".join(f"{part.name}\0{corpus_fingerprint(part)}\n" for part in corpus.parts)
        return sha256(text.encode()).hexdigest()
    rows = sorted((_relative(utterance.path, corpus.folder), utterance.emotion) for utterance in corpus.utterances)
    return sha256("".join(f"{path}\0{emotion}\n" for path, emotion in rows).encode()).hexdigest()


def speaker_hashes(speakers: Iterable[str], fingerprint: str) -> list[str]:
    """Hashes that tell whether a speaker is meant to those who know the name, salted with the corpus's fingerprint."""
    return sorted(sha256(f"{fingerprint}\0{speaker}".encode()).hexdigest()[:HASH_DIGITS] for speaker in speakers)


def is_own(corpus_name: str) -> bool:
    """Whether a corpus's name on the command line is a layout for recordings of one's own, not a published corpus."""
    from edgeser.corpora import CORPORA

    return corpus_name not in CORPORA or not CORPORA[corpus_name].emotions


def _relative(path: Path, folder: Path) -> str:
    base = folder if folder.is_dir() else folder.parent
    text = Path(os.path.relpath(path, base)).as_posix()
    return unicodedata.normalize("NFC", text)  # macOS stores names decomposed
