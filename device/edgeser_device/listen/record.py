"""Clips of one's own: what is said, cut at the pauses, as WAV files in a folder for each label.

The folder is what ``edgeser train-on-device --clips`` and the corpus format ``folder`` read. Files come one by one,
each whole, and none that is there is touched. ``Cutter`` is the part that needs no microphone and no model: sound in,
whole utterances out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeser_device.errors import AudioError, ClipsError
from edgeser_device.listen.capture.sources import Microphone, Recording, Source
from edgeser_device.listen.events import Counters
from edgeser_device.listen.gate import CHUNK_SECONDS, Gate, level_db, open_gate
from edgeser_device.listen.saved_clips import clip_name, wav_bytes
from edgeser_device.listen.speech import Begin, Boundaries, End, SpeechSettings
from edgeser_export.utilities.errors import choice_hint
from edgeser_export.utilities.files import write_bytes
from edgeser_export.utilities.outside import require_label

RATE = 16000
"""Hz of the files: what the corpora and the models have."""
QUIET_DB, CLIPPED_SHARE = -45.0, 0.001
"""An utterance below this level, or with more samples than this at full scale, is remarked on."""


@dataclass(frozen=True)
class RecordReport:
    """The clips that were recorded.

    Attributes:
        label: The one label of all clips.
        files: The clips in their order.
        seconds: Length of all clips together.
    """

    label: str
    files: tuple[str, ...]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "files": list(self.files)}

    def words(self) -> str:
        """Say in a line what was recorded, and what to do with it."""
        folder = Path(self.files[0]).parent.parent
        return (
            f"{len(self.files)} clips of {self.label}, {self.seconds:.1f} s in {folder / self.label}\n"
            f"next: the other emotions, then edgeser train-on-device KIT --out MODEL --clips {folder}"
        )


def find_label(label: str, out: Path, labels: Sequence[str]) -> tuple[str, str | None]:
    """Check a label before anything is recorded with it.

    Args:
        label: As it was typed, in capitals or not.
        out: The folder of the clips.
        labels: The emotions of the model that the clips are for; empty where it is not known.

    Returns:
        The label as the model or the folders in ``out`` spell it; and where neither has it, a recorded emotion whose
        name is nearly the same.

    Raises:
        TextError: It is no name for a folder.
        ClipsError: The model does not know it.
    """
    label = require_label(label, "--label")
    there = [path.name for path in sorted(out.iterdir()) if path.is_dir()] if out.is_dir() else []
    known = {name.lower(): name for name in labels or there}
    if label.lower() in known:
        return known[label.lower()], None
    if labels:
        raise ClipsError(f"the model does not know the emotion {label!r}", choice_hint(label, labels))
    from difflib import get_close_matches

    return label, next((known[name] for name in get_close_matches(label.lower(), known, n=1)), None)


def record_clips(
    label: str,
    out: Path,
    count: int,
    wav: Path | None,
    device: str | None,
    backend: str | None,
    gate: str | None,
    settings: SpeechSettings,
    say: Callable[[str], None],
) -> RecordReport:
    """Record ``count`` utterances, or all of a recording, to ``out / label``; :func:`find_label` checks that.

    Raises:
        ListenError: There is no such gate.
        AudioError: The recording cannot be read, or nobody speaks in it.
        MicrophoneError: There is no microphone, or it cannot be opened.
        MissingExtra: A package is not installed.
        StorageError: The folder cannot be written.
    """
    cutter = Cutter(open_gate(gate, RATE), settings, RATE)
    source: Source = Recording(wav, RATE, False) if wav else Microphone(device, backend, RATE, Counters())
    files: list[str] = []
    seconds = 0.0

    def store(samples: NDArray[np.float32]) -> None:
        nonlocal seconds
        path = out / label / clip_name(f"{datetime.now():%Y%m%dT%H%M%S-%f}", label)
        write_bytes(path, wav_bytes(samples, RATE))
        files.append(str(path))
        seconds += len(samples) / RATE
        say(f"{len(files)} of {count}: {path.name}, {len(samples) / RATE:.1f} s{remarks(samples)}")

    with closing(source):
        say(f"{source.words}: speak with {label}, with a pause after each sentence")
        for sound in source.sounds():
            for samples in cutter.push(sound.samples) if sound is not None else ():
                store(samples)
                if len(files) >= count:
                    return RecordReport(label, tuple(files), round(seconds, 3))
        for samples in cutter.finish():
            store(samples)
    if not files:
        raise AudioError(f"nobody speaks in {wav}", "try --gate level, or another recording")
    return RecordReport(label, tuple(files), round(seconds, 3))


def remarks(samples: NDArray[np.float32]) -> str:
    """Remarks on a clip that is clipped or very quiet, as the rest of a line; empty where it is neither."""
    if float(np.mean(np.abs(samples) >= 1 - 2**-15)) > CLIPPED_SHARE:
        return "; too loud: it is clipped"
    level = level_db(samples)
    return f"; very quiet: {level:.0f} dB" if level < QUIET_DB else ""


class Cutter:
    """Pieces of sound in, whole utterances out."""

    def __init__(self, gate: Gate, settings: SpeechSettings, rate: int) -> None:
        """Start with nothing heard; ``rate`` in Hz."""
        self._gate, self._boundaries = gate, Boundaries(settings)
        self._length = round(CHUNK_SECONDS * rate)
        self._before: deque[NDArray[np.float32]] = deque(maxlen=self._boundaries.kept_before)
        self._speech: list[NDArray[np.float32]] = []
        self._rest = np.empty(0, np.float32)

    def push(self, samples: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Take the next samples, float32 (n,); the utterances that end in them, each float32 (n,)."""
        held = np.concatenate([self._rest, samples])
        whole = len(held) // self._length * self._length
        self._rest = held[whole:]
        chunks = held[:whole].reshape(-1, self._length)
        return [found for chunk in chunks if (found := self._hear(chunk)) is not None]

    def finish(self) -> list[NDArray[np.float32]]:
        """The utterance that the end of the sound cut off, if there is one."""
        self._speech.append(self._rest)
        if (turn := self._boundaries.finish()) is not None:
            self._speech = [*self._since(turn), self._rest]
        return [self._close(self._boundaries.close())] if self._boundaries.open else []

    def _hear(self, chunk: NDArray[np.float32]) -> NDArray[np.float32] | None:
        turn = self._boundaries.push(self._gate(chunk), level_db(chunk))
        self._before.append(chunk.copy())
        if isinstance(turn, Begin):
            self._speech = self._since(turn)
        elif self._boundaries.open or isinstance(turn, End):
            self._speech.append(self._before[-1])
        return self._close(turn) if isinstance(turn, End) else None

    def _since(self, begin: Begin) -> list[NDArray[np.float32]]:
        return list(self._before)[-(self._boundaries.number - begin.chunk) :]

    def _close(self, end: End) -> NDArray[np.float32]:
        found = np.concatenate(self._speech)[: (end.chunk - end.first) * self._length]
        self._speech = []
        return found
