"""Log-mels: recordings read in parallel, normalised by the training clips, stored as bytes.

features = extract(corpus, split, FrontendSpec(), Workers(jobs=2))
features.train.crops        # (clips, 1, mels, frames), normalised by the training clips

The log-mel of a recording is cached as a file of its own, by the front-end's numbers and the recording's content, so
that it is computed once and can be read piece by piece.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Unpack

import numpy as np
from numpy.typing import NDArray

from edgeser.config.settings import STARTS, Settings
from edgeser.corpora.corpus import Corpus, Utterance, conflicts_of
from edgeser.corpora.errors import ConflictingCopies, CorpusError
from edgeser.corpora.fingerprint import corpus_fingerprint
from edgeser.corpora.splits import Split, make_split
from edgeser.corpora.table import load_corpus
from edgeser.representation.base import Augmentation, Content, Features, Maps, Part, Representation, Stored
from edgeser.workers import Workers
from edgeser_device.data.audio import read_audio, recording_bytes
from edgeser_device.data.distilled import DistilledSet
from edgeser_device.data.sample_storage import fold, unfold
from edgeser_device.data.views import Mixing
from edgeser_device.errors import AudioError
from edgeser_device.frontend import FrontendSpec, centre_window, clip_log_mel, normalise, windows
from edgeser_export.utilities.outside import home
from edgeser_export.utilities.progress import progress_bar

PIECE = 64
"""Recordings that a worker reads at once."""
FRONTEND_VERSION = 2
"""Raised whenever the reader's or the front-end's code changes what it computes, so that older cache entries are not
read."""


@dataclass(frozen=True)
class LogMelPart(Part):
    """One part of a split.

    Attributes:
        levels: Log-mel of each clip, dB, float32 (mels, any number of frames).
        frontend: How to normalise and to cut windows.
    """

    levels: tuple[NDArray[np.float32], ...]
    frontend: FrontendSpec

    @property
    def crops(self) -> NDArray[np.float32]:
        """The one training window of each clip, normalised, float32 (clips, 1, mels, frames)."""
        crops = [centre_window(levels, self.frontend.frames) for levels in self.levels]
        return normalise(np.stack(crops), self.frontend)[:, None]

    def windows(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """All windows of all clips, normalised, float32 (windows, 1, mels, frames), and the clip of each, int64."""
        cut = [windows(levels, self.frontend) for levels in self.levels]
        owners = np.repeat(np.arange(len(cut)), [len(each) for each in cut])
        return normalise(np.concatenate(cut), self.frontend)[:, None], owners


@dataclass(frozen=True)
class LogMel(Representation):
    """Log-mels of recordings.

    Attributes:
        frontend: The front-end, with the training clips' mean and standard deviation once it is fitted.
    """

    frontend: FrontendSpec = field(default_factory=FrontendSpec)

    name: ClassVar[str] = "log-mel"
    has_time: ClassVar[bool] = True
    augmentation: ClassVar[Augmentation] = Augmentation()
    bank: ClassVar[Mixing] = Mixing()
    usual_starts: ClassVar[tuple[str, str]] = (STARTS[True], STARTS[False])
    input_shape: ClassVar[tuple[int, int, int]] = (1, FrontendSpec.mels, FrontendSpec.frames)

    def extract(self, settings: Settings, workers: Workers) -> Features:
        """Read the recordings, split them, and fit the front-end; unreadable ones are listed and left out."""
        corpus = load_corpus(settings.corpus, settings.folder or None)
        return extract(corpus, make_split(corpus, settings.split or None), self.frontend, workers)

    def blend(self, sources: Maps, weights: NDArray[np.float64], middle: NDArray[np.float32]) -> NDArray[np.float64]:  # noqa: ARG002
        """The log-mel of sounds that are heard together, with the mean and the spread of its sources."""
        return alike(at_once(sources, weights, float(self.frontend.std)), sources)

    def quantise(self, items: Maps, formations: int) -> Stored:
        """Items as bytes, see :mod:`edgeser_device.data.sample_storage`."""
        levels, scale, offset = fold(items, formations)
        return {"levels": levels, "scale": scale, "offset": offset}

    def dequantise(self, stored: Stored, formations: int) -> Maps:
        """The log-mels that these bytes stand for."""
        return unfold(**stored, samples_per_item=formations)

    def make_set(self, stored: Stored, formations: int, **content: Unpack[Content]) -> DistilledSet:
        """The distilled set of items that :meth:`quantise` stored."""
        return DistilledSet(**stored, **content, frontend=self.frontend, samples_per_item=formations)

    def read_set(self, data: bytes) -> DistilledSet:
        """The distilled set in a file."""
        return DistilledSet.from_bytes(data)

    def describe(self) -> dict[str, Any]:
        """The front-end, whose mean and standard deviation stand for the contents of the training clips."""
        return {"frontend": self.frontend.to_json()}


def at_once(sources: NDArray[np.float32], weights: NDArray[np.float64], decibels: float) -> NDArray[np.float64]:
    """The log-mel of sounds that are heard together.

    Args:
        sources: Log-mels (sources, mels, frames), in units of ``decibels`` dB about any level.
        weights: Weights of their powers (sources,), above zero.
        decibels: dB in one unit.

    Returns:
        10 log10(sum of weight 10^(dB / 10)) in the same units, (mels, frames).
    """
    bels = sources.astype(np.float64) * (decibels / 10)
    loudest = bels.max(0)
    return np.asarray((loudest + np.log10(np.tensordot(weights, 10 ** (bels - loudest), axes=1))) * (10 / decibels))


def alike(item: NDArray[np.float64], sources: NDArray[np.float32]) -> NDArray[np.float64]:
    """The item with the mean and the standard deviation of its sources: a sum is louder and varies less."""
    mean, spread = float(sources.mean()), float(sources.std())
    return np.asarray(mean + (item - item.mean()) * (spread / max(float(item.std()), 1e-6)))


def extract(corpus: Corpus, split: Split, spec: FrontendSpec, workers: Workers) -> Features:
    """Read all recordings of a split; unreadable ones are listed and left out.

    Args:
        corpus: The corpus, which gives the order of the classes.
        split: The parts of the corpus.
        spec: The front-end; its mean and std are replaced by those of the training clips.
        workers: The processes that read recordings.

    Raises:
        CorpusError: A class has no readable recording in a part.
        ConflictingCopies: A recording occurs with two emotions or two speakers.
    """
    parts = (split.train, split.dev, split.test)
    found = log_mels([utterance.path for part in parts for utterance in part], spec, workers)
    unreadable = tuple((path, reason) for path, reason in found.items() if isinstance(reason, str))
    readable = [tuple(each for each in part if not isinstance(found[each.path], str)) for part in parts]
    _require_readable(corpus, readable, unreadable)
    _require_no_conflicts(corpus, [each for part in readable for each in part], found)
    crops = [centre_window(_levels(found, each), spec.frames) for each in readable[0]]
    everything = np.stack(crops).astype(np.float64)
    fitted = replace(
        spec, mean=float(np.float32(everything.mean())), std=float(np.float32(max(everything.std(), 1e-6)))
    )
    train, dev, test = (
        LogMelPart(
            utterances=part,
            levels=tuple(_levels(found, each) for each in part),
            labels=np.array([corpus.labels.index(each.emotion) for each in part], dtype=np.int64),
            frontend=fitted,
        )
        for part in readable
    )
    size = sum(each.path.stat().st_size for each in readable[0])
    return Features(corpus, split, LogMel(fitted), train, dev, test, corpus_fingerprint(corpus), size, unreadable)


def log_mels(paths: Sequence[Path], spec: FrontendSpec, workers: Workers) -> dict[Path, NDArray[np.float32] | str]:
    """Log-mel of each recording, dB, float32 (mels, frames), or in words why there is none."""
    pieces = [paths[start : start + PIECE] for start in range(0, len(paths), PIECE)]
    found: dict[Path, NDArray[np.float32] | str] = {}
    with progress_bar("log-mels", len(paths)) as advance:
        for piece, rows in zip(pieces, workers.each(_log_mels, [(piece, spec) for piece in pieces]), strict=True):
            found |= dict(zip(piece, rows, strict=True))
            advance(len(found), "")
    return found


def cache_folder() -> Path | None:
    """Where features are kept: EDGESER_CACHE, else the user's cache folder; None, and nowhere, without such a user."""
    given, shared, own = os.environ.get("EDGESER_CACHE"), os.environ.get("XDG_CACHE_HOME"), home()
    if given:
        return Path(given)
    return Path(shared) / "edgeser" if shared else own and own / ".cache" / "edgeser"


