"""The sound of an item, and the picture of its log-mel beside that of the nearest recording.

Nothing is learnt here: a log-mel without its phases is made a sound by Griffin and Lim, as anyone can.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeser.privacy.copies import Bands, best_shifts, shifted
from edgeser.report.pictures import drawing, save
from edgeser_device.frontend import FrontendSpec, mel_filters
from edgeser_export.utilities.files import write_bytes
from edgeser_export.utilities.progress import progress_bar

MOST_SOUNDS = 64
"""Items that are made sounds, and as many recordings: about 100 kB each."""
MOST_PICTURES = 16
"""Items in the picture, spread over the classes."""


def write_sounds(
    items: NDArray[np.float32],
    nearest: NDArray[np.float32],
    classes: Sequence[str],
    frontend: FrontendSpec,
    folder: Path,
) -> list[dict[str, Any]]:
    """WAV files of items and of the recordings nearest to them, both through the log-mel.

    Args:
        items: Normalised log-mels, float32 (items, mels, frames).
        nearest: Log-mels of the nearest recordings, of the same shape.
        classes: Emotion of each item.
        frontend: The front-end of these log-mels.
        folder: The run's folder; the files go to ``audit/sounds`` below it.

    Returns:
        The lines of ``sounds``, see :mod:`edgeser.privacy`.
    """
    chosen = spread_over(len(items), MOST_SOUNDS)
    lines = []
    (folder / "audit" / "sounds").mkdir(parents=True, exist_ok=True)
    with progress_bar("sounds", len(chosen)) as advance:
        for done, place in enumerate(chosen, start=1):
            name = f"audit/sounds/{place:02d}-{_file_name(classes[place])}"
            files = {"sound": f"{name}.wav", "nearest": f"{name}-nearest.wav"}
            for file, item in zip(files.values(), (items[place], nearest[place]), strict=True):
                write_bytes(folder / file, wav_bytes(sound_of(item, frontend), frontend.rate))
            lines.append({"item": int(place), "class": classes[place], **files})
            advance(done, "")
    return lines


def write_picture(
    items: NDArray[np.float32],
    nearest: NDArray[np.float32],
    classes: Sequence[str],
    correlations: NDArray[np.float64],
    path: Path,
) -> None:
    """Draw items above the recordings nearest to them, the latter shifted circularly to where they are nearest."""
    from matplotlib.figure import Figure

    chosen = spread_over(len(items), MOST_PICTURES)
    columns = min(8, len(chosen))
    rows = 2 * -(-len(chosen) // columns)
    figure = Figure(figsize=(1.9 * columns, 1.75 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    low, high = np.percentile(nearest, (1, 99))
    for axes in grid.flat:
        axes.set_axis_off()
    with drawing():
        for number, place in enumerate(chosen):
            row, column = 2 * (number // columns), number % columns
            pair = (
                (items[place], f"item {place}, {classes[place]}"),
                (nearest[place], f"nearest clip, {correlations[place]:.2f}"),
            )
            for offset, (picture, title) in enumerate(pair):
                axes = grid[row + offset, column]
                axes.imshow(picture, origin="lower", aspect="auto", cmap="magma", vmin=low, vmax=high)
                axes.set_title(title, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(figure, path)


def aligned(items: NDArray[np.float32], clips: NDArray[np.float32], bands: Bands) -> NDArray[np.float32]:
    """Each clip, (items, mels, frames), shifted circularly to where its patterns correlate most with its item's."""
    return shifted(clips, best_shifts(bands.patterns(items), bands.patterns(clips)))


def spread_over(count: int, most: int) -> NDArray[np.int64]:
    """At most ``most`` of ``count`` places, evenly from the first to the last."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def _file_name(text: str) -> str:
    """A label as part of a file name: what is neither letter nor digit becomes a line."""
    return "".join(letter if letter.isalnum() else "-" for letter in text)


ITERATIONS = 60
"""Iterations of Griffin and Lim's algorithm; more are not heard."""
PEAK = 0.8


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
