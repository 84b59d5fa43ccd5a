"""The TFLite interpreter's older name: its last release, with Python 3.11 and numpy 1, in an environment of its own.

``ai_edge_litert`` is absent there, and so is onnxruntime: what an old board may have.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from device.boards import make_wheel

from edgeser_device.distilled import first_levels
from edgeser_device.model import Model
from edgeser_export.runtimes import load

PYTHON = shutil.which("python3.11")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PYTHON is None, reason="tflite_runtime needs python3.11, which is not installed"),
]

PACKAGES = ("tflite-runtime==2.14.0", "numpy==1.26.4", "safetensors", "soundfile", "soxr", "typer", "rich")
TOLERANCE = {"tflite": 2e-5, "tflite-int8": 2e-2}
"""Of a probability, against ai_edge_litert: sums in another order, and in eight bits two or three steps of the 255
where kernels round halves in other directions."""
VIEWS = 8
ASK = f"""
import json, sys
from pathlib import Path
from edgeser_device.distilled import first_levels
from edgeser_device.model import load_model
from edgeser_export.runtimes import load
model = load_model(Path(sys.argv[1]))
levels = first_levels(model.distilled, {VIEWS})
print(json.dumps({{name: load(model.file(name))(levels).tolist() for name in ("tflite", "tflite-int8")}}))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of the environment."""
    folder = tmp_path_factory.mktemp("older")
    subprocess.run([str(PYTHON), "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    found = folder / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(found), "install", "--quiet", "--disable-pip-version-check"]
    constraints = Path(__file__).parents[2] / "constraints.txt"
    fixed = [line for line in constraints.read_text().splitlines() if not line.startswith("numpy==")]
    (folder / "constraints.txt").write_text("\n".join(fixed))
    subprocess.run([*pip, *PACKAGES, "--constraint", str(folder / "constraints.txt")], check=True)
    subprocess.run([*pip, "--no-deps", str(make_wheel(folder))], check=True)  # asks for numpy 2, which training needs
    return found


def said(python: Path, *words: object) -> str:
    done = subprocess.run([str(python), *map(str, words)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_predict(python: Path, model: Model, recording: Path) -> None:
    found = json.loads(said(python, "-m", "edgeser", "predict", model.folder, recording, "--json"))
    expected = json.loads(said(Path(sys.executable), "-m", "edgeser", "predict", model.folder, recording, "--json"))
    (one,), (other,) = found["predictions"], expected["predictions"]
    assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-4)
    assert one["emotion"] == other["emotion"]


def test_bench(python: Path, model: Model) -> None:
    found = json.loads(said(python, "-m", "edgeser", "bench", model.folder, "--threads", 1, "--repeat", 5, "--json"))
    rows = {(row["format"], row["precision"]): row for row in found["results"]}
    assert set(rows) == {("tflite", "float32"), ("tflite", "int8")}
    for row in rows.values():
        assert (row["runtime"], row["runtime_version"]) == ("tflite_runtime", "2.14.0")
        assert row["model_ms_p50"] > 0
        assert row["agreement"] > 0.9
    reasons = {(row["format"], row["precision"]): row["reason"] for row in found["skipped"]}
    assert reasons == dict.fromkeys((("onnx", "float32"), ("onnx", "int8")), "onnxruntime is not installed")


def test_the_outputs_are_those_of_its_successor(python: Path, model: Model) -> None:
    found = json.loads(said(python, "-c", ASK, model.folder))
    levels = first_levels(model.distilled, VIEWS)
    for name, tolerance in TOLERANCE.items():
        expected = load(model.file(name), runtime="litert")(levels)
        assert np.abs(np.array(found[name]) - expected).max() <= tolerance, name
