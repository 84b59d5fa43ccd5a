"""How loud a microphone is, and how sure a student may be: two numbers that are learnt."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from device.kits import SPEC
from hypothesis import given

from edgeser_device.errors import ModelError
from edgeser_device.listen.live import Loudness
from edgeser_device.model.calibration import fit_temperature, log_softmax
from edgeser_device.model.model import Model, load_model


def utterance(level: float) -> np.ndarray:
    return np.full((SPEC.mels, 50), level, np.float32)


@given(st.floats(-40, 40), st.integers(1, 60))
def test_the_correction_goes_from_nothing_to_the_whole_gain(gain: float, count: int) -> None:
    loudness = Loudness(SPEC)
    assert loudness.correction_db == 0
    for _ in range(count):
        loudness.learn(utterance(SPEC.mean + gain))
    expected = -gain * 225 / (225 + 64 / min(count, 50))
    assert loudness.correction_db == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_a_microphone_that_is_moved_is_learnt_anew() -> None:
    loudness = Loudness(SPEC)
    for gain in [0.0] * 500 + [-20.0] * 150:
        loudness.learn(utterance(SPEC.mean + gain))
    assert loudness.correction_db == pytest.approx(20, abs=1.5)


def test_a_fixed_correction_is_never_learnt() -> None:
    loudness = Loudness(SPEC, fixed_db=-3.0)
    loudness.learn(utterance(0))
    assert loudness.correction_db == -3


# Calibration ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("true", [0.4, 1.0, 2.5])
@pytest.mark.parametrize("softened", [1.0, 2.0])
def test_the_temperature_that_made_the_labels_is_found(true: float, softened: float) -> None:
    logits = (4 * np.random.default_rng(0).standard_normal((400, 5))).astype(np.float32)
    labels = np.exp(log_softmax(log_softmax(logits / true) / softened)).astype(np.float32)
    assert fit_temperature(logits, labels, softened) == pytest.approx(true, rel=0.03)


def test_hard_labels_say_nothing() -> None:
    logits = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
    assert fit_temperature(logits, np.eye(3, dtype=np.float32)[logits.argmax(1)], 2.0) == 1


def described(model: Model, folder: Path, **changes: object) -> Model:
    shutil.copytree(model.folder, folder)
    description = {**json.loads((folder / "model.json").read_text()), **changes}
    (folder / "model.json").write_text(
        json.dumps({name: value for name, value in description.items() if value != "no"})
    )
    return load_model(folder)


@pytest.mark.parametrize("wrong", [0, -1, "warm", True, None, 1e9, "no"])
def test_an_impossible_temperature(model: Model, tmp_path: Path, wrong: object) -> None:
    with pytest.raises(ModelError, match="temperature"):
        described(model, tmp_path / "wrong", temperature=wrong)
