"""A model's files in the hands of other programs: each says what ``predict`` says, and how to ask it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter
from device.kits import synthetic_items
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeser_device.data.audio import read_audio
from edgeser_device.data.stored import first_levels, first_views
from edgeser_device.errors import ModelError
from edgeser_device.frontend import FrontendSpec, clip_log_mel, windows
from edgeser_device.kit.kit import Kit
from edgeser_device.model.model import DESCRIPTION, Model, load_model, rollback
from edgeser_device.model.predict import Recogniser, predict_file
from edgeser_device.model.reexport import export_model
from edgeser_device.personal.fine_tune import PersonalSettings, fine_tune
from edgeser_device.personal.own_clips import OwnClips
from edgeser_device.personal.student_parts import PARTS
from edgeser_export.graph.reference import run_reference, softmax
from edgeser_export.writers.formats import FORMATS
from edgeser_export.writers.tflite_files import read_tflite_metadata

DEMO = Path(str(files("edgeser.corpora").joinpath("demo_data")))
CLIPS = [DEMO / f"{name}_01.ogg" for name in ("f1_anger", "m5_sadness", "f5_neutral", "m1_happiness")]
TOLERANCE = {"float32": 1e-5, "int8": 0.05}
"""Of a probability: sums of float32 in another order; and eight bits, whose largest difference was 0.011 over 512 views
and 64 clips of a model trained on the demonstration corpus."""

Say = Callable[[np.ndarray], np.ndarray]
"""Levels, float32 (windows, mels, frames), to probabilities (windows, classes)."""


def opened(path: Path) -> tuple[dict[str, str], Say]:
    """A file's metadata and what it computes, by its runtime alone."""
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (entrance,) = session.get_inputs()
        about = session.get_modelmeta().custom_metadata_map
        return about, lambda levels: session.run(None, {entrance.name: levels[:, None]})[0]
    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    (entrance,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()

    def say(levels: np.ndarray) -> np.ndarray:
        found = []
        for window in levels:
            interpreter.set_tensor(entrance["index"], window[None, :, :, None])
            interpreter.invoke()
            found.append(interpreter.get_tensor(output["index"])[0])
        return np.array(found)

    return read_tflite_metadata(path.read_bytes()), say


def require_what_predict_says(model: Model, folder: Path) -> None:
    """Ask every file in ``folder`` for the distilled set's views and for clips."""
    names = {row.file_name: row for row in FORMATS.values()}
    assert {path.name for path in folder.glob("student.*")} == set(names)
    levels = first_levels(model.distilled, 64)
    recogniser = Recogniser.open(model, "onnx")
    expected = recogniser(levels[:, 0])
    assert np.ptp(expected, axis=0).max() > 0.5, "the views are to be told apart"
    for name, row in names.items():
        about, say = opened(folder / name)
        labels, spec = about["labels"].split(","), FrontendSpec.from_json(json.loads(about["frontend"]))
        assert about["input"] == f"log-mel levels in dB, {spec.mels} x {spec.frames}"
        assert about["output"] == "probabilities"
        assert about["temperature"] == f"{model.temperature:.9g}"
        for part in ("normalisation", "temperature", "softmax"):
            assert part in about["folded"]
        assert np.abs(say(levels[:, 0]) - expected).max() <= TOLERANCE[row.precision], name
        for clip in CLIPS:
            found = say(windows(clip_log_mel(read_audio(clip, spec.rate), spec), spec)).mean(axis=0)
            said = predict_file(recogniser, clip).probabilities
            assert dict(zip(labels, found, strict=True)) == pytest.approx(said, abs=TOLERANCE[row.precision]), name


def test_every_file_of_a_model(model: Model) -> None:
    assert model.temperature != 1
    require_what_predict_says(model, model.folder)


def test_probabilities_are_those_of_the_weights(model: Model) -> None:
    """The whole way, by hand: normalised views through the student, divided by the temperature, softmax."""
    views = first_views(model.distilled, 16)
    expected = softmax(run_reference(model.graph, model.weights, views) / model.temperature)
    for name, row in FORMATS.items():
        _, say = opened(model.folder / row.file_name)
        found = say(first_levels(model.distilled, 16)[:, 0])
        assert np.abs(found - expected).max() <= TOLERANCE[row.precision], name


def test_every_exported_file(model: Model, tmp_path: Path) -> None:
    for name in FORMATS:
        export_model(model, name, tmp_path)
    require_what_predict_says(model, tmp_path)
    for row in FORMATS.values():
        assert (tmp_path / row.file_name).read_bytes() == (model.folder / row.file_name).read_bytes()


def test_every_file_after_training_on_own_clips_and_after_going_back(kit: Kit, model: Model, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model.folder, folder)
    items, classes = synthetic_items(3, seed=5)
    heard = (0.5 * items + np.linspace(3, -3, items.shape[1])[:, None]).astype(np.float32)
    digests = tuple(map(str, range(len(items))))
    own = OwnClips(digests, classes.astype(np.int64), heard, np.arange(len(items)))
    how = replace(PARTS["tail"], steps=30, own_views=96, rehearsal_views=32)
    assert fine_tune(kit, folder, own, PersonalSettings(adapt=how, max_forget=1.0)).installed
    require_what_predict_says(load_model(folder), folder)
    assert (folder / "student.onnx").read_bytes() != (model.folder / "student.onnx").read_bytes()
    require_what_predict_says(rollback(folder)[0], folder)


@pytest.mark.slow
def test_every_file_of_a_model_of_speech(spoken_model: Path) -> None:
    require_what_predict_says(load_model(spoken_model), spoken_model)


@settings(max_examples=20)
@given(seed=st.integers(0, 1 << 16), shift=st.floats(-60, 20))
def test_any_levels(seed: int, shift: float, model: Model) -> None:
    """Louder and softer than anything that was trained on: float32 files say the same, and all say probabilities."""
    spec, random = model.frontend, np.random.default_rng(seed)
    levels = (random.normal(shift, 20, (2, spec.mels, spec.frames))).astype(np.float32)
    expected = run_reference(model.recogniser, model.weights, levels[:, None])
    for row in FORMATS.values():
        found = opened(model.folder / row.file_name)[1](levels)
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
        if row.precision == "float32":
            assert np.abs(found - expected).max() <= TOLERANCE["float32"], row.name


@pytest.mark.parametrize("schema", [1, 3, "2", None])
def test_a_model_of_another_version_is_refused_in_one_line(model: Model, tmp_path: Path, schema: object) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model.folder, folder)
    description = json.loads((folder / DESCRIPTION).read_text())
    (folder / DESCRIPTION).write_text(json.dumps(description | {"schema": schema}))
    with pytest.raises(ModelError, match="train again from the kit") as caught:
        load_model(folder)
    assert "\n" not in caught.value.message
    assert "edgeser train-on-device" in caught.value.hint
