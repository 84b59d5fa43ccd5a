"""A recording as a source of sound: read, mixed and resampled piece by piece, at its own pace if wanted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeser_device.audio import audio_errors, require_rate
from edgeser_device.errors import AudioError

BLOCK_SECONDS = 0.032
"""Length of one piece; what a microphone delivers at a time."""


def read_blocks(path: Path, rate: int, realtime: bool = False) -> Iterator[NDArray[np.float32]]:
    """Pieces of a recording, float32 (n,), mono, at ``rate`` Hz.

    Only one piece is held in memory at a time. The resampler keeps its state from piece to piece: no edge clicks.

    Args:
        path: Anything that libsndfile reads.
        rate: The wanted sampling rate in Hz.
        realtime: Wait so that the pieces come as fast as they were spoken.

    Raises:
        AudioError: The file is missing, unreadable, empty, or holds NaN or infinity.
    """
    import soundfile
    import soxr

    with audio_errors(path):
        if not path.is_file():
            raise AudioError(f"{path} is not a file", "check the path")
        with soundfile.SoundFile(path) as file:
            require_rate(path, file.samplerate)
            if file.frames == 0:
                raise AudioError(f"{path} holds no samples", "record it again, or remove the file")
            block = max(1, round(BLOCK_SECONDS * file.samplerate))
            same = file.samplerate == rate
            resampler = None if same else soxr.ResampleStream(file.samplerate, rate, 1, dtype="float32", quality="HQ")
            began, given = time.monotonic(), 0
            for piece in file.blocks(block, dtype="float32", always_2d=True):
                if not np.isfinite(piece).all():
                    raise AudioError(
                        f"{path} holds samples that are not finite", "write it again without NaN or infinity"
                    )
                mono = piece.mean(axis=1, dtype=np.float32)
                given += len(mono)
                if realtime:
                    time.sleep(max(0.0, began + given / file.samplerate - time.monotonic()))
                yield mono if resampler is None else resampler.resample_chunk(mono, last=False)
            if resampler is not None:
                yield resampler.resample_chunk(np.empty(0, np.float32), last=True)
