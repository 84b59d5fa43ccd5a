"""The board's table: both sides train the same student, a row is measured once, bounds are read the right way round."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from device.kits import synthetic_set, write_run
from device_claims import CLAIMS, Claim, sheets_of
from device_files import frontends, rounded
from device_training import (
    Place,
    closure,
    first_steps,
    same_student,
    size_mb,
    step_times,
    train_board,
    train_torch,
    watched,
)
from safetensors.numpy import load_file

from edgeser_device.data.stored import first_views
from edgeser_device.kit.kit import Kit, read_kit
from edgeser_device.model.model import load_model
from edgeser_export.writers.formats import FORMATS

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "device.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """benchmarks/device.py; ``import device`` means these tests' own package."""
    spec = importlib.util.spec_from_file_location("board_table", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Two runs on synthetic items with the demo corpus's labels and split, four steps."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "work" / "kits").mkdir(parents=True)
    runs = tuple(
        write_run(folder / f"run{seed}", synthetic_set(views=8, steps=4, batch=8, peak_rate=rate))
        for seed, rate in enumerate((1e-2, 2e-2))
    )
    demo = Path(__file__).parents[2] / "edgeser" / "corpora" / "demo_data"
    return Place(folder / "work", {"ravdess": runs, "demo": runs}, {"demo": demo}, repeat=1)


@pytest.mark.slow
def test_both_sides_train_the_same_student(place: Place, tmp_path: Path) -> None:
    kit = place.kit("ravdess", 0)
    board, torch = train_board(kit, tmp_path / "model"), train_torch(kit, tmp_path / "torch.safetensors")
    assert board["steps"] == torch["steps"] == 4
    ours, theirs = load_model(tmp_path / "model").weights, load_file(tmp_path / "torch.safetensors")
    assert set(ours) == set(theirs)
    for name, start in read_kit(kit).weights.items():
        changed = np.abs(theirs[name] - start).max()
        assert np.abs(ours[name] - theirs[name]).max() <= 1e-3 * changed, name
    for side in (board, torch):
        assert 0 < side["first_step_s"] < side["process_s"]
        assert 0 < side["seconds"] < side["process_s"]
    assert board["peak_mb"] < 0.6 * torch["peak_mb"]


def test_memory_is_the_program_s_own(tmp_path: Path) -> None:
    program = "import time; held = bytearray(200 << 20); time.sleep(0.3); print('{}')"
    ballast = bytearray(500 << 20)
    assert 200 < watched([sys.executable, "-c", program])["peak_mb"] < 260
    assert ballast
    with pytest.raises(RuntimeError, match="exit code 3"):
        watched([sys.executable, "-c", "raise SystemExit(3)"])


def test_the_first_steps_are_those_of_torch(place: Place) -> None:
    found = first_steps(place, "edgenet", steps=3)
    for side in ("board", "torch"):
        assert found["losses"][side] == pytest.approx(found["losses"]["float64"], abs=1e-4)
        assert found["distance"][side] < 0.01
    assert found["distance"]["float64"] == 0
    assert found["agreement"]["board"] == 1
    assert found["stable"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet9", "vgg15"])
def test_large_students_train_stably_and_agree_with_torch(place: Place, name: str) -> None:
    """Twenty steps of a quarter of the width.

    Differences from sums in another order grow from step to step, in torch's own float32 too: the first steps are the
    same, and later losses differ from float64's by a few times what torch's do at most.
    """
    found = first_steps(place, name, steps=20)
    assert found["stable"]
    board, torch, exact = (np.array(found["losses"][side]) for side in ("board", "torch", "float64"))
    assert board[:3] == pytest.approx(torch[:3], rel=1e-3)
    assert np.abs(board - exact).max() <= 5 * np.abs(torch - exact).max() + 0.02
    assert found["agreement"]["float64"] >= 0.75
    assert board[-5:].mean() < board[0]


@pytest.mark.slow
def test_torch_is_compared_with_itself_too(place: Place) -> None:
    def judge(_: Place, corpus: str, kit: Kit, sides: Mapping[str, Any]) -> dict[str, Any]:
        classes = {name: outputs(first_views(kit.distilled, 32)).argmax(1) for name, outputs in sides.items()}
        first = next(iter(classes.values()))
        agreement = {name: float((each == first).mean()) for name, each in classes.items()}
        return {"uar": dict.fromkeys(sides, 0.5), "agreement": agreement, "clips": 32}

    found = same_student(place, None, None, judge)
    assert set(found["UAR"]) == {"board", "torch", "torch, two threads"}
    assert set(found["agreement"]) == {"board with torch", "torch with itself"}
    assert all(each["mean"] > 0.9 for each in found["agreement"].values())  # after four steps
    assert len(found["each"]) == 2


@pytest.mark.slow
def test_steps_take_turns(place: Place) -> None:
    found = step_times(place, "edgenet", 0.25)
    (only,) = found["each"]
    assert found["ratio"] == only["onnxruntime"]["ms"] / only["torch"]["ms"] > 0


@pytest.mark.slow
def test_files_of_every_kind_are_scored(place: Place) -> None:
    found = rounded(place, "demo")
    assert set(found["files"]) == set(found["bytes"]) == set(FORMATS)
    assert found["files"]["onnx"]["agreement"] == 1
    assert found["files"]["tflite"]["uar"] == found["files"]["onnx"]["uar"]
    assert len(found["each"]) == 2
    assert all(0.5 < each["agreement"] <= 1 for each in found["files"].values())
    assert found["bytes"]["tflite-int8"] < found["bytes"]["tflite"]


def test_front_ends_compute_the_same() -> None:
    found = frontends(seconds=2)
    assert found["largest_difference_db"] < 1e-3
    assert found["ratio"] == found["librosa"] / found["edgeser"]


def test_sizes_are_those_of_what_is_needed() -> None:
    assert {"numpy", "onnxruntime", "protobuf"} <= closure(["onnxruntime"])
    assert "torch" not in closure(["onnxruntime", "safetensors"])
    assert size_mb("numpy") > 10
    assert size_mb("torch") > 10 * size_mb("numpy") / 4


def test_a_row_is_measured_once(script: ModuleType, place: Place) -> None:
    calls = []

    def measure(_: Place) -> dict[str, Any]:
        calls.append(1)
        return {"number": len(calls)}

    row = script.Row("a row", measure)
    assert script.measured(place, row)["number"] == 1
    assert script.measured(place, row)["number"] == 1
    assert script.measured(place, row, again=True)["number"] == 2


@pytest.mark.parametrize(("figure", "at_least", "reached"), [(1, False, "yes"), (3, False, "no"), (3, True, "yes")])
def test_bounds_are_read_the_right_way_round(figure: float, at_least: bool, reached: str) -> None:
    claim = Claim("row", "words", lambda each: each["figure"], 2.0, at_least)
    assert claim.reached({"figure": figure}) is (reached == "yes")


def test_every_claim_is_of_a_row(script: ModuleType) -> None:
    assert {claim.row for claim in CLAIMS} == {row.name for row in script.ROWS}


def test_the_page(script: ModuleType) -> None:
    rows = {"installed": {"ratios": {"board, training": 0.2, "board, everything": 0.4}, "load_average": [1, 2]}}
    machine = {"cpu": "Test processor", "cores": 2, "python": "3.11", "packages": {"numpy": "2"}}
    text = script.page({"machine": machine, "repeat": 3, "rows": rows}, sheets_of(rows))
    assert "| installed for training, against torch | 0.20 | at most 0.30 | yes |" in text
    assert "| everything installed, against torch | 0.40 | at most 0.30 | no |" in text
    assert "Test processor" in text