def _log_mels(paths: Sequence[Path], spec: FrontendSpec) -> list[NDArray[np.float32] | str]:
    numbers = replace(spec, mean=0.0, std=1.0, frames=1, window_hop=1)  # what a log-mel does not depend on
    prefix = json.dumps([FRONTEND_VERSION, numbers.to_json()], sort_keys=True).encode()
    return [_cached_log_mel(path, spec, prefix) for path in paths]


def _cached_log_mel(path: Path, spec: FrontendSpec, prefix: bytes) -> NDArray[np.float32] | str:
    """One log-mel, from the cache if the recording's content is known there."""
    try:
        key = hashlib.sha256(prefix + recording_bytes(path)).hexdigest()
    except AudioError as error:
        return error.message
    folder = cache_folder()
    entry = folder and folder / "features" / key[:2] / f"{key}.f32"
    if entry and entry.is_file() and entry.stat().st_size % (4 * spec.mels) == 0 and entry.stat().st_size:
        return np.fromfile(entry, dtype="<f4").reshape(spec.mels, -1)
    try:
        levels = np.ascontiguousarray(clip_log_mel(read_audio(path, spec.rate), spec))
    except AudioError as error:
        return error.message
    if entry:
        with suppress(OSError):  # a cache that cannot be written costs time, not the run
            _keep(entry, levels.astype("<f4").tobytes())
    return levels


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


