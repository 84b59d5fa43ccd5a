"""Sampled items beside clips: a picture, and sounds by Griffin and Lim (1984), for eyes and ears only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeser_device.frontend import FrontendSpec, mel_filters
from edgeser_export.files import write_bytes

ITERATIONS = 60
"""Of Griffin and Lim's; more are not heard."""
PEAK = 0.8


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


def sound_of(item: NDArray[np.float32], frontend: FrontendSpec) -> NDArray[np.float32]:
    """Samples between -1 and 1 whose log-mel is near the item's."""
    import librosa

    levels = item.astype(np.float64) * frontend.std + frontend.mean
    power = np.linalg.pinv(mel_filters(frontend)) @ 10 ** (levels / 10)
    power = np.maximum(power, 0)  # of no frequency less than nothing
    sound = librosa.griffinlim(
        np.sqrt(power),
        n_iter=ITERATIONS,
        hop_length=frontend.hop,
        n_fft=frontend.n_fft,
        window="hann",
        center=False,
        random_state=0,
    )
    return np.asarray(PEAK * sound / max(float(np.abs(sound).max()), 1e-9), dtype=np.float32)


def wav_bytes(sound: NDArray[np.float32], rate: int) -> bytes:
    """A WAV file of 16 bits."""
    import io

    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, sound, rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()
