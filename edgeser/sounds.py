"""Sounds of log-mels by Griffin and Lim (1984, doi:10.1109/TASSP.1984.1164317): for ears only, nothing reads them.

data = wav_bytes(sound_of(item, frontend), frontend.rate)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeser_device.frontend import FrontendSpec, mel_filters

ITERATIONS = 60
"""Of Griffin and Lim's; more are not heard."""
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
