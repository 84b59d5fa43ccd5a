"""Two slots: an update that fails changes nothing, one that works can be undone, and what breaks later is noticed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest
from device.kits import synthetic_set, write_run

from edgeser.packaging.pack import pack_kit
from edgeser_device.errors import DeviceError, GateFailed, KitDamaged, KitError, ModelError
from edgeser_device.install import slots
from edgeser_device.install.slots import check_or_switch_back, current_slot, describe, install_kit, switch_back
from edgeser_device.kit.kit import read_kit
from edgeser_device.model.model import record_test
from edgeser_export.utilities.errors import StorageError


@pytest.fixture(scope="module")
def kits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two kits for this machine's kind of processor, a few steps each."""
    folder = tmp_path_factory.mktemp("kits")
    made = []
    for number, steps in enumerate((3, 4)):
        run = write_run(folder / f"run{number}", synthetic_set(steps=steps))
        made.append(pack_kit(run, "x86-64", folder / f"{number}.edgeser").path)
    return made[0], made[1]


@pytest.fixture(scope="module")
def made(kits: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation with the first kit in slot a and the second in slot b; not to be changed."""
    folder = tmp_path_factory.mktemp("board") / "edgeser"
    for kit in kits:
        install_kit(folder, kit)
    return folder


@pytest.fixture
def board(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "edgeser", symlinks=True))


pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the kits here are for x86-64")


def test_an_update_goes_into_the_other_slot(made: Path, kits: tuple[Path, Path]) -> None:
    found = describe(made)
    assert (found["slot"], found["kit"], found["previous"]) == (
        "b",
        read_kit(kits[1]).sha256,
        read_kit(kits[0]).sha256,
    )
    assert (found["steps"], found["uar_packed"], found["target"]) == (4, 0.9, "x86-64")
    assert found["packages"]["numpy"]
    assert sorted(path.name for path in made.iterdir()) == ["current", "installation.json", "slots"]
    assert (made / "current").readlink() == Path("slots/b")
    assert (made / "current" / "software").resolve() == Path(sys.prefix).resolve()


def test_what_was_measured_here_is_told_from_what_the_kit_says(board: Path) -> None:
    found = describe(board)
    assert (found["uar"], found["uar_on"], found["uar_packed"]) == (None, None, 0.9)
    record_test(board / "current" / "model", {"uar": 0.75, "corpus": "demo", "part": "test", "utterances": 24})
    found = describe(board)
    assert (found["uar"], found["uar_packed"]) == (0.75, 0.9)
    assert found["uar_on"] == {"corpus": "demo", "part": "test", "utterances": 24}
    assert check_or_switch_back(board)["switched_back"] is None
    assert switch_back(board)["uar"] is None
    (board / "current" / "model" / "model.json").write_text("{")
    assert describe(board)["uar"] is None
    with pytest.raises(ModelError):
        record_test(board / "current" / "model", {"uar": 0.75})


def test_going_back_and_forth(board: Path) -> None:
    assert switch_back(board)["slot"] == "a"
    assert switch_back(board)["slot"] == "b"


def test_nothing_to_go_back_to(kits: tuple[Path, Path], board: Path) -> None:
    shutil.rmtree(board / "slots" / "a")
    with pytest.raises(DeviceError, match="no slot before"):
        switch_back(board)
    assert current_slot(board) == "b"


@pytest.mark.parametrize("file", ["student.onnx", "student.tflite", "model.json", "weights.safetensors"])
def test_what_breaks_later_is_noticed_and_left(board: Path, file: str) -> None:
    path = board / "current" / "model" / file
    path.write_bytes(path.read_bytes()[:-7] + b"changed")
    found = check_or_switch_back(board)
    assert found["slot"] == "a"
    assert found["switched_back"]
    assert check_or_switch_back(board)["switched_back"] is None


def test_two_broken_slots_are_said_to_be_broken(board: Path) -> None:
    for name in "ab":
        (board / "slots" / name / "model" / "model.json").unlink()
    with pytest.raises(GateFailed, match="nor the other"):
        check_or_switch_back(board)
    with pytest.raises(GateFailed, match="does not work"):
        switch_back(board)
    assert current_slot(board) == "b"


def test_a_model_that_does_not_work_is_never_switched_to(
    board: Path, kits: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = describe(board)
    monkeypatch.setattr(slots, "_software_link", lambda _: "/nowhere")  # as if the new software did not start
    with pytest.raises(GateFailed, match="no Python"):
        install_kit(board, kits[0])
    assert describe(board) == before
    assert check_or_switch_back(board)["switched_back"] is None


def test_a_bad_kit_changes_nothing(board: Path, kits: tuple[Path, Path], tmp_path: Path) -> None:
    before = sorted(board.rglob("*"))
    damaged = tmp_path / "damaged.edgeser"
    damaged.write_bytes(kits[0].read_bytes()[:-100])
    with pytest.raises(KitDamaged):
        install_kit(board, damaged)
    other = pack_kit(kits[0].parent / "run0", "rpi4", tmp_path / "other.edgeser").path
    with pytest.raises(KitError, match="another board: Raspberry Pi 4"):
        install_kit(board, other)
    assert sorted(board.rglob("*")) == before


def test_no_space_changes_nothing(board: Path, kits: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "SPARE_BYTES", 1 << 60)
    with pytest.raises(StorageError, match="MB free, the installation needs"):
        install_kit(board, kits[0])
    assert current_slot(board) == "b"


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path, kits: tuple[Path, Path]) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DeviceError, match=r"thesis\.txt"):
        install_kit(tmp_path, kits[0])
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(DeviceError, match="no installation"):
        describe(tmp_path)


def test_only_one_installation_at_a_time(board: Path, kits: tuple[Path, Path]) -> None:
    with slots.hold(board / ".lock", DeviceError("taken", "wait")), pytest.raises(DeviceError, match="under way"):
        install_kit(board, kits[0])


def test_a_training_that_was_finished_is_not_done_again(
    board: Path, kits: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "check_slot", lambda _: "the power failed")
    with pytest.raises(GateFailed):
        install_kit(board, kits[0])
    monkeypatch.undo()
    (work,) = (board / "work").iterdir()
    when = json.loads((work / "model" / "model.json").read_bytes())["training"]["seconds"]
    install_kit(board, kits[0])
    assert json.loads((board / "current" / "model" / "model.json").read_bytes())["training"]["seconds"] == when
    assert not (board / "work").exists()


@pytest.mark.slow
def test_an_installation_is_measured_and_says_so(
    kits: tuple[Path, Path], tmp_path: Path, run_edgeser: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    where = ("--folder", tmp_path / "edgeser")
    assert run_edgeser("device", "install", kits[0], *where).returncode == 0
    assert "0.900 when packed, on the host; not measured here" in run_edgeser("device", "status", *where).stdout
    test = ("--test", files("edgeser.corpora") / "demo_data", "--corpus", "demo")
    done = run_edgeser("device", "install", kits[1], *where, *test, "--json", check=True)
    found = json.loads(done.stdout)
    assert 0 <= found["uar"] <= 1
    words = f"{found['uar']:.3f}, measured here: demo (test), 24 recordings"
    assert words in run_edgeser("device", "status", *where).stdout
    done = run_edgeser("device", "install", kits[0], *where, "--corpus", "demo")
    assert done.returncode == 2
    assert "belong together" in done.stderr
