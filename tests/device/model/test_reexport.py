"""Exports of a trained model: what it loses is measured, a gate keeps a file from appearing, reports are merged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeser_device.errors import GateFailed
from edgeser_device.model.model import Model
from edgeser_device.model.reexport import Drop, agreement, export_model
from edgeser_export.export import REPORT
from edgeser_export.utilities.errors import OutputTaken
from edgeser_export.writers.formats import FORMATS


def rows(out: Path) -> list[str]:
    return [f"{row['format']} {row['precision']}" for row in json.loads((out / REPORT).read_text())["rows"]]


def changed(model: Model, out: Path) -> bytes:
    """The file of a student whose last layer names other classes."""
    weights = {name: np.roll(value, 1, axis=0) if "logits" in name else value for name, value in model.weights.items()}
    other = replace(model)
    other.__dict__["weights"] = weights
    export_model(other, "onnx", out)
    return (out / "student.onnx").read_bytes()


def test_two_formats_in_one_folder_share_a_report(model: Model, tmp_path: Path) -> None:
    for name in ("tflite", "onnx", "onnx"):
        report = export_model(model, name, tmp_path)
        assert [row.name for row in report.rows] == [name]
    assert rows(tmp_path) == ["onnx float32", "tflite float32"]
    (tmp_path / "student.tflite").unlink()
    export_model(model, "onnx", tmp_path)
    assert rows(tmp_path) == ["onnx float32"]


def test_the_report_of_another_student_is_not_kept(model: Model, tmp_path: Path) -> None:
    export_model(model, "tflite", tmp_path)
    other = replace(model)
    other.__dict__["weights"] = {name: 2 * value for name, value in model.weights.items()}
    export_model(other, "onnx", tmp_path)
    assert rows(tmp_path) == ["onnx float32"]


def test_the_models_own_file_agrees_with_itself(model: Model) -> None:
    for name in FORMATS:
        assert agreement(model, model.file(name)).drop == 0


def test_a_gate_keeps_the_file_from_appearing(model: Model, tmp_path: Path) -> None:
    worse = agreement(model, changed(model, tmp_path / "other"))
    assert worse.measure == "agreement"
    assert worse.drop > 0.5

    def gate(data: bytes) -> None:
        worse.require(0.02)

    with pytest.raises(GateFailed, match="no file was written") as caught:
        export_model(model, "onnx", tmp_path / "out", gate)
    assert "--max-drop" in caught.value.hint
    assert list((tmp_path / "out").iterdir()) == []


def test_bounds_of_a_drop() -> None:
    Drop("uar", 0.8, 0.7).require(None)
    Drop("uar", 0.8, 0.7).require(0.1)
    Drop("uar", 0.7, 0.8).require(0.0)
    with pytest.raises(GateFailed, match=r"uar falls from 0\.800 to 0\.700"):
        Drop("uar", 0.8, 0.7).require(0.099)


def test_what_is_no_folder_for_exports_is_refused(model: Model, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "corpus" / "anger").mkdir(parents=True)
    (tmp_path / REPORT).write_text('{"mine": 1}')
    for out in (tmp_path / "file", tmp_path, tmp_path / "corpus", model.folder):
        with pytest.raises(OutputTaken, match="is no export"):
            export_model(model, "onnx", out)
    assert (tmp_path / REPORT).read_text() == '{"mine": 1}'
    assert (tmp_path / "file").read_text() == "mine"
