"""Features of recordings, each computed once: they are kept by the recording's content and by what computes them.

    found = read_recordings(paths, LogMelReader(spec), Workers(jobs=2))
    found[path]                 # float32, or in words why there are none

A recording's features are a file of their own, so that they can be read piece by piece.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgeser.workers import Workers
from edgeser_device.data.audio import recording_bytes
from edgeser_device.errors import AudioError
from edgeser_export.utilities.outside import cache_folder
from edgeser_export.utilities.progress import progress_bar

PIECE = 64
"""Recordings that a worker reads at once."""


class Reader(Protocol):
    """The function that computes the features of a recording; worker processes get a copy."""

    @property
    def what(self) -> str:
        """The features in a word."""

    @property
    def key(self) -> bytes:
        """Everything that they depend on, but the recording."""

    @property
    def shape(self) -> tuple[int, int]:
        """Their shape, -1 where it is the recording's."""

    @property
    def rate(self) -> int:
        """The sampling rate in Hz to which a recording is brought."""

    def of_samples(self, samples: NDArray[np.float32], path: Path) -> NDArray[np.float32]:
        """The features of samples at :attr:`rate`; ``path`` is named in errors.

        Raises:
            AudioError: They have none.
        """

    def __call__(self, path: Path) -> NDArray[np.float32]:
        """The features of a recording; errors as :meth:`of_samples`."""


def read_recordings(paths: Sequence[Path], reader: Reader, workers: Workers) -> dict[Path, NDArray[np.float32] | str]:
    """Features of each recording, float32, or in words why there are none."""
    pieces = [paths[start : start + PIECE] for start in range(0, len(paths), PIECE)]
    found: dict[Path, NDArray[np.float32] | str] = {}
    with progress_bar(reader.what, len(paths)) as advance:
        for piece, rows in zip(pieces, workers.each(_read_piece, [(piece, reader) for piece in pieces]), strict=True):
            found |= dict(zip(piece, rows, strict=True))
            advance(len(found), "")
    return found


def _read_piece(paths: Sequence[Path], reader: Reader) -> list[NDArray[np.float32] | str]:
    key = reader.key
    return [_cached(path, reader, key) for path in paths]


def _cached(path: Path, reader: Reader, prefix: bytes) -> NDArray[np.float32] | str:
    """Features from the cache if the recording's content is known there."""
    try:
        key = hashlib.sha256(prefix + recording_bytes(path)).hexdigest()
    except AudioError as error:
        return error.message
    folder = cache_folder()
    entry = folder and folder / "features" / key[:2] / f"{key}.f32"
    row = 4 * max(reader.shape)
    if entry and entry.is_file() and entry.stat().st_size % row == 0 and entry.stat().st_size:
        return np.fromfile(entry, dtype="<f4").reshape(reader.shape)
    try:
        features = np.ascontiguousarray(reader(path))
    except AudioError as error:
        return error.message
    if entry:
        with suppress(OSError):  # a cache that cannot be written costs time, not the run
            _keep(entry, features.astype("<f4").tobytes())
    return features


def _keep(entry: Path, data: bytes) -> None:
    """Write a cache entry by rename; without fsync, because a lost one is computed again and its size is checked."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    draft = entry.with_suffix(f".{os.getpid()}.part")
    try:
        draft.write_bytes(data)
        draft.replace(entry)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
