"""The owner's own clips: a folder with a folder for each emotion, as ``edgeser record`` writes them.

own = read_clips(Path("clips"), kit.labels, kit.distilled.frontend)
own.left_out                # what cannot be used, each with its reason
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeser_device.data.audio import read_audio, trim_silence
from edgeser_device.data.recordings import ENDINGS, OTHER_ENDINGS, ending, find_files, is_hidden
from edgeser_device.errors import AudioError, ClipsError
from edgeser_device.frontend import FrontendSpec, clip_log_mel, normalise, windows
from edgeser_device.listen.gate import level_db
from edgeser_device.model.predict import Skipped
from edgeser_export.utilities.errors import choice_hint
from edgeser_export.utilities.files import sha256
from edgeser_export.utilities.outside import tidy

LEAST_CLIPS = 2
"""Clips of an emotion: where one is left out, another must be there to learn from."""
MOST_WINDOWS = 8
"""Windows of one clip; of a longer one, as many spread over its length."""
SILENT_DB = -60.0
"""Level in dB that a clip must have between its silent edges: most microphones hear more than that of an empty room."""
SHORTEST_S = 0.3
"""Seconds of sound between the silent edges that a clip must hold: less is hardly a syllable."""


@dataclass(frozen=True)
class OwnClips:
    """Clips as normalised log-mels.

    Attributes:
        paths: The recordings that can be used, sorted.
        classes: Class of each clip, int64 (clips,).
        windows: Float32 (windows, mels, frames), normalised.
        owners: Clip of each window, int64 (windows,).
        left_out: The recordings that cannot be used.
    """

    paths: tuple[Path, ...]
    classes: NDArray[np.int64]
    windows: NDArray[np.float32]
    owners: NDArray[np.int64]
    left_out: tuple[Skipped, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def window_classes(self) -> NDArray[np.int64]:
        """Class of each window, int64 (windows,)."""
        return self.classes[self.owners]


def read_clips(folder: Path, labels: tuple[str, ...], spec: FrontendSpec) -> OwnClips:
    """Read the clips below ``folder``; the folder that a clip lies in names its emotion, in capitals or not.

    A clip is left out where it cannot be read, holds too little sound, or is a copy of another clip.

    Args:
        folder: Holds a folder for each emotion; not every emotion is needed.
        labels: The emotions in the order of the classes.
        spec: The model's front-end.

    Raises:
        ClipsError: No such folder, an emotion that the model does not know, clips outside such folders, fewer than two
            usable clips of an emotion, or fewer than two emotions.
    """
    found, left_out = _find(Path(folder), labels), []
    cut: dict[Path, NDArray[np.float32]] = {}
    copies: dict[str, list[Path]] = {}
    for path in found:
        try:
            samples = read_audio(path, spec.rate)
        except AudioError as error:
            left_out.append(Skipped(path, error.message))
            continue
        if fault := fault_of(samples, spec):
            left_out.append(Skipped(path, f"{path} {fault}"))
            continue
        copies.setdefault(sha256(samples.tobytes()).hexdigest(), []).append(path)
        cut[path] = _spread(windows(clip_log_mel(samples, spec), spec))
    left_out += [each for same in copies.values() for each in _spare(same, found)]
    used = sorted(cut.keys() - {each.file for each in left_out})
    _require_enough(folder, found, used, labels, left_out)
    owners = np.repeat(np.arange(len(used)), [len(cut[path]) for path in used])
    levels = normalise(np.concatenate([cut[path] for path in used]), spec)
    return OwnClips(tuple(used), np.array([found[path] for path in used], np.int64), levels, owners, tuple(left_out))


def fault_of(samples: NDArray[np.float32], spec: FrontendSpec) -> str:
    """Why a recording teaches nothing, as the rest of a sentence; empty where it holds sound for long enough.

    Args:
        samples: Float32 (n,), full scale 1.0; an offset is no sound.
        spec: Gives the rate, and how silent the edges are that are cut.
    """
    centred = samples - samples.mean(dtype=np.float64).astype(np.float32)
    part = trim_silence(centred, spec.trim_db)
    if level_db(part) < SILENT_DB:
        return f"holds no sound above {SILENT_DB:g} dB"
    seconds = len(part) / spec.rate
    return f"holds {seconds:.2f} s of sound, {SHORTEST_S:g} s are needed" if seconds < SHORTEST_S else ""


def _spare(same: Sequence[Path], classes: Mapping[Path, int]) -> list[Skipped]:
    """Return of equal recordings all but the first, and all of them where they lie in folders of several emotions."""
    if len({classes[path] for path in same}) > 1:
        return [Skipped(path, f"{path} lies in the folder of another emotion, too") for path in same]
    return [Skipped(path, f"{path} is a copy of {same[0]}") for path in same[1:]]


def _find(folder: Path, labels: tuple[str, ...]) -> dict[Path, int]:
    """All files in folders of emotions, sorted, with the class of each."""
    if not folder.is_dir():
        raise ClipsError(f"there is no folder {folder}", "record clips first: edgeser record --label L --out DIR")
    known = {label.casefold(): number for number, label in enumerate(labels)}
    found = {}
    for path in find_files(folder, lambda name: not is_hidden(name)):
        inner = path.relative_to(folder).parts
        number = known.get(tidy(inner[0]).casefold())
        if number is None and ending(path.name) not in ENDINGS | OTHER_ENDINGS:
            continue
        if len(inner) == 1:
            raise ClipsError(
                f"{path} lies in no folder of an emotion", f"move it to {folder}/LABEL, one of: {', '.join(labels)}"
            )
        if number is None:
            raise ClipsError(
                f"the model does not know the emotion {inner[0]!r} of {path}", choice_hint(inner[0], labels)
            )
        found[path] = number
    return found


def _require_enough(
    folder: Path, found: Mapping[Path, int], used: Sequence[Path], labels: Sequence[str], left_out: Sequence[Skipped]
) -> None:
    """Check that every emotion that has a file has clips enough, and that there are two emotions."""
    why = f"; {len(left_out)} left out, the first because {left_out[0].reason}" if left_out else ""
    counts = Counter(labels[found[path]] for path in used)
    there = [label for number, label in enumerate(labels) if number in found.values()]
    if len(there) < 2:
        raise ClipsError(
            f"{folder} holds clips of {len(there)} emotion{'s' * (len(there) != 1)}",
            "record two clips or more of at least two emotions",
        )
    scarce = [f"{counts[label]} of {label}" for label in there if counts[label] < LEAST_CLIPS]
    if scarce:
        raise ClipsError(
            f"{folder} holds too few clips that can be used, {', '.join(scarce)}{why}",
            f"record {LEAST_CLIPS} or more of each emotion, or remove that emotion's folder",
        )


def _spread(cut: NDArray[np.float32]) -> NDArray[np.float32]:
    if len(cut) <= MOST_WINDOWS:
        return cut
    kept = np.linspace(0, len(cut) - 1, MOST_WINDOWS).round().astype(np.intp)
    return np.take(cut, kept, axis=0)
