"""The public face of the board's package: the answers of predict and listen, its types, its weight, its examples."""

from __future__ import annotations

import doctest
import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sources import ROOT

import edgeser_device
from edgeser_device import EdgeserError, Event, OpenModel, Prediction, open_model, opened
from edgeser_device.errors import AudioError, ListenError, ModelError
from edgeser_device.model.model import Model
from edgeser_device.model.predict import Recogniser, predict_file

GUIDE = ROOT / "docs" / "howto" / "integrate.md"


@pytest.fixture(scope="module")
def face(model: Model) -> OpenModel:
    return open_model(model.folder)


@pytest.fixture
def clip(recording: Path, tmp_path: Path) -> Path:
    """Two channels at 44.1 kHz in 16 bits."""
    samples, _ = soundfile.read(recording, dtype="float32")
    path = tmp_path / "clip.wav"
    soundfile.write(path, np.stack([samples, samples / 2], axis=1), 44100, subtype="PCM_16")
    return path


def test_a_path_bytes_and_arrays_give_the_answer_of_predict(face: OpenModel, model: Model, clip: Path) -> None:
    expected = predict_file(Recogniser.open(model), clip)
    samples, rate = soundfile.read(clip, dtype="float32")
    whole_numbers = soundfile.read(clip, dtype="int16")[0]
    answers = [
        face.predict(clip),
        face.predict(str(clip)),
        face.predict(clip.read_bytes()),
        face.predict(samples, rate),
        face.predict(samples.astype(np.float64), rate=rate),
        face.predict(whole_numbers, rate),
    ]
    assert {type(answer) for answer in answers} == {Prediction}
    assert [answer.probabilities for answer in answers] == [expected.probabilities] * 6
    assert [answer.file for answer in answers] == [clip, clip, None, None, None, None]
    assert answers[2].to_json()["file"] is None
    assert {answer.seconds for answer in answers} == {expected.seconds}


def test_what_is_no_sound_is_refused(face: OpenModel, tmp_path: Path) -> None:
    for wrong in (np.zeros(0), np.zeros((5, 2, 2)), np.zeros(5, np.uint8), np.array(["a"])):
        with pytest.raises(AudioError, match="is no sound"):
            face.predict(wrong)
        with pytest.raises(AudioError, match="is no sound"):
            list(face.stream([np.zeros(512), wrong if len(wrong) else np.zeros((3, 0))]))
    for number in (np.nan, np.inf):
        with pytest.raises(AudioError, match="the array holds samples that are not finite"):
            face.predict(np.array([0, number]))
    with pytest.raises(AudioError, match="the array holds a sample of 32767"):
        face.predict(np.array([0.0, 32767.0]))
    with pytest.raises(AudioError, match="a sampling rate of 0 Hz"):
        face.predict(np.zeros(100), rate=0)
    with pytest.raises(AudioError, match="the recording cannot be decoded"):
        face.predict(b"no recording")
    with pytest.raises(AudioError, match="is not a file"):
        face.predict(tmp_path / "none.wav")
    with pytest.raises(ModelError, match="is not a model folder"):
        open_model(tmp_path)
    with pytest.raises(ListenError, match="no gate 'loud'"):
        face.stream([], gate="loud")


def test_a_stream_ends_with_the_answer_of_predict(face: OpenModel) -> None:
    samples = np.random.default_rng(3).uniform(-0.3, 0.3, 70_000).astype(np.float32)
    for size in (512, 4096, 70_000):
        events = list(face.stream(np.split(samples, range(size, len(samples), size)), gate="off"))
        assert {type(event) for event in events} == {Event}
        assert [event.final for event in events].count(True) == 1
        assert events[-1].probabilities == face.predict(samples).probabilities


def test_a_stream_of_another_rate_and_of_two_channels(face: OpenModel) -> None:
    samples = np.random.default_rng(4).uniform(-0.3, 0.3, (150_000, 2)).astype(np.float32)
    (event,) = [event for event in face.stream(np.split(samples, 300), rate=48000, gate="off") if event.final]
    expected = face.predict(samples, 48000).probabilities
    assert event.probabilities == pytest.approx(expected, abs=0.02)
    assert event.t == pytest.approx(150_000 / 48000, abs=0.001)


def test_an_event_says_when_and_in_which_session(face: OpenModel) -> None:
    silence = np.zeros(40_000, np.float32)
    first, second = (list(face.stream([silence])) for _ in range(2))
    for event in (*first, *second):
        made = datetime.fromisoformat(event.time)
        assert made.tzinfo is not None
        assert abs(datetime.now(UTC) - made) < timedelta(minutes=1)
        assert json.loads(json.dumps(event.to_json()))["schema"] == 1
    assert [len({event.session for event in events}) for events in (first, second)] == [1, 1]
    assert re.fullmatch("[0-9a-f]{12}", first[0].session)
    assert first[0].session != second[0].session


def test_the_version_tells_models_apart(face: OpenModel, model: Model) -> None:
    assert face.labels == model.labels
    assert face.state == model.identity
    assert face.version == open_model(str(model.folder)).version
    other = Model(
        model.folder, {**model.description, "files": {"student.onnx": "0"}}, model.labels, model.frontend, model.graph
    )
    assert other.digest[:12] != face.version


def test_all_that_the_package_promises_is_there() -> None:
    for name in edgeser_device.__all__:
        assert getattr(edgeser_device, name).__doc__
    assert issubclass(AudioError, EdgeserError)
    with pytest.raises(AttributeError, match="no attribute 'Model'"):
        _ = edgeser_device.Model


def test_the_import_is_light() -> None:
    program = (
        "import time; began = time.monotonic()\n"
        "from edgeser_device import open_model\n"
        "took = time.monotonic() - began\n"
        "import sys\n"
        "peak = next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(took, peak / 1024, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    seconds, megabytes, numpy = done.stdout.split()
    assert float(seconds) < 0.5
    assert float(megabytes) < 60
    assert numpy == "False"


@pytest.fixture
def place(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and a clip of 2.5 s, as the examples have it; their labels are those of speech."""
    folder = tmp_path / "place"
    folder.mkdir()
    (folder / "model").symlink_to(model.folder)
    samples, rate = soundfile.read(ROOT / "edgeser" / "corpora" / "demo_data" / "m1_anger_01.ogg", dtype="float32")
    soundfile.write(folder / "clip.wav", samples[:40_000], rate)
    monkeypatch.chdir(folder)
    return folder


def test_the_examples_in_the_docstrings_hold(place: Path, model: Model) -> None:
    finder, said = doctest.DocTestFinder(), []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for test in (*finder.find(opened, "opened"), *finder.find(open_model, "open_model")):
        for example in test.examples:  # the model of this test knows other emotions than speech
            example.want = example.want.replace("('anger', 'happiness', 'neutral', 'sadness')", str(model.labels))
        runner.run(test, out=said.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(said)
    assert runner.tries > 10


def test_the_programs_of_the_guide_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    programs = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(programs) >= 3
    for program in programs:
        exec(compile(program, str(GUIDE), "exec"), {})
    assert capsys.readouterr().out


def test_the_guide_lists_every_field(face: OpenModel) -> None:
    text = GUIDE.read_text(encoding="utf-8")
    (event,) = face.stream([np.zeros(5000, np.float32)])
    answer = face.predict(np.ones(16_000))
    for key in {**event.to_json(), **answer.to_json()}:
        assert f"`{key}`" in text, key
    for name in edgeser_device.__all__:
        assert name in text, name
