"""The owner's own clips: a folder with a folder for each emotion, as ``edgeser record`` writes them.

own = read_clips(Path("clips"), kit.labels, kit.distilled.frontend)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeser_device.audio import read_audio
from edgeser_device.errors import ClipsError
from edgeser_device.frontend import FrontendSpec, clip_log_mel, normalise, windows
from edgeser_device.recordings import ENDINGS, OTHER_ENDINGS, find_audio
from edgeser_export.errors import choice_hint

LEAST_CLIPS = 2
"""Clips of an emotion: where one is left out, another must be there to learn from."""
MOST_WINDOWS = 8
"""Windows of one clip; of a longer one, as many spread over its length."""


@dataclass(frozen=True)
class OwnClips:
    """Clips as normalised log-mels.

    Attributes:
        paths: The recordings, sorted.
        classes: Class of each clip, int64 (clips,).
        windows: Float32 (windows, mels, frames), normalised.
        owners: Clip of each window, int64 (windows,).
    """

    paths: tuple[Path, ...]
    classes: NDArray[np.int64]
    windows: NDArray[np.float32]
    owners: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def window_classes(self) -> NDArray[np.int64]:
        """Class of each window, int64 (windows,)."""
        return self.classes[self.owners]


def read_clips(folder: Path, labels: tuple[str, ...], spec: FrontendSpec) -> OwnClips:
    """Read all clips below ``folder``; the folder that a clip lies in names its emotion, in capitals or not.

    Args:
        folder: Holds a folder for each emotion; not every emotion is needed.
        labels: The emotions in the order of the classes.
        spec: The model's front-end.

    Raises:
        ClipsError: No such folder, an emotion that the model does not know, clips outside such folders, fewer than two
            clips of an emotion, or fewer than two emotions.
        AudioError: A clip cannot be read.
    """
    found = _find(Path(folder), labels)
    classes = np.array([number for _, number in found], dtype=np.int64)
    _require_enough(folder, classes, labels)
    cut = [_spread(windows(clip_log_mel(read_audio(path, spec.rate), spec), spec)) for path, _ in found]
    owners = np.repeat(np.arange(len(cut)), [len(each) for each in cut])
    return OwnClips(tuple(path for path, _ in found), classes, normalise(np.concatenate(cut), spec), owners)


def _find(folder: Path, labels: tuple[str, ...]) -> list[tuple[Path, int]]:
    if not folder.is_dir():
        raise ClipsError(f"there is no folder {folder}", "record clips first: edgeser record --label L --out DIR")
    known = {label.lower(): number for number, label in enumerate(labels)}
    found = []
    for path in find_audio(folder, ENDINGS | OTHER_ENDINGS):
        inner = path.relative_to(folder).parts
        if len(inner) == 1:
            raise ClipsError(
                f"{path} lies in no folder of an emotion", f"move it to {folder}/LABEL, one of: {', '.join(labels)}"
            )
        if inner[0].lower() not in known:
            raise ClipsError(
                f"the model does not know the emotion {inner[0]!r} of {path}", choice_hint(inner[0], labels)
            )
        found.append((path, known[inner[0].lower()]))
    return found


def _require_enough(folder: Path, classes: NDArray[np.int64], labels: tuple[str, ...]) -> None:
    counts = np.bincount(classes, minlength=len(labels))
    if np.count_nonzero(counts) < 2:
        raise ClipsError(
            f"{folder} holds clips of {np.count_nonzero(counts)} emotions", "record two clips or more of at least two"
        )
    scarce = [label for label, count in zip(labels, counts, strict=True) if 0 < count < LEAST_CLIPS]
    if scarce:
        raise ClipsError(
            f"{folder} holds a single clip of {', '.join(scarce)}",
            f"record {LEAST_CLIPS} or more of each emotion, or remove that one",
        )


def _spread(cut: NDArray[np.float32]) -> NDArray[np.float32]:
    if len(cut) <= MOST_WINDOWS:
        return cut
    kept = np.linspace(0, len(cut) - 1, MOST_WINDOWS).round().astype(np.intp)
    return np.take(cut, kept, axis=0)
