"""Encoder and head as one file: it answers as predict does, and is measured and refused as it should be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile

from edgeser.config.values import settings_of
from edgeser.distill.pipeline import distill
from edgeser.packaging.pack import pack_kit
from edgeser.workers import Workers
from edgeser_device.bench.bench import file_of, run_bench, slower_int8, with_recommendation
from edgeser_device.errors import EncoderError, ModelError
from edgeser_device.kit.kit import read_kit
from edgeser_device.model import joined_files
from edgeser_device.model.joined_files import file_content, joined_formats, open_content, open_joined, write_joined
from edgeser_device.model.model import Model, load_model
from edgeser_device.model.predict import Recogniser, predict_file
from edgeser_device.model.reexport import export_model
from edgeser_device.train.train import Settings, train
from edgeser_export.utilities.errors import GraphError, ParityError
from edgeser_export.writers.formats import FORMATS

RATE = 16000
SETTINGS = {
    "corpus": "demo",
    "method": "random",
    "arch": "mlp",
    "ipc": 2,
    "width": 0.25,
    "views": 4,
    "experts.count": 1,
    "experts.steps": 12,
    "steps": 12,
    "batch": 16,
}


@pytest.fixture(scope="module")
def model(tiny_encoder: str, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A head on the tiny encoder; not to be changed."""
    folder = tmp_path_factory.mktemp("joined")
    settings = settings_of({**SETTINGS, "encoder": tiny_encoder})
    run = distill(settings, folder / "run", Workers(1), resume=False, warn=lambda _: None)
    train(read_kit(pack_kit(run.folder, "x86-64", folder / "k").path), folder / "model", Settings(threads=1))
    return load_model(folder / "model")


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Noise of several lengths that grows louder; one is shorter than a window."""
    paths = []
    for seconds in (0.3, 1.7, 4.2):
        count = int(seconds * RATE)
        samples = np.random.default_rng(5).standard_normal(count) * np.geomspace(0.003, 0.2, count)
        paths.append(tmp_path_factory.mktemp("sound") / "noise.wav")
        soundfile.write(paths[-1], samples.clip(-1, 1).astype(np.float32), RATE, subtype="FLOAT")
    return paths


@pytest.mark.parametrize("name", FORMATS)
def test_a_joined_file_answers_as_predict_does(model: Model, spoken: list[Path], name: str) -> None:
    own, other = Recogniser.open(model), open_joined(model, write_joined(model, name))
    for path in spoken:
        one, two = (predict_file(recogniser, path) for recogniser in (own, other))
        assert (one.file, one.windows) == (two.file, two.windows)
        found = np.array([*two.probabilities.values()])
        atol = 1e-4 if FORMATS[name].precision == "float32" else 0.05
        np.testing.assert_allclose(found, [*one.probabilities.values()], atol=atol)


@pytest.mark.parametrize("name", FORMATS)
def test_an_export_is_compared_and_kept(model: Model, tmp_path: Path, name: str) -> None:
    row, seen = FORMATS[name], list[bytes]()
    report = export_model(model, name, tmp_path / "files", seen.append)
    data = (tmp_path / "files" / row.file_name).read_bytes()
    assert seen == [data] == [write_joined(model, name)]
    assert report.passed
    assert (report.rows[0].name, report.rows[0].bytes) == (name, len(data))
    assert json.loads((tmp_path / "files" / "parity.json").read_bytes())["passed"]


def test_the_file_says_what_was_folded(model: Model) -> None:
    found = onnx.load_from_string(write_joined(model, "onnx-int8"))
    onnx.checker.check_model(found, full_check=True)
    about = {each.key: each.value for each in found.metadata_props}
    assert about["labels"] == ",".join(model.labels)
    assert model.encoder is not None
    for words in (model.encoder.sha256, "standardisation", "temperature", "softmax", "8 bits"):
        assert words in about["folded"]
    assert about["input"].startswith("mel: 80 levels of 300 frames")
    assert [each.name for each in found.graph.output] == ["probabilities"]


def test_a_wrong_file_does_not_appear(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scale of another set gives other probabilities, and a changed encoder other vectors."""
    scale = model.distilled.scale
    other = replace(scale, mean=scale.mean + np.float32(0.5))
    monkeypatch.setattr(joined_files, "scale_of_model", lambda _: other)
    with pytest.raises(ParityError, match="differs from its source"):
        export_model(model, "onnx", tmp_path / "files")
    monkeypatch.undo()
    read = joined_files.read_encoder

    def changed(data: bytes) -> object:
        graph, weights = read(data)
        return graph, {**weights, "conv1.bias": weights["conv1.bias"] + np.float32(0.1)}

    monkeypatch.setattr(joined_files, "read_encoder", changed)
    with pytest.raises(ParityError, match="the vectors of the tflite encoder"):
        export_model(model, "tflite", tmp_path / "files")
    assert [*(tmp_path / "files").iterdir()] == []


def test_encoders_that_cannot_be_joined(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert model.encoder is not None
    of_samples = replace(model, encoder=replace(model.encoder, input="pcm"))
    assert joined_formats(of_samples) == ()
    with pytest.raises(ModelError, match="reads samples"):
        export_model(of_samples, "onnx", tmp_path / "a")
    monkeypatch.setattr(joined_files, "read_encoder_file", lambda _: b"another encoder")
    assert joined_formats(model) == ()
    assert file_content(model, "onnx") == model.file("onnx")
    assert open_content(model, "onnx").labels == model.labels
    with pytest.raises(GraphError, match="does not hold the weights"):
        write_joined(model, "onnx")
    monkeypatch.undo()
    monkeypatch.setenv("EDGESER_CACHE", str(tmp_path / "empty"))
    with pytest.raises(EncoderError, match="is not there"):
        export_model(model, "onnx", tmp_path / "b")


def test_a_bench_measures_what_is_exported(model: Model) -> None:
    bench = with_recommendation(run_bench(model, None, (1,), repeat=3), model)
    assert {file_of(row)[0] for row in bench.results} == set(FORMATS)
    for row in bench.results:
        assert row["bytes"] == len(write_joined(model, file_of(row)[0]))
        assert row["model_ms_p50"] > 0
        assert row["cosine"] > 0.999
    assert bench.recommended is not None
    assert bench.to_json()["notes"] == slower_int8(bench.results)


def test_an_int8_file_that_is_slower_is_named() -> None:
    rows = [
        {"runtime": runtime, "threads": 1, "precision": precision, "model_ms_p50": ms}
        for runtime, precision, ms in (
            ("litert", "float32", 20.0),
            ("litert", "int8", 30.0),
            ("onnxruntime", "float32", 20.0),
            ("onnxruntime", "int8", 10.0),
            ("alone", "int8", 5.0),
        )
    ]
    assert slower_int8(rows) == [
        "int8 is slower than float32 in litert with 1 thread: 30.00 ms against 20.00 ms, so use float32 there"
    ]
