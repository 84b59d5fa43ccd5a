"""A kit and a trained model for the tests of this folder, made once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from device.kits import synthetic_set, write_kit

from edgeser_device.kit.kit import Kit, read_kit
from edgeser_device.model.model import Model, load_model
from edgeser_device.train.train import Settings, train


@pytest.fixture(scope="session")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """A small edgenet on synthetic spectrograms of three classes, 40 steps."""
    return read_kit(write_kit(tmp_path_factory.mktemp("kit")).path)


@pytest.fixture(scope="session")
def model(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """What that kit trains; not to be changed."""
    folder = tmp_path_factory.mktemp("trained") / "model"
    train(kit, folder, Settings(threads=1))
    return load_model(folder)


@pytest.fixture(scope="session")
def plain_kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """The same with one untouched view an item and plain gradient descent with momentum."""
    plain = synthetic_set(views=1, optimiser="sgd", batch=8, peak_rate=0.02)
    return read_kit(write_kit(tmp_path_factory.mktemp("plain"), plain).path)


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five seconds of noise that grows louder, 16 kHz."""
    path = tmp_path_factory.mktemp("sound") / "noise.wav"
    samples = np.random.default_rng(5).standard_normal(80_000) * np.geomspace(0.0003, 0.3, 80_000)
    soundfile.write(path, samples.clip(-1, 1).astype(np.float32), 16000, subtype="FLOAT")
    return path
