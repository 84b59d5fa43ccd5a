"""Clips of one's own: what is said, cut at the pauses, as WAV files in a folder for each label.

The folder is what ``edgeser train-on-device --clips`` and the corpus format ``folder`` read. Files come one by one,
each whole, and none that is there is touched.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeser_device.errors import AudioError, ListenError
from edgeser_device.listen.capture.microphone import Microphone
from edgeser_device.listen.clips import clip_name, wav_bytes
from edgeser_device.listen.counters import Counters
from edgeser_device.listen.cutter import Cutter
from edgeser_device.listen.gate import level_db, open_gate
from edgeser_device.listen.sources import Recording, Source
from edgeser_device.listen.speech import SpeechSettings
from edgeser_export.files import write_bytes

RATE = 16000
"""Hz of the files: what the corpora and the models have."""
QUIET_DB, CLIPPED_SHARE = -45.0, 0.001
"""An utterance below this level, or with more samples than this at full scale, is remarked on."""
LABEL = re.compile(r"[^\W_][\w -]{0,39}")


@dataclass(frozen=True)
class RecordReport:
    """What was recorded.

    Attributes:
        label: Of all of it.
        files: In their order.
        seconds: Of all of them together.
    """

    label: str
    files: tuple[str, ...]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "files": list(self.files)}

    def words(self) -> str:
        """The same in a line, and what to do with it."""
        folder = Path(self.files[0]).parent.parent
        return (
            f"{len(self.files)} clips of {self.label}, {self.seconds:.1f} s in {folder / self.label}\n"
            f"next: the other emotions, then edgeser train-on-device KIT --out MODEL --clips {folder}"
        )


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
    """Record ``count`` utterances, or all of a recording, to ``out / label``.

    Raises:
        ListenError: The label is no name for a folder, or there is no such gate.
        AudioError: The recording cannot be read, or nobody speaks in it.
        MicrophoneError: There is no microphone, or it cannot be opened.
        MissingExtra: A package is not installed.
        StorageError: The folder cannot be written.
    """
    if not LABEL.fullmatch(label):
        raise ListenError(f"the label {label!r} is no name for a folder", "use letters, digits, spaces and hyphens")
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
    """What should be better next time."""
    if float(np.mean(np.abs(samples) >= 1 - 2**-15)) > CLIPPED_SHARE:
        return "; too loud: it is clipped"
    level = level_db(samples)
    return f"; very quiet: {level:.0f} dB" if level < QUIET_DB else ""
