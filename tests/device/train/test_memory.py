"""What a board's memory must hold: the whole of ``train-on-device`` under a limit that the kernel keeps."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cgroups
import pytest
from device.kits import synthetic_set, write_kit

from edgeser_device.model.model import load_model

pytestmark = [pytest.mark.slow]
STEPS = 40
"""The memory of a step stays what it is after the first few."""


@pytest.fixture(scope="module", autouse=True)
def _limits() -> None:
    if reason := cgroups.missing():
        pytest.skip(reason)


def test_the_limit_is_kept(tmp_path: Path) -> None:
    program = "bytearray(256 << 20)"
    assert cgroups.run_limited([sys.executable, "-c", program], 512, tmp_path).done.returncode == 0
    found = cgroups.run_limited([sys.executable, "-c", program], 128, tmp_path)
    assert found.done.returncode != 0
    assert found.killed == 1


@pytest.mark.parametrize(("arch", "width", "megabytes"), [("edgenet", 1.0, 128), ("cnn6", 0.25, 256)])
def test_a_training_fits(arch: str, width: float, megabytes: int, tmp_path: Path) -> None:
    """From the first import to the model folder: checks, steps, statistics, and four files written and compared."""
    distilled = synthetic_set(per_class=16, views=64, steps=STEPS, batch=32)
    kit = write_kit(tmp_path, distilled, width, arch=arch).path
    words = ["train-on-device", str(kit), "--out", "model", "--threads", "1", "--json"]
    found = cgroups.run_limited([sys.executable, "-m", "edgeser", *words], megabytes, tmp_path)
    assert found.killed == 0, f"out of {megabytes} MB of memory"
    assert found.done.returncode == 0, found.done.stderr
    assert json.loads(found.done.stdout)["steps"] == STEPS
    assert found.peak_mb is None or 40 < found.peak_mb <= megabytes
    assert load_model(tmp_path / "model").formats == ("onnx", "tflite", "onnx-int8", "tflite-int8")
