"""The file with the front-end in it: the probabilities of predict for sound of any kind, golden cases, its metadata."""

from __future__ import annotations

import json
import math
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeser.encoders.store import open_encoder
from edgeser_device.data.audio import read_audio, trim_silence
from edgeser_device.encoder import Encoder
from edgeser_device.model import pcm_export
from edgeser_device.model.inputs import SHORTEST
from edgeser_device.model.model import Model
from edgeser_device.model.pcm_export import GOLDEN, pcm_file
from edgeser_device.model.predict import Recogniser, clip_probabilities
from edgeser_device.model.reexport import export_model
from edgeser_export.export import REPORT
from edgeser_export.utilities.errors import ExportError, ParityError
from edgeser_export.writers.formats import find_format
from edgeser_export.writers.onnx_frontend import with_front_end

DEMO = Path(str(files("edgeser.corpora"))) / "demo_data"


@pytest.fixture(scope="module")
def out(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "files"
    export_model(model, "onnx", folder, front_end=True)
    return folder


@pytest.fixture(scope="module")
def session(out: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(out / "recogniser.onnx")


@pytest.fixture(scope="module")
def recogniser(model: Model) -> Recogniser:
    return Recogniser.open(model, "onnx")


def difference(
    session: onnxruntime.InferenceSession, recogniser: Recogniser, samples: np.ndarray[Any, np.dtype[np.float32]]
) -> float:
    expected, _ = clip_probabilities(recogniser, samples)
    (found,) = session.run(["probabilities"], {"pcm": samples[None]})
    assert found.shape == (1, len(recogniser.labels))
    return float(np.abs(found[0] - expected).max())


def test_fifty_recordings_give_the_probabilities_of_predict(
    session: onnxruntime.InferenceSession, recogniser: Recogniser
) -> None:
    clips = [read_audio(path, 16000) for path in sorted(DEMO.glob("*.ogg"))[::6]]
    assert len(clips) >= 50
    assert max(difference(session, recogniser, clip) for clip in clips) < 1e-3


def test_fifty_windows_of_untrimmed_sound(session: onnxruntime.InferenceSession, recogniser: Recogniser) -> None:
    sound = np.concatenate([read_audio(path, 16000) for path in sorted(DEMO.glob("*.ogg"))[:80]])
    length = int(session.get_modelmeta().custom_metadata_map["window_samples"])
    assert length == 1024 + 95 * 512
    starts = np.linspace(0, len(sound) - length, 50).astype(int)
    assert max(difference(session, recogniser, sound[start : start + length]) for start in starts) < 1e-3


@settings(max_examples=50)
@given(
    samples=st.integers(1, 120_000),
    silence=st.integers(0, 40_000),
    level=st.floats(-100, 0),
    slope=st.floats(-80, 80),
    seed=st.integers(0, 1000),
)
def test_sound_of_any_length_and_level(
    session: onnxruntime.InferenceSession,
    recogniser: Recogniser,
    samples: int, silence: int, level: float, slope: float, seed: int,
) -> None:  # fmt: skip
    envelope = 10 ** ((level + np.linspace(0, slope, samples).clip(-80, -level)) / 20)
    noise = np.random.default_rng(seed).uniform(-1, 1, samples) * envelope
    assert difference(session, recogniser, np.pad(noise, silence).clip(-1, 1).astype(np.float32)) < 1e-3


def test_silence(session: onnxruntime.InferenceSession, recogniser: Recogniser) -> None:
    for samples in (1, 1023, 1024, 30_000, 100_000):
        assert difference(session, recogniser, np.zeros(samples, np.float32)) < 1e-3


def test_golden_cases_can_be_made_from_what_the_file_says(out: Path, session: onnxruntime.InferenceSession) -> None:
    """Computed here sample by sample, as a port in another language would."""
    golden = json.loads((out / GOLDEN).read_text())
    assert golden["schema"] == 1
    assert "sum over h = 1 ... harmonics of sin(2 pi h hz k / rate) / h" in golden["recipe"]
    assert [case["name"] for case in golden["cases"]] == ["one window", "short", "silent edges", "several windows"]
    case = golden["cases"][1]
    step = 2 * math.pi * case["hz"] / golden["rate"]
    pcm = [
        case["amplitude"] * sum(math.sin(h * step * k) / h for h in range(1, case["harmonics"] + 1))
        if case["from"] <= k < case["to"]
        else 0.0
        for k in range(case["samples"])
    ]
    (found,) = session.run(None, {"pcm": np.array([pcm], np.float32)})
    expected = [case["probabilities"][label] for label in golden["labels"]]
    np.testing.assert_allclose(found[0], expected, atol=golden["tolerance"])
    assert golden["tolerance"] == 1e-3


def test_the_file_says_what_it_is(out: Path, session: onnxruntime.InferenceSession, model: Model) -> None:
    (reads,), (gives,) = session.get_inputs(), session.get_outputs()
    assert (reads.name, reads.type, reads.shape) == ("pcm", "tensor(float)", [1, "samples"])
    assert (gives.name, gives.type, gives.shape) == ("probabilities", "tensor(float)", [1, len(model.labels)])
    about = session.get_modelmeta().custom_metadata_map
    assert about["labels"] == ",".join(model.labels)
    assert about["rate"] == "16000"
    assert "16000 Hz" in about["input"]
    written = onnx.load(out / "recogniser.onnx")
    onnx.checker.check_model(written, full_check=True)
    assert [(each.domain, each.version) for each in written.opset_import] == [("", 17)]
    assert [node.op_type for node in written.graph.node].count("STFT") == 1
    assert {path.name for path in out.iterdir()} == {"recogniser.onnx", GOLDEN, REPORT}


def test_equal_models_give_equal_bytes(out: Path, model: Model, tmp_path: Path) -> None:
    export_model(model, "onnx", tmp_path, front_end=True)
    for name in ("recogniser.onnx", GOLDEN):
        assert (tmp_path / name).read_bytes() == (out / name).read_bytes()


def test_int8(model: Model, tmp_path: Path) -> None:
    export_model(model, "onnx-int8", tmp_path, front_end=True)
    session = onnxruntime.InferenceSession(tmp_path / "recogniser.int8.onnx")
    recogniser = Recogniser.open(model)
    clips = [read_audio(path, 16000) for path in sorted(DEMO.glob("*.ogg"))[::40]]
    assert max(difference(session, recogniser, clip) for clip in clips) < 0.1


def test_tflite_is_refused_before_anything_is_written(model: Model, tmp_path: Path) -> None:
    for name in ("tflite", "tflite-int8"):
        with pytest.raises(ExportError, match=r"no operator STFT.*RFFT2D, COMPLEX_ABS and GATHER") as caught:
            export_model(model, name, tmp_path, front_end=True)
        assert "--format onnx" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_differs_is_not_written(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The front-end of the file gets another window than predict has."""
    monkeypatch.setattr(pcm_export, "hann_window", lambda length: np.ones(length))
    with pytest.raises(ParityError, match="differs from predict by"):
        pcm_file(model, model.file("onnx"), find_format("onnx"))


@settings(max_examples=50)
@given(
    samples=st.integers(1, 120_000), silence=st.integers(0, 20_000), level=st.floats(-60, 0), seed=st.integers(0, 99)
)
def test_the_front_end_of_an_encoder(tiny_encoder: str, samples: int, silence: int, level: float, seed: int) -> None:
    """Before the encoder's own file it gives the mean of the vectors that the encoder gives of a trimmed clip."""
    session, encoder = heard_by(tiny_encoder)
    noise = np.random.default_rng(seed).uniform(-1, 1, samples) * 10 ** (level / 20)
    clip = np.pad(noise, silence).astype(np.float32)
    part = trim_silence(clip, encoder.card.frontend.trim_db)
    expected = encoder(np.pad(part, (0, max(0, SHORTEST - len(part))))).mean(axis=0)
    np.testing.assert_allclose(session.run(None, {"pcm": clip[None]})[0][0], expected, atol=2e-3)


@cache
def heard_by(name: str) -> tuple[onnxruntime.InferenceSession, Encoder]:
    card, data = open_encoder(name)
    written = with_front_end(data, pcm_export.heard_sound(card.frontend, for_encoder=True), {})
    return onnxruntime.InferenceSession(written), Encoder.open(card, data)
