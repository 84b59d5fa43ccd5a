"""Predicting: both formats the same, folders, what is broken, what is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeser_device.errors import AudioError, ModelError
from edgeser_device.model.model import Model
from edgeser_device.model.predict import Prediction, Recogniser, Skipped, find_recordings, predict_file, predict_files
from edgeser_export.utilities.errors import EdgeserError


@pytest.fixture(scope="module", params=["onnx", "tflite"])
def recogniser(request: pytest.FixtureRequest, model: Model) -> Recogniser:
    return Recogniser.open(model, request.param)


def test_both_formats_predict_the_same(model: Model, recording: Path) -> None:
    found = [predict_file(Recogniser.open(model, name), recording) for name in ("onnx", "tflite")]
    assert found[0].emotion == found[1].emotion
    assert found[0].windows == found[1].windows
    np.testing.assert_allclose(list(found[0].probabilities.values()), list(found[1].probabilities.values()), atol=1e-4)


def test_a_folder_is_predicted_and_what_is_broken_is_skipped(
    recogniser: Recogniser, recording: Path, tmp_path: Path
) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "good.WAV").write_bytes(recording.read_bytes())
    (tmp_path / "broken.flac").write_bytes(b"garbage")
    (tmp_path / "memo.m4a").write_bytes(b"no form that is read")
    (tmp_path / "notes.txt").write_text("no recording")
    rows = list(predict_files(recogniser, find_recordings(tmp_path)))
    assert [type(row) for row in rows] == [Skipped, Prediction, Skipped]
    assert "cannot be decoded" in rows[0].to_json()["reason"]
    assert rows[1].file.name == "good.WAV"
    assert "memo.m4a cannot be decoded" in rows[2].to_json()["reason"]


def test_nothing_to_predict(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="holds no recording"):
        find_recordings(tmp_path)
    with pytest.raises(AudioError, match="there is no file"):
        find_recordings(tmp_path / "none.wav")


def test_unknown_formats_and_runtimes(model: Model) -> None:
    with pytest.raises(EdgeserError, match="no format 'onx'"):
        Recogniser.open(model, "onx")
    with pytest.raises(EdgeserError, match="no runtime 'lite'"):
        Recogniser.open(model, runtime="lite")
    assert Recogniser.open(model, runtime="litert").runtime == "litert"
    with pytest.raises(ModelError, match="holds no file"):
        Recogniser.open(Model(model.folder, {"files": {}}, model.labels, model.frontend, model.graph))


def test_names_of_files_beside_a_progress_bar_are_not_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    from io import StringIO

    from edgeser_export.utilities.progress import progress_bar

    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress_bar("predicting", 1) as advance:
        advance(1, "clip[/bold].wav")
    assert "clip[/bold].wav" in terminal.getvalue()
