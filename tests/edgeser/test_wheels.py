"""Wheels for boards: edgeser's own, and what pip would choose there."""

from __future__ import annotations

import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from edgeser.errors import SettingsError, WheelError
from edgeser.targets import TARGETS, find_target
from edgeser.wheels import collect, download, own_wheel, requirements_of


def test_the_own_wheel_is_small_whole_and_the_same_each_time(tmp_path: Path) -> None:
    name, data = own_wheel()
    assert own_wheel() == (name, data)
    assert name.startswith("edgeser-")
    assert len(data) < 1_000_000
    path = tmp_path / name
    path.write_bytes(data)
    with zipfile.ZipFile(path) as wheel:
        inside = wheel.namelist()
    assert not [member for member in inside if "demo_data" in member or "__pycache__" in member]
    assert {"edgeser/cli.py", "edgeser_device/install.sh", "edgeser_export/py.typed"} <= set(inside)


@pytest.mark.slow
def test_pip_installs_the_own_wheel(tmp_path: Path) -> None:
    """And compares it with its RECORD."""
    name, data = own_wheel()
    (tmp_path / name).write_bytes(data)
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    command = [str(python), "-m", "pip", "install", "--no-deps", "--no-index", str(tmp_path / name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    shown = subprocess.run([str(python), "-m", "pip", "show", "-f", "edgeser"], capture_output=True, text=True)
    assert "bin/edgeser" in shown.stdout


@pytest.mark.parametrize("name", TARGETS)
def test_every_board_gets_a_runtime_and_no_version_that_fails_there(name: str) -> None:
    target = find_target(name)
    wanted = requirements_of("edgeser", target)
    names = {re.split(r"[<>=!]", line)[0] for line in wanted}
    assert {"numpy", "onnxruntime", "ai-edge-litert", "onnx", "cryptography"} <= names
    assert "torch" not in names
    assert not [line for line in wanted if ";" in line]
    if target.known_bad:
        assert [line for line in wanted if line.startswith("onnxruntime") and "!=1.21.0" in line]


def test_a_python_without_wheels_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"Python '3\.9'"):
        collect("3.9", find_target("rpi4"))


def test_no_index_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(WheelError, match=r"no wheels for Python 3\.11 on manylinux_2_28_aarch64") as error:
        download(tmp_path / "there", "3.11", find_target("rpi4").platforms, ["numpy"])
    assert "--wheels" in error.value.hint


@pytest.mark.slow
def test_a_kit_with_wheels_installs_offline_into_a_fresh_environment(tmp_path: Path) -> None:
    """With every package from the kit, in a network namespace of its own where that is allowed."""
    import os
    import shutil

    from device.kits import synthetic_set, write_run

    from device import boards
    from edgeser.pack import pack_kit

    if os.uname().machine != "x86_64":
        pytest.skip("the kit here is for x86-64")
    python = "{}.{}".format(*sys.version_info[:2])
    target = find_target("x86-64")
    run = write_run(tmp_path / "run", synthetic_set(steps=3))
    kit = pack_kit(run, "x86-64", tmp_path / "kit.edgeser", wheels=collect(python, target)).path
    home = tmp_path / "home"
    home.mkdir()
    variables = boards.environment(home, None)
    for name in ("PYTHONPATH", "PIP_NO_DEPS"):
        del variables[name]
    alone = ["unshare", "--user", "--map-root-user", "--net"]
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], capture_output=True).returncode:
        alone = []  # PIP_NO_INDEX stands all the same
    done = subprocess.run(
        [*alone, "sh", str(boards.SCRIPT), str(kit)],
        cwd=home,
        env=variables,
        capture_output=True,
        text=True,
        timeout=3000,
    )
    assert done.returncode == 0, done.stderr
    assert (home / "edgeser" / "current" / "model" / "student.onnx").is_file()
