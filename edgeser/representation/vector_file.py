"""A file of utterance vectors with labels and speakers.

    vectors = read_vectors(Path("wavlm.npz"))
    vectors.x, vectors.labels, vectors.corpus

An npz file has the arrays ``features`` (N x D numbers), ``labels`` and ``speakers`` (N words or whole numbers each). A
safetensors file has the same with whole numbers; the words that they stand for may stand in its metadata, as JSON lists
under ``labels`` and ``speakers``.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeser.config.settings import VECTORS
from edgeser.corpora.corpus import UNSTATED, Corpus, Utterance
from edgeser.corpora.errors import CorpusNotFound, UnreadableLabels
from edgeser.corpora.scan import one_spelling
from edgeser_device.kit.manifest import MOST_CLASSES
from edgeser_export.utilities.outside import require_label, require_path, require_text

STILL = 1e-6
"""A standard deviation below this share of the mean, or of 1 if that is larger, is rounding: single precision has no
more digits."""


@dataclass(frozen=True)
class Scale:
    """How vectors are standardised.

    Attributes:
        mean: Mean of the training part, float32 (D,).
        spread: Standard deviations of the training part, float32 (D,); 1 where it is constant.
        constant: Dimensions in which the training part is constant, bool (D,): nothing can be learnt there, and a
            difference has no unit.
    """

    mean: NDArray[np.float32]
    spread: NDArray[np.float32]
    constant: NDArray[np.bool_]

    def standardised(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors (items, D) in standard deviations, float32; infinite where one is too far from the training part."""
        with np.errstate(over="ignore"):  # the caller says what single precision does not hold
            found = ((x.astype(np.float64) - self.mean) / self.spread).astype(np.float32)
        found[:, self.constant] = 0
        return found


def scale_of(train: NDArray[np.float32]) -> Scale:
    """The scale of training vectors, float32 (items, D); sums are made in double precision."""
    mean, spread = train.mean(0, dtype=np.float64), train.std(0, dtype=np.float64)
    constant = spread < STILL * np.maximum(1.0, np.abs(mean))
    return Scale(mean.astype(np.float32), np.where(constant, 1, spread).astype(np.float32), constant)


