"""Long recordings as utterances with times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgeser_device.errors import AudioError
from edgeser_device.listen.segments import segments_of
from edgeser_device.model.model import Model
from edgeser_device.model.predict import Recogniser


@pytest.fixture(scope="module")
def recogniser(model: Model) -> Recogniser:
    return Recogniser.open(model, "onnx")


def test_sound_between_pauses_is_a_segment_and_noise_names_no_emotion(
    recogniser: Recogniser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeser_device.listen.gate.find_spec", lambda name: None)  # as in the base install
    path, random = tmp_path / "long.wav", np.random.default_rng(0)
    pause, sound = np.zeros(2 * 16000), 0.1 * random.standard_normal(3 * 16000)
    soundfile.write(path, np.concatenate([pause, sound, pause, sound, pause]), 16000)
    rows = list(segments_of(recogniser, path))
    assert [row.began for row in rows] == pytest.approx([2, 7], abs=0.1)
    assert [row.ended for row in rows] == pytest.approx([5, 10], abs=0.1)
    assert [(row.emotion, row.state) for row in rows] == [(None, "no_speech")] * 2
    assert rows[0].to_json()["probabilities"].keys() == set(recogniser.labels)


def test_a_silent_recording_has_no_segments(recogniser: Recogniser, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(5 * 16000), 16000)
    assert not list(segments_of(recogniser, tmp_path / "silent.wav"))


def test_what_cannot_be_read_is_an_error(recogniser: Recogniser, tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_bytes(b"garbage")
    with pytest.raises(AudioError, match="cannot be decoded"):
        list(segments_of(recogniser, tmp_path / "broken.wav"))
