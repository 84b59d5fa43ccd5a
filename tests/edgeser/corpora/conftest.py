"""What the corpus tests share: small corpora that are made on the spot."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import soundfile

RATE = 16000


@pytest.fixture
def touch(tmp_path: Path) -> Callable[[Iterable[str]], Path]:
    """Make empty files below the test's folder: loaders read names, not recordings."""

    def make(names: Iterable[str]) -> Path:
        paths = [tmp_path / name for name in names]
        for folder in {path.parent for path in paths}:
            folder.mkdir(parents=True, exist_ok=True)
        for path in paths:
            path.touch()
        return tmp_path

    return make


@pytest.fixture
def write_tone(tmp_path: Path) -> Callable[..., Path]:
    """Write a noisy tone below the test's folder."""

    def write(name: str, seed: int = 0, seconds: float = 0.5, rate: int = RATE, **options: object) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        times = np.arange(int(seconds * rate)) / rate
        noise = np.random.default_rng(seed).normal(0, 0.02, len(times))
        soundfile.write(path, 0.3 * np.sin(2 * np.pi * 220 * times) + noise, rate, **options)
        return path

    return write
