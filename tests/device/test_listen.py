"""Listening and predicting: the same frames, the same answer, one event each half second."""

from __future__ import annotations

from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings

from edgeser_device.audio import read_audio
from edgeser_device.errors import AudioError, ModelError
from edgeser_device.frontend import log_mel, windows, wrap
from edgeser_device.listen.events import Event
from edgeser_device.listen.loop import Listener
from edgeser_device.listen.wav import read_blocks
from edgeser_device.model import Model
from edgeser_device.predict import Prediction, Skipped, find_recordings, predict_file, predict_files
from edgeser_device.runtime import Recogniser
from edgeser_export.errors import EdgeserError


@pytest.fixture(scope="module", params=["onnx", "tflite"])
def recogniser(request: pytest.FixtureRequest, model: Model) -> Recogniser:
    return Recogniser.open(model, request.param)


def listened(recogniser: Recogniser, path: Path) -> list[Event]:
    listener = Listener(recogniser)
    events = [event for block in read_blocks(path, recogniser.frontend.rate) for event in listener.push(block)]
    return events + listener.finish()


def values(event: Event) -> np.ndarray:
    return np.array(list(event.probabilities.values()))


def full_from(recogniser: Recogniser) -> float:
    """Seconds at which the first full window ends."""
    spec = recogniser.frontend
    return ((spec.frames - 1) * spec.hop + spec.n_fft) / spec.rate - 1e-6


@pytest.mark.parametrize("rate", [16000, 44100])
def test_full_windows_agree_with_prediction(recogniser: Recogniser, tmp_path: Path, rate: int) -> None:
    path = tmp_path / "noise.wav"
    samples = np.random.default_rng(1).standard_normal(6 * rate) * np.linspace(0.001, 0.2, 6 * rate)
    soundfile.write(path, samples.astype(np.float32), rate, subtype="FLOAT")
    spec = recogniser.frontend
    offline = recogniser(windows(log_mel(read_audio(path, spec.rate), spec), spec))
    heard = np.array([values(event) for event in listened(recogniser, path) if event.t >= full_from(recogniser)])
    assert heard.shape == offline.shape
    np.testing.assert_allclose(heard, offline, atol=1e-5)
    np.testing.assert_allclose(heard.mean(0), offline.mean(0), atol=1e-5)


def test_events_come_every_half_second(recogniser: Recogniser, recording: Path) -> None:
    events = listened(recogniser, recording)
    times = np.array([event.t for event in events])
    assert len(events) == 9
    np.testing.assert_allclose(np.diff(times), 0.512, atol=1e-3)
    for event in events:
        assert sum(event.probabilities.values()) == pytest.approx(1, abs=1e-4)
        assert event.emotion == max(event.probabilities, key=event.probabilities.__getitem__)
        assert event.latency_ms >= 0
    assert not events[0].speech
    assert events[-1].speech
    assert events[-1].level_db == pytest.approx(-17.5, abs=1)


def test_before_a_window_is_full_what_was_heard_is_repeated(recogniser: Recogniser, recording: Path) -> None:
    spec = recogniser.frontend
    samples = read_audio(recording, spec.rate)
    first = Listener(recogniser).push(samples)[0]
    expected = recogniser(wrap(log_mel(samples, spec)[:, : spec.window_hop], spec.frames)[None])[0]
    np.testing.assert_allclose(values(first), expected, atol=1e-5)


@given(cuts=st.lists(st.integers(0, 40_000), max_size=12))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
def test_how_the_sound_is_cut_does_not_matter(model: Model, recording: Path, cuts: list[int]) -> None:
    opened = Recogniser.open(model, "onnx")
    samples = read_audio(recording, 16000)[:40_000]
    whole, listener = Listener(opened).push(samples), Listener(opened)
    pieces = [event for piece in np.split(samples, sorted(cuts)) for event in listener.push(piece)]
    assert [(event.t, event.probabilities) for event in pieces] == [(event.t, event.probabilities) for event in whole]


@pytest.mark.parametrize("length", [1, 100, 1024, 5000, 8000])
def test_a_short_recording_gives_one_event(recogniser: Recogniser, tmp_path: Path, length: int) -> None:
    path = tmp_path / "short.wav"
    samples = (0.1 * np.random.default_rng(2).standard_normal(length)).astype(np.float32)
    soundfile.write(path, samples, 16000, subtype="FLOAT")
    events = listened(recogniser, path)
    assert len(events) == 1
    spec = recogniser.frontend
    expected = recogniser(windows(log_mel(samples, spec), spec))[0]
    np.testing.assert_allclose(values(events[0]), expected, atol=1e-5)


def test_silence_is_no_speech(recogniser: Recogniser, tmp_path: Path) -> None:
    path = tmp_path / "silence.wav"
    soundfile.write(path, np.zeros(20_000, np.float32), 16000)
    events = listened(recogniser, path)
    assert events
    assert all(not event.speech and event.level_db == -120 for event in events)


def test_the_pace_of_a_recording(recording: Path, tmp_path: Path) -> None:
    import time

    path = tmp_path / "short.wav"
    soundfile.write(path, np.zeros(4800, np.float32), 16000)
    began = time.monotonic()
    list(read_blocks(path, 16000, realtime=True))
    assert time.monotonic() - began >= 0.29


# Prediction ----------------------------------------------------------------------------------------------------------


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
    (tmp_path / "notes.txt").write_text("no recording")
    rows = list(predict_files(recogniser, find_recordings(tmp_path)))
    assert [type(row) for row in rows] == [Skipped, Prediction]
    assert "cannot be decoded" in rows[0].to_json()["reason"]
    assert rows[1].file.name == "good.WAV"


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


def test_labels_in_the_bars_are_not_markup() -> None:
    """A label comes from a kit, and a kit from anywhere."""
    from io import StringIO

    from rich.console import Console

    from edgeser_device.listen.sinks import _bars

    name = "anger[/bold]"
    out = StringIO()
    event = Event(1.0, name, {name: 0.5}, speech=True, level_db=-20.0, latency_ms=1.0)
    Console(file=out, width=100).print(_bars(event))
    assert f"{name} " in out.getvalue()


def test_names_of_files_beside_a_progress_bar_are_not_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    from io import StringIO

    from edgeser_device.progress import progress_bar

    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress_bar("predicting", 1) as advance:
        advance(1, "clip[/bold].wav")
    assert "clip[/bold].wav" in terminal.getvalue()
