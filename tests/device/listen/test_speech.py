"""Where speech begins and ends, by counting; where a gate says so, by hearing."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.resources import as_file, files

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from edgeser.cli.listening import BACKEND_NAMES, GATE_NAMES
from edgeser_device.data.audio import read_audio
from edgeser_device.errors import ListenError
from edgeser_device.listen.capture.sources import BACKENDS
from edgeser_device.listen.gate import GATES, LevelGate, SileroGate, level_db, open_gate
from edgeser_device.listen.record import Cutter
from edgeser_device.listen.speech import Begin, Boundaries, End, SpeechSettings

RATE = 16000


def turns(pattern: str, settings: SpeechSettings | None = None) -> list[Begin | End]:
    """What a row of chunks, # for speech, makes of it."""
    boundaries = Boundaries(settings or SpeechSettings())
    found = [turn for sign in pattern if (turn := boundaries.push(float(sign == "#"))) is not None]
    begin = boundaries.finish()
    return [*found, *([begin] if begin else []), *([boundaries.close()] if boundaries.open else [])]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("." * 40, []),
        ("." * 20 + "##" + "." * 20, []),  # a click
        ("." * 20 + "###" + "." * 20, [Begin(6), End(6, 22, 37)]),
        ("###" + "." * 20, [Begin(0), End(0, 2, 17)]),
        ("." * 20 + "#" * 10 + "." * 13 + "#" * 5 + "." * 20, [Begin(6), End(6, 47, 62)]),  # a short pause
        ("." * 20 + "#" * 10 + "." * 16 + "#" * 5, [Begin(6), End(6, 29, 44), Begin(44), End(44, 50, 65)]),
        ("." * 20 + "##", [Begin(6), End(6, 21, 36)]),  # the end of a file is no reason to doubt
    ],
)
def test_turns(pattern: str, expected: list[Begin | End]) -> None:
    assert turns(pattern) == expected


def test_the_threshold_has_two_edges() -> None:
    boundaries = Boundaries(SpeechSettings(threshold=0.6))
    assert [type(boundaries.push(p)) for p in (0.59, 0.6, 0.6, 0.6)] == [type(None)] * 3 + [Begin]
    assert all(boundaries.push(0.46) is None for _ in range(30))
    assert any(isinstance(boundaries.push(0.44), End) for _ in range(14))


@given(st.lists(st.floats(0, 1), max_size=600), st.sampled_from([1.0, 3.0, 10.0]))
def test_utterances_never_overlap_and_never_last_too_long(probabilities: list[float], longest: float) -> None:
    settings = SpeechSettings(longest=longest)
    boundaries = Boundaries(settings)
    found = [turn for p in probabilities if (turn := boundaries.push(p)) is not None]
    begins = [turn for turn in found if isinstance(turn, Begin)]
    ends = [turn for turn in found if isinstance(turn, End)]
    assert len(ends) <= len(begins) <= len(ends) + 1
    for begin, end in zip(begins, ends, strict=False):
        assert begin.chunk == end.first <= end.last < end.chunk
        assert end.last - end.first < longest / 0.032 + 1
    for end, begin in zip(ends, begins[1:], strict=False):
        assert begin.chunk >= min(end.chunk, end.last + 1)


@pytest.mark.parametrize("wrong", [{"threshold": 0.0}, {"threshold": 1.1}, {"pause": 0.0}, {"longest": 100}])
def test_impossible_settings(wrong: dict[str, float]) -> None:
    with pytest.raises(ListenError):
        SpeechSettings(**wrong)


# Gates ---------------------------------------------------------------------------------------------------------------


def demo_clip(name: str) -> np.ndarray:
    with as_file(files("edgeser.corpora").joinpath("demo_data", name)) as path:
        return read_audio(path, RATE)


def judged(gate: SileroGate | LevelGate, samples: np.ndarray) -> np.ndarray:
    return np.array([gate(chunk) for chunk in samples[: len(samples) // 512 * 512].reshape(-1, 512)])


def test_silero_hears_speech_and_neither_noise_nor_tones() -> None:
    random = np.random.default_rng(0)
    gate = SileroGate()
    speech = judged(gate, np.concatenate([demo_clip(f"{voice}_neutral_01.ogg") for voice in ("f1", "m2", "f4")]))
    assert (speech > 0.5).mean() > 0.5
    time = np.arange(10 * RATE) / RATE
    for other in (0.2 * random.standard_normal(len(time)), 0.3 * np.sin(2 * np.pi * 440 * time), np.zeros(len(time))):
        gate.reset()
        assert judged(gate, other.astype(np.float32)).max() < 0.5


def test_silero_forgets_when_it_is_told_to() -> None:
    clip, gate = demo_clip("m1_anger_01.ogg"), SileroGate()
    first, again = judged(gate, clip), judged(gate, clip)
    gate.reset()
    np.testing.assert_array_equal(judged(gate, clip), first)
    assert not np.array_equal(again, first)


def test_the_gate_loads_little_and_leaves_the_environment_alone() -> None:
    program = (
        "import json, os, sys\n"
        "from edgeser_device.listen.gate import SileroGate\n"
        "SileroGate()\n"
        "loaded = sorted({name.partition('.')[0] for name in sys.modules})\n"
        "print(json.dumps([loaded, os.environ.get('OMP_THREAD_LIMIT')]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    loaded, limit = json.loads(done.stdout)
    assert not {"torch", "onnxruntime", "librosa"} & set(loaded)
    assert limit is None


def test_the_level_gate_and_levels() -> None:
    assert LevelGate()(np.full(512, 0.1, np.float32)) == 1
    assert LevelGate()(np.full(512, 0.001, np.float32)) == 0
    assert level_db(np.zeros(10, np.float32)) == -120
    assert level_db(np.full(10, 0.1, np.float32)) == pytest.approx(-20, abs=1e-4)
    assert level_db(np.empty(0, np.float32)) == -120


def test_gates_are_found_by_name() -> None:
    assert " or ".join(", ".join(GATES).rsplit(", ", 1)) == GATE_NAMES
    assert " or ".join(BACKENDS) == BACKEND_NAMES
    with pytest.raises(ListenError, match="no gate 'silro'") as caught:
        open_gate("silro", RATE)
    assert caught.value.hint == "did you mean 'silero'?"
    with pytest.raises(ListenError, match="hears 16000 Hz, the model 22050"):
        open_gate("silero", 22050)
    assert isinstance(open_gate(None, RATE), SileroGate)
    assert isinstance(open_gate(None, 22050), LevelGate)


# Cutting -------------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 60_000), max_size=8))
def test_a_recording_is_cut_at_its_pauses(cuts: list[int]) -> None:
    random = np.random.default_rng(1)
    spoken = [(0.1 * random.standard_normal(n)).astype(np.float32) for n in (9_000, 17_000, 12_345)]
    pause = np.zeros(16_000, np.float32)
    whole = np.concatenate([pause, spoken[0], pause, spoken[1], pause, spoken[2]])
    cutter = Cutter(LevelGate(), SpeechSettings(), RATE)
    found = [one for piece in np.split(whole, sorted(cuts)) for one in cutter.push(piece)] + cutter.finish()
    assert len(found) == 3
    for one, expected in zip(found, spoken, strict=True):
        inside = np.flatnonzero(one)
        np.testing.assert_array_equal(one[inside[0] : inside[-1] + 1], expected)
