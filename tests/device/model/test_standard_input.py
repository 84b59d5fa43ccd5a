"""``edgeser predict MODEL -`` as a program."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from edgeser_device.model.model import Model
from edgeser_device.model.predict import Recogniser, predict_file


def predicted(model: Model, data: bytes) -> subprocess.CompletedProcess[bytes]:
    words = [sys.executable, "-m", "edgeser", "predict", str(model.folder), "-", "--json"]
    return subprocess.run(words, input=data, capture_output=True, timeout=60)


def test_a_recording_on_standard_input_gets_the_answer_of_its_file(model: Model, recording: Path) -> None:
    done = predicted(model, recording.read_bytes())
    assert done.returncode == 0, done.stderr
    expected = predict_file(Recogniser.open(model), recording).to_json()
    assert json.loads(done.stdout)["predictions"] == [{**expected, "file": "-"}]


def test_what_is_no_recording_is_refused_in_one_line(model: Model) -> None:
    for data, problem in ((b"", "the recording is empty"), (b"words", "the recording cannot be decoded")):
        done = predicted(model, data)
        assert done.returncode == 2
        message, hint = done.stderr.decode().splitlines()[-2:]
        assert message.startswith(f"error: {problem}")
        assert hint.startswith("hint: ")
