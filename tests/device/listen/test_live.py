"""From sound to events: the answer of predict, twice a second, however the sound is cut."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings

from edgeser_device.data.audio import read_audio, read_blocks
from edgeser_device.errors import ListenError
from edgeser_device.frontend import log_mel, windows, wrap
from edgeser_device.listen.events import Event
from edgeser_device.listen.gate import Gate, LevelGate
from edgeser_device.listen.live import Listener, ListenSettings
from edgeser_device.listen.speech import SpeechSettings
from edgeser_device.model.model import Model
from edgeser_device.model.predict import Recogniser, clip_probabilities, predict_file

RATE = 16000
AS_IT_IS = ListenSettings(gain_db=0.0)


@pytest.fixture(scope="module", params=["onnx", "tflite"])
def recogniser(request: pytest.FixtureRequest, model: Model) -> Recogniser:
    return Recogniser.open(model, request.param)


@pytest.fixture(scope="module")
def onnx(model: Model) -> Recogniser:
    return Recogniser.open(model, "onnx")


def noise(seconds: float, seed: int = 0, level: float = 0.1) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


def heard(listener: Listener, samples: np.ndarray, piece: int = 512) -> list[Event]:
    pieces = np.split(samples, range(piece, len(samples), piece))
    return [event for part in pieces for event in listener.push(part)] + listener.finish()


def listened(recogniser: Recogniser, path: Path) -> list[Event]:
    listener = Listener(recogniser, Gate())
    events = [event for block in read_blocks(path, recogniser.frontend.rate) for event in listener.push(block)]
    return events + listener.finish()


def values(event: Event) -> np.ndarray:
    return np.array(list(event.probabilities.values()))


def same(one: list[Event], two: list[Event]) -> bool:
    return [(e.t, e.probabilities, e.state, e.final) for e in one] == [
        (e.t, e.probabilities, e.state, e.final) for e in two
    ]


@pytest.mark.parametrize("rate", [16000, 44100])
def test_the_final_answer_is_that_of_predict(recogniser: Recogniser, tmp_path: Path, rate: int) -> None:
    path = tmp_path / "noise.wav"
    samples = np.random.default_rng(1).standard_normal(6 * rate) * np.linspace(0.001, 0.2, 6 * rate)
    soundfile.write(path, samples.astype(np.float32), rate, subtype="FLOAT")
    final = listened(recogniser, path)[-1]
    assert final.final
    expected = np.array(list(predict_file(recogniser, path).probabilities.values()))
    np.testing.assert_array_equal(values(final), expected)


def test_answers_on_the_way_are_means_over_the_windows_of_a_clip(recogniser: Recogniser, recording: Path) -> None:
    spec, samples = recogniser.frontend, read_audio(recording, RATE)
    each = recogniser(windows(log_mel(samples, spec), spec))
    events = [event for event in listened(recogniser, recording) if not event.final]
    full = [event for event in events if event.t >= ((spec.frames - 1) * spec.hop + spec.n_fft) / RATE - 1e-6]
    assert len(full) == len(each)
    for number, event in enumerate(full, start=1):
        np.testing.assert_allclose(values(event), each[:number].mean(axis=0), atol=1e-5)
    first = recogniser(wrap(log_mel(samples, spec)[:, : spec.window_hop], spec.frames)[None])[0]
    np.testing.assert_allclose(values(events[0]), first, atol=1e-5)


def test_events_come_every_half_second(recogniser: Recogniser, recording: Path) -> None:
    *events, final = listened(recogniser, recording)
    assert len(events) == 9
    assert [round(two.t - one.t, 3) for one, two in pairwise(events)] == [0.512] * 8
    assert final.final
    assert final.began == 0
    assert final.ended == pytest.approx(5.0, abs=0.04)
    for event in (*events, final):
        assert sum(event.probabilities.values()) == pytest.approx(1, abs=1e-4)
        assert event.emotion == max(event.probabilities, key=event.probabilities.__getitem__)
        assert event.confidence == pytest.approx(max(event.probabilities.values()), abs=1e-5)
        assert event.latency_ms >= 0
    assert events[-1].level_db == pytest.approx(-17.5, abs=1)


@given(cuts=st.lists(st.integers(0, 60_000), max_size=12), gate=st.sampled_from([Gate, LevelGate]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
def test_how_the_sound_is_cut_does_not_matter(onnx: Recogniser, cuts: list[int], gate: type) -> None:
    samples = np.concatenate([np.zeros(10_000), noise(1.5), np.zeros(9_000), noise(1, 1), np.zeros(3_000)]).astype("f4")
    whole = Listener(onnx, gate())
    expected = [*whole.push(samples), *whole.finish()]
    listener = Listener(onnx, gate())
    pieces = [event for piece in np.split(samples, sorted(cuts)) for event in listener.push(piece)]
    assert same([*pieces, *listener.finish()], expected)


@given(silence=st.integers(8_600, 30_000))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
def test_when_the_microphone_was_switched_on_does_not_matter(onnx: Recogniser, silence: int) -> None:
    """After digital silence of any length an utterance is answered bit for bit as from a file of its own."""
    spoken = noise(1.7, 3)
    samples = np.concatenate([np.zeros(silence, np.float32), spoken, np.zeros(12_000, np.float32)])
    found = [event for event in heard(Listener(onnx, LevelGate()), samples, 700) if event.final]
    assert len(found) == 1
    expected, _ = clip_probabilities(onnx, spoken)
    np.testing.assert_allclose(values(found[0]), expected, atol=1e-6)
    assert found[0].began == pytest.approx(silence / RATE, abs=1e-3)


@pytest.mark.parametrize("length", [100, 1024, 5000, 8000])
def test_a_short_recording_gives_one_event(recogniser: Recogniser, tmp_path: Path, length: int) -> None:
    path = tmp_path / "short.wav"
    soundfile.write(path, noise(1, 2)[:length], RATE, subtype="FLOAT")
    events = listened(recogniser, path)
    assert [event.final for event in events] == [True]
    expected = np.array(list(predict_file(recogniser, path).probabilities.values()))
    np.testing.assert_allclose(values(events[0]), expected, atol=1e-6)


def test_silence_is_no_speech(recogniser: Recogniser, tmp_path: Path) -> None:
    path = tmp_path / "silence.wav"
    soundfile.write(path, np.zeros(40_000, np.float32), RATE)
    listener = Listener(recogniser, LevelGate())
    events = [event for block in read_blocks(path, RATE) for event in listener.push(block)] + listener.finish()
    assert [event.t for event in events] == pytest.approx([0.512, 1.024, 1.536, 2.048], abs=0.002)
    assert all(not event.speech and event.state == "no_speech" and event.level_db == -120 for event in events)
    assert all(event.confidence == 0 and event.began is None for event in events)


def test_pauses_cut_and_long_speech_is_cut_without_one(onnx: Recogniser) -> None:
    samples = np.concatenate([noise(1.2), np.zeros(RATE), noise(2.9, 1), np.zeros(RATE)]).astype(np.float32)
    long = ListenSettings(SpeechSettings(longest=1.6))
    spans = [
        [(event.began, event.ended) for event in heard(Listener(onnx, LevelGate(), setting), samples) if event.final]
        for setting in (ListenSettings(), long)
    ]
    assert np.allclose(spans[0], [(0, 1.2), (2.2, 5.1)], atol=0.04)
    assert len(spans[1]) == 3
    assert spans[1][1][1] == pytest.approx(spans[1][2][0], abs=0.04)


class Loud(LevelGate):
    """All that is loud is speech, so that noise is."""

    checked = False


def test_behind_answers_are_skipped_and_the_last_one_is_not_changed(onnx: Recogniser) -> None:
    samples = np.concatenate([noise(5), np.zeros(RATE)]).astype(np.float32)
    calm, behind = Listener(onnx, Loud()), Listener(onnx, Loud())
    every, few = calm.push(samples), behind.push(samples, behind=True)
    assert len([event for event in few if event.speech]) < len([event for event in every if event.speech])
    assert [event.probabilities for event in few if event.final] == [
        event.probabilities for event in every if event.final
    ]


def test_an_improbable_emotion_is_uncertain(onnx: Recogniser, recording: Path) -> None:
    samples = read_audio(recording, RATE)
    for least, expected in ((1.0, "uncertain"), (0.0, "sure")):
        events = heard(Listener(onnx, Gate(), ListenSettings(min_confidence=least)), samples)
        assert {event.state for event in events} == {expected}


def test_what_is_said_is_given_away_only_when_that_is_asked_for(onnx: Recogniser) -> None:
    given: list[tuple[np.ndarray, str]] = []

    def keep(samples: np.ndarray, emotion: str) -> str:
        given.append((samples.copy(), emotion))
        return "a.wav"

    spoken = noise(1.5)
    samples = np.concatenate([np.zeros(RATE), spoken, np.zeros(RATE)]).astype(np.float32)
    events = heard(Listener(onnx, Loud(), keep=keep), samples)
    assert [event.clip for event in events if event.final] == ["a.wav"]
    assert {event.clip for event in events if not event.final} == {None}
    np.testing.assert_array_equal(given[0][0][: len(spoken)], spoken)
    assert len(given[0][0]) == len(spoken)


def test_what_has_no_voice_is_not_given_away(onnx: Recogniser) -> None:
    samples = np.concatenate([noise(1.5), np.zeros(RATE)]).astype(np.float32)
    events = heard(Listener(onnx, LevelGate(), keep=lambda *_: pytest.fail("noise was kept")), samples)
    assert {event.state for event in events} == {"no_speech"}
    assert {event.emotion for event in events} == {None}


def test_a_quiet_microphone_is_raised_after_the_first_utterance(onnx: Recogniser) -> None:
    spoken = [np.concatenate([noise(1.5, seed, 1e-2), np.zeros(RATE, np.float32)]) for seed in range(12)]
    listener = Listener(onnx, LevelGate())
    corrections = []
    for one in spoken:
        listener.push(one)
        corrections.append(listener.correction_db)
    levels = log_mel(spoken[0][: round(1.5 * RATE)], onnx.frontend)
    assert corrections[-1] == pytest.approx(onnx.frontend.mean - levels.mean(), abs=2)
    assert abs(corrections[0]) < abs(corrections[-1])
    fixed = Listener(onnx, LevelGate(), ListenSettings(gain_db=6.0))
    fixed.push(np.concatenate(spoken))
    assert fixed.correction_db == 6.0


@pytest.mark.parametrize("least", [-0.1, 1.1])
def test_an_impossible_confidence(least: float) -> None:
    with pytest.raises(ListenError, match="least confidence"):
        ListenSettings(min_confidence=least)


def test_the_pace_of_a_recording(tmp_path: Path) -> None:
    import time

    path = tmp_path / "short.wav"
    soundfile.write(path, np.zeros(4800, np.float32), RATE)
    began = time.monotonic()
    list(read_blocks(path, RATE, realtime=True))
    assert time.monotonic() - began >= 0.29
