"""Utterances as WAV files: what ``--save-clips`` and ``record`` write, whole or absent, and never more than a cap.

Without one of them nothing that was heard leaves the memory.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeser_device.errors import ListenError
from edgeser_export.utilities.files import remove_file, write_bytes

OWN = re.compile(r"(?:([0-9]{8})-[0-9]{8}|[0-9]{8}-[0-9]{6})-[0-9]{6}-.*\.wav")
"""Names that ``--save-clips`` gives, numbered, or gave before it numbered them; no other file is ever removed."""


def wav_bytes(samples: NDArray[np.float32], rate: int) -> bytes:
    """A mono WAV file of 16 bits, of samples with full scale 1.0; louder ones are clipped."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, np.clip(samples, -1, 1 - 2**-15), rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def clip_name(stamp: str, emotion: str) -> str:
    """A file's name: when it was said, and the emotion."""
    plain = re.sub(r"[^\w-]+", "_", emotion)[:40] or "clip"
    return f"{stamp}-{plain}.wav"


class ClipFolder:
    """Stores utterances in a folder; the oldest go when there are too many bytes.

    Their order is that of the numbers in their names: a board's clock may be set back.
    """

    def __init__(self, folder: Path, rate: int, cap_mb: float) -> None:
        """Prepare the folder.

        Raises:
            ListenError: The cap is not above 0.
            StorageError: The folder cannot be written.
        """
        if not cap_mb > 0:
            raise ListenError(f"a cap of {cap_mb:g} MB on stored clips", "give --clips-mb a number above 0")
        self.folder, self._rate, self._cap = folder, rate, int(cap_mb * 1e6)
        probe = folder / f".edgeser-{os.getpid()}"
        write_bytes(probe, b"")
        remove_file(probe)

    def __call__(self, samples: NDArray[np.float32], emotion: str) -> str | None:
        """Store an utterance and return its file.

        Raises:
            StorageError: The folder cannot be written any more.
        """
        data = wav_bytes(samples, self._rate)
        own = self._stored()
        self._make_room(own, len(data))
        number = own[-1][0] + 1 if own else 1
        path = self.folder / clip_name(f"{number:08}-{datetime.now():%Y%m%d-%H%M%S}", emotion)
        write_bytes(path, data)
        return str(path)

    def _stored(self) -> list[tuple[int, Path]]:
        """The clips with their numbers, the oldest first; 0 where a name has none."""
        found = ((OWN.fullmatch(path.name), path) for path in self.folder.iterdir())
        return sorted((int(match[1] or 0), path) for match, path in found if match)

    def _make_room(self, stored: Sequence[tuple[int, Path]], size: int) -> None:
        own = [path for _, path in stored]
        sizes = [path.stat().st_size for path in own]
        total = sum(sizes) + size
        for path, each in zip(own, sizes, strict=True):
            if total <= self._cap:
                return
            remove_file(path)
            total -= each
