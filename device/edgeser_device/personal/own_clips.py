"""The owner's own clips: a folder with a folder for each emotion, as ``edgeser record`` writes them.

own = read_clips(Path("clips"), kit.labels, input_of(kit))
own.left_out                # what cannot be used, each with its reason

An encoder hears a clip once: the model that learns it keeps its vectors, in 8 bits, until they are removed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeser_device.data.audio import read_audio, trim_silence
from edgeser_device.data.recordings import ENDINGS, OTHER_ENDINGS, ending, find_files, is_hidden
from edgeser_device.errors import AudioError, ClipsError
from edgeser_device.frontend import FrontendSpec
from edgeser_device.listen.gate import level_db
from edgeser_device.model.inputs import ModelInput
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
Kept: TypeAlias = Mapping[str, tuple[int, NDArray[np.float32]]]
"""Clips by the SHA-256 of their samples: class, and windows, float32 (windows, rows, columns)."""
NOTHING: Kept = MappingProxyType({})
SHORTEST_S = 0.3
"""Seconds of sound between the silent edges that a clip must hold: less is hardly a syllable."""


@dataclass(frozen=True)
class OwnClips:
    """Clips as items of a distilled set.

    Attributes:
        digests: SHA-256 of the samples of each clip, hexadecimal.
        classes: Class of each clip, int64 (clips,).
        windows: Float32 (windows, rows, columns), in standard deviations of the training part.
        owners: Clip of each window, int64 (windows,).
        left_out: The recordings that cannot be used.
    """

    digests: tuple[str, ...]
    classes: NDArray[np.int64]
    windows: NDArray[np.float32]
    owners: NDArray[np.int64]
    left_out: tuple[Skipped, ...] = ()

    def __len__(self) -> int:
        return len(self.digests)

    @classmethod
    def of(cls, clips: Kept, left_out: Sequence[Skipped] = ()) -> OwnClips:
        """Clips in their order."""
        owners = np.repeat(np.arange(len(clips)), [len(cut) for _, cut in clips.values()])
        windows = np.concatenate([cut for _, cut in clips.values()])
        classes = np.array([number for number, _ in clips.values()], np.int64)
        return cls(tuple(clips), classes, windows, owners, tuple(left_out))

    @property
    def window_classes(self) -> NDArray[np.int64]:
        """Class of each window, int64 (windows,)."""
        return self.classes[self.owners]


def read_clips(folder: Path, labels: tuple[str, ...], reads: ModelInput, kept: Kept = NOTHING) -> OwnClips:
    """Read the clips below ``folder``; the folder that a clip lies in names its emotion, in capitals or not.

    A clip is left out where it cannot be read, holds too little sound, or is a copy of another clip.

    Args:
        folder: Holds a folder for each emotion; not every emotion is needed.
        labels: The emotions in the order of the classes.
        reads: What the model reads.
        kept: Clips that were learnt before. They count whether their recordings are still there or not; a recording
            that lies in the folder of another emotion now is one of that emotion.

    Raises:
        ClipsError: No such folder, an emotion that the model does not know, clips outside such folders, fewer than two
            usable clips of an emotion, or fewer than two emotions.
    """
    found, left_out, spec = _find(Path(folder), labels), [], reads.frontend
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
        digest = sha256(samples.tobytes()).hexdigest()
        copies.setdefault(digest, []).append(path)
        cut[path] = kept[digest][1] if digest in kept else reads.items(samples, MOST_WINDOWS)
    left_out += [each for same in copies.values() for each in _spare(same, found)]
    refused, digests = {each.file for each in left_out}, {same[0]: digest for digest, same in copies.items()}
    clips = {digests[path]: (found[path], cut[path]) for path in sorted(digests.keys() - refused)}
    clips |= {digest: clip for digest, clip in kept.items() if digest not in copies}
    there = {*found.values(), *(number for number, _ in clips.values())}
    _require_enough(folder, there, Counter(number for number, _ in clips.values()), labels, left_out)
    return OwnClips.of(clips, left_out)


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
    folder: Path, there: Set[int], counts: Mapping[int, int], labels: Sequence[str], left_out: Sequence[Skipped]
) -> None:
    """Check that every emotion that has a file has clips enough, and that there are two emotions."""
    why = f"; {len(left_out)} left out, the first because {left_out[0].reason}" if left_out else ""
    if len(there) < 2:
        raise ClipsError(
            f"{folder} holds clips of {len(there)} emotion{'s' * (len(there) != 1)}",
            "record two clips or more of at least two emotions",
        )
    few = [number for number in sorted(there) if counts[number] < LEAST_CLIPS]
    scarce = [f"{counts[number]} of {labels[number]}" for number in few]
    if scarce:
        raise ClipsError(
            f"{folder} holds too few clips that can be used, {', '.join(scarce)}{why}",
            f"record {LEAST_CLIPS} or more of each emotion, or remove that emotion's folder",
        )
