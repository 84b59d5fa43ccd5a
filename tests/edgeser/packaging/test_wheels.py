"""Wheels for boards: edgeser's own, and what pip would choose there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import venv
import zipfile
from email.message import Message
from email.parser import BytesParser
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from edgeser.errors import SettingsError, WheelError
from edgeser.packaging.targets import TARGETS, find_target
from edgeser.packaging.wheels import BOARD_EXTRAS, REQUIREMENTS, collect, download, own_wheel, requirements_of
from edgeser_device.kit.archive import write_archive


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
    assert {"edgeser/cli/entry.py", "edgeser_device/install.sh", "edgeser_export/py.typed"} <= set(inside)


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
    wanted = requirements_of(metadata.requires("edgeser") or (), "3.11", target, BOARD_EXTRAS)
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

    from device import boards
    from device.kits import synthetic_set, write_run

    from edgeser.packaging.pack import pack_kit

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


MARKERS = (
    "later; python_version >= '3.13'",
    "earlier; python_version < '3.12'",
    "patched; python_full_version < '3.11.4'",
    "there; platform_machine == 'aarch64'",
    "here; platform_machine == 'x86_64'",
    "windows; sys_platform == 'win32'",
    "optional; extra == 'trust'",
    "unwanted; extra == 'host'",
    "always[more]>=1,<3",
)


@pytest.mark.parametrize(
    ("python", "expected"),
    [
        ("3.11", {"earlier", "patched", "there", "optional", "always[more]<3,>=1"}),
        ("3.12", {"there", "optional", "always[more]<3,>=1"}),
        ("3.13", {"later", "there", "optional", "always[more]<3,>=1"}),
    ],
)
def test_markers_are_about_the_board(python: str, expected: set[str]) -> None:
    assert set(requirements_of(MARKERS, python, find_target("rpi4"), ["trust"])) == expected


def put_wheel(folder: Path, name: str, version: str, *requirements: str) -> None:
    """A package without content that asks for others."""
    information = f"{name}-{version}.dist-info"
    asked = "".join(f"Requires-Dist: {line}\n" for line in requirements)
    members = {
        f"{information}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{asked}".encode(),
        f"{information}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{information}/RECORD": b"",
    }
    (folder / f"{name}-{version}-py3-none-any.whl").write_bytes(write_archive(members))


def test_what_packages_need_there_is_found_by_a_real_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In any depth, for the board and not for this Python, in versions that suit everybody, extras too."""
    put_wheel(tmp_path, "one", "1.0", "two; python_version >= '3.13'", "old; python_version < '3.13'", "four<2")
    put_wheel(tmp_path, "two", "2.0", "three[more]; platform_machine == 'aarch64'", "four")
    put_wheel(tmp_path, "three", "1.5", "five; extra == 'more'", "six; extra == 'less'", "one")
    for name, version in (("four", "1.9"), ("four", "2.1"), ("five", "0.1"), ("six", "0.1"), ("old", "1.0")):
        put_wheel(tmp_path, name, version)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setattr(metadata, "requires", lambda _: ["one", "nothing; extra == 'host'"])
    found = {
        python: {
            line.partition("==")[0]: line.partition("==")[2]
            for line in collect(python, find_target("rpi4")).requirements
        }
        for python in ("3.12", "3.13")
    }
    own = {"edgeser": metadata.version("edgeser")}
    assert found["3.12"] == {"one": "1.0", "old": "1.0", "four": "1.9", **own}
    assert found["3.13"] == {"one": "1.0", "two": "2.0", "three": "1.5", "four": "1.9", "five": "0.1", **own}


@pytest.mark.slow
@pytest.mark.parametrize("python", ["3.11", "3.13"])
def test_the_wheels_for_a_board_are_all_that_it_needs(tmp_path: Path, python: str) -> None:
    """From the index that pip uses here; looked at by hand, and by pip without an index, as far as it can here."""
    target = find_target("rpi4")
    wheels = collect(python, target)
    tag = f"cp{python.replace('.', '')}"
    described, extras = {}, {"edgeser": BOARD_EXTRAS}
    for name, content in wheels.files.items():
        (tmp_path / name).write_bytes(content)
        if name != REQUIREMENTS:
            assert name.endswith(("-any.whl", "_aarch64.whl")), name
            assert "-py3-" in name or "-py2.py3-" in name or tag in name or "-abi3-" in name, name
            found = headers_of(tmp_path / name)
            described[canonicalize_name(found["Name"])] = found
    for name, found in described.items():
        assert SpecifierSet(found.get("Requires-Python") or "").contains(f"{python}.2"), name
        for line in requirements_of(found.get_all("Requires-Dist") or (), python, target, extras.get(name, ())):
            asked = Requirement(line)
            assert asked.specifier.contains(described[canonicalize_name(asked.name)]["Version"]), (name, line)

    platforms = [word for tag in target.platforms for word in ("--platform", tag)]
    # pip asks for its own Python here even where another one is named, hence the last flag.
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed", "--no-index"),
            *("--report", "-", "--find-links", tmp_path, "--python-version", python, *platforms),
            *("--only-binary=:all:", "--target", tmp_path / "there", "--require-hashes"),
            *("-r", tmp_path / REQUIREMENTS, "--ignore-requires-python"),
        ],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    chosen = {entry["metadata"]["name"] for entry in json.loads(done.stdout)["install"]}
    assert {"edgeser", "numpy", "onnxruntime", "ai-edge-litert", "cryptography", "soundfile"} <= chosen
    assert len(chosen) == len(wheels.requirements)


def headers_of(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return BytesParser().parsebytes(archive.read(name), headersonly=True)