def _levels(found: dict[Path, NDArray[np.float32] | str], utterance: Utterance) -> NDArray[np.float32]:
    levels = found[utterance.path]
    if isinstance(levels, str):
        raise CorpusError(levels, "remove the file, or run: edgeser data check")
    return levels


def _require_readable(
    corpus: Corpus, parts: Sequence[Sequence[Utterance]], unreadable: Sequence[tuple[Path, str]]
) -> None:
    why = f"; {len(unreadable)} recordings cannot be read, the first is {unreadable[0][0].name}" if unreadable else ""
    for name, part in zip(("train", "dev", "test"), parts, strict=True):
        missing = sorted(set(corpus.labels) - {each.emotion for each in part})
        if missing:
            what = f"no recording of {missing[0]!r}" if part else "no recording"
            raise CorpusError(
                f"the {name} part has {what}{why}",
                f"record them again; all are named by edgeser data check {corpus.folder} --corpus {corpus.name}",
            )


def _require_no_conflicts(
    corpus: Corpus, readable: Sequence[Utterance], found: dict[Path, NDArray[np.float32] | str]
) -> None:
    """Refuse copies with two emotions or two speakers: one label is wrong, or one voice is in two parts."""
    copies: dict[bytes, list[Utterance]] = {}
    for each in readable:
        levels = _levels(found, each)
        if np.ptp(levels) > 0:  # silence is like silence
            copies.setdefault(hashlib.sha256(levels.tobytes()).digest(), []).append(each)
    groups = [group for group in copies.values() if conflicts_of(group)]
    if groups:
        paths = sorted(corpus.below(each.path) for each in groups[0])
        raise ConflictingCopies(paths, conflicts_of(groups[0]), len(groups) - 1)