CORPUS = VECTORS
"""Name of the corpus in the settings of a run of vectors; its folder is the file."""
ARRAYS = ("features", "labels", "speakers")
FORMS = (".npz", ".safetensors")
READING = (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""Errors of numpy, zipfile and safetensors for a file that is cut, damaged, encrypted or something else."""


@dataclass(frozen=True)
class VectorFile:
    """One vector an utterance.

    Attributes:
        path: The file.
        x: Float32 (utterances, size), finite.
        labels: Class of each, int64 (utterances,), counted in the order of ``names``.
        speakers: Speaker of each.
        names: The classes, in alphabetical order.
    """

    path: Path
    x: NDArray[np.float32]
    labels: NDArray[np.int64]
    speakers: tuple[str, ...]
    names: tuple[str, ...]

    @property
    def corpus(self) -> Corpus:
        """A corpus of as many utterances; the path of each is its number below the file."""
        utterances = tuple(
            Utterance(self.path / str(number), self.names[label], speaker)
            for number, (label, speaker) in enumerate(zip(self.labels, self.speakers, strict=True))
        )
        card = replace(UNSTATED, title=f"vectors of {require_text(self.path.name, str(self.path))}")
        return Corpus(CORPUS, self.path.parent, utterances, self.names, card)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over vectors, classes and speakers, hexadecimal: the same in another place and format."""
        words = json.dumps([self.x.shape, self.names, self.labels.tolist(), self.speakers]).encode()
        return sha256(words + np.ascontiguousarray(self.x, dtype="<f4").tobytes()).hexdigest()


def require_file(path: Path) -> None:
    """Check that a file of vectors is there.

    Raises:
        CorpusNotFound: It is not.
    """
    if not require_path(path.absolute()).is_file():
        raise CorpusNotFound(CORPUS, path, f"file ({' or '.join(FORMS)})")


def read_vectors(path: Path) -> VectorFile:
    """Read a file of vectors.

    Raises:
        CorpusNotFound: There is no such file.
        UnreadableLabels: It is no such file; an array is missing, empty, of another length or shape, or not finite; or
            there are too many classes.
        TextError: The file's name, a label or a speaker is text that no kit can carry.
    """
    require_file(path)
    arrays = {name: _array(path, found, name) for found in (_read(path),) for name in ARRAYS}
    x = arrays["features"]
    if x.ndim != 2 or x.dtype.kind not in "fiu" or 0 in x.shape:
        raise UnreadableLabels(path, f"features are {x.dtype} {x.shape}, not numbers of N utterances x D")
    for name in ARRAYS[1:]:
        if arrays[name].shape != x.shape[:1]:
            raise UnreadableLabels(path, f"{len(x)} features, but {name} have the shape {arrays[name].shape}")
    with np.errstate(over="ignore"):  # what single precision does not hold is said below
        x = np.asarray(x, dtype=np.float32)
    broken = np.flatnonzero(~np.isfinite(x).all(1))
    if len(broken):
        raise UnreadableLabels(path, f"{len(broken)} of the features are not finite, the first in row {broken[0]}")
    written = [require_label(label, f"{path}, labels") for label in arrays["labels"].astype(str).tolist()]
    names, labels = np.unique(written, return_inverse=True)
    if len(names) > MOST_CLASSES:
        raise UnreadableLabels(path, f"labels name {len(names)} classes, more than {MOST_CLASSES}")
    speakers = [require_text(name, f"{path}, speakers") for name in arrays["speakers"].astype(str).tolist()]
    people, _ = one_spelling(speakers)
    found = tuple(people[name] for name in speakers)
    return VectorFile(path, x, labels.astype(np.int64), found, tuple(names.tolist()))


def _read(path: Path) -> dict[str, NDArray[Any]]:
    if path.suffix not in FORMS:
        raise UnreadableLabels(path, f"is neither {' nor '.join(FORMS)}")
    try:
        return _read_npz(path) if path.suffix == ".npz" else _read_safetensors(path)
    except READING as error:
        raise UnreadableLabels(path, f"cannot be read ({error})") from error


def _read_npz(path: Path) -> dict[str, NDArray[Any]]:
    if not zipfile.is_zipfile(path):
        raise ValueError("it is no archive of arrays, as numpy.savez writes one")
    with np.load(path, allow_pickle=False) as found:
        return {name: found[name] for name in found.files if name in ARRAYS}


def _read_safetensors(path: Path) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as found:
            arrays = {name: found.get_tensor(name) for name in ARRAYS if name in set(found.keys())}
            metadata: Mapping[str, str] = found.metadata() or {}
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    for name in ARRAYS[1:]:
        if name in metadata and name in arrays:
            arrays[name] = _words(arrays[name], json.loads(metadata[name]), name)
    return arrays


def _words(numbers: NDArray[Any], words: Any, name: str) -> NDArray[np.str_]:
    whole = numbers.dtype.kind in "iu" and numbers.size > 0
    listed = isinstance(words, list) and all(isinstance(word, str) for word in words)
    if not listed or not whole or numbers.min() < 0 or numbers.max() >= len(words):
        raise ValueError(f"{name} are no numbers of the words in the metadata")
    found: NDArray[np.str_] = np.array(words)[numbers]
    return found


def _array(path: Path, found: Mapping[str, NDArray[Any]], name: str) -> NDArray[Any]:
    if name not in found:
        raise UnreadableLabels(path, f"holds no array {name!r}; needed are {', '.join(ARRAYS)}")
    if name != "features" and found[name].dtype.kind not in "iuU":
        raise UnreadableLabels(path, f"{name} are {found[name].dtype}, neither words nor whole numbers")
    return found[name]
