"""Sampled items beside clips: a picture, and sounds by Griffin and Lim (1984), for eyes and ears only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeser.privacy.item_sounds import sound_of, wav_bytes
from edgeser_device.frontend import FrontendSpec
from edgeser_export.utilities.files import write_bytes


def samples_picture(
    real: NDArray[np.float32], sampled: NDArray[np.float32], names: Sequence[str], frontend: FrontendSpec
) -> Any:
    """A row a class: sampled log-mels at the left, clips at the right; both (classes, count, mels, frames)."""
    from matplotlib.figure import Figure

    classes, count = real.shape[:2]
    figure = Figure(figsize=(2.2 * 2 * count, 1.7 * classes), layout="constrained")
    grid = figure.subplots(classes, 2 * count, squeeze=False)
    low, high = np.percentile(real, (1, 99))
    seconds = real.shape[3] * frontend.hop / frontend.rate
    look: dict[str, Any] = {"origin": "lower", "aspect": "auto", "vmin": low, "vmax": high, "cmap": "magma"}
    for row in range(classes):
        for column, item in enumerate([*sampled[row], *real[row]]):
            axes = grid[row, column]
            axes.imshow(item, **look)
            axes.set_xticks([])
            axes.set_yticks([])
            if row == 0:
                axes.set_title("sampled" if column < count else "clip")
            if column == 0:
                axes.set_ylabel(names[row])
    figure.supxlabel(f"{seconds:.1f} s, {frontend.mels} bands from {frontend.fmin:g} to {frontend.fmax:g} Hz")
    return figure


def write_sounds(
    real: NDArray[np.float32],
    sampled: NDArray[np.float32],
    names: Sequence[str],
    frontend: FrontendSpec,
    folder: Path,
) -> None:
    """WAV files ``NAME-sampled-0.wav`` and ``NAME-clip-0.wav``; the clips pass through the same log-mel."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind, items in (("sampled", sampled), ("clip", real)):
        for row, name in enumerate(names):
            for place, item in enumerate(items[row]):
                write_bytes(folder / f"{name}-{kind}-{place}.wav", wav_bytes(sound_of(item, frontend), frontend.rate))
