"""What is shipped: the built wheel, not the source tree, holds everything; the scripts are whole and executable."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from sources import PACKAGES, ROOT

SCRIPTS = [
    "scripts/test",
    "scripts/check",
    "scripts/release",
    "scripts/demo",
    "scripts/test_oldest",
    "scripts/generate_cli_docs",
    "scripts/check_shell",
    ".ci/run",
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sources as they are, without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_is_for_every_machine(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")
    assert wheel.stat().st_size < 5_000_000, "most of it is the recordings of the demo corpus; a board downloads it too"


def test_every_source_and_data_file_travels_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    wanted = {
        f"{package}/{path.relative_to(folder).as_posix()}"
        for package, folder in PACKAGES.items()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert inside == wanted
    assert {f"{package}/py.typed" for package in PACKAGES} <= inside
    assert any(name.startswith("edgeser/corpora/demo_data/") for name in inside)


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        information = {
            name.rpartition("/")[2]: archive.read(name).decode() for name in archive.namelist() if ".dist-info/" in name
        }
    assert "edgeser = edgeser.__main__:main" in information["entry_points.txt"]
    assert "License-Expression: Apache-2.0" in information["METADATA"]
    assert "Apache License" in information["LICENSE"]


def test_the_wheel_imports_without_the_sources(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n" + "\n".join(
        f"import {package}; assert {package}.__file__.startswith({str(tmp_path)!r}), {package}.__file__"
        for package in PACKAGES
    )
    program += "\nimport edgeser.cli.entry, edgeser.errors\nassert edgeser.__version__ != '0+unknown'"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_the_version_is_one_and_in_the_changelog() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_release_is_made_only_where_version_and_changelog_agree(tmp_path: Path) -> None:
    """The real script in a copy of the tree, first as the tree is, then with every change below the version."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    copy = tmp_path / "copy"
    for name in filter(None, tracked.split("\0")):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name)
    (copy / ".venv").symlink_to(sys.prefix)
    release = [copy / "scripts" / "release", tmp_path / "dist"]
    text = (copy / "CHANGELOG.md").read_text(encoding="utf-8")
    (copy / "CHANGELOG.md").write_text(text.replace("## [Unreleased]", "## [Unreleased]\n\n- Something.", 1), "utf-8")
    done = subprocess.run(release, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "error: CHANGELOG.md has changes under Unreleased" in done.stderr
    (copy / "CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n\n## [9.9.9]\n", encoding="utf-8")
    done = subprocess.run(release, capture_output=True, text=True, timeout=60)
    assert "the newest version in CHANGELOG.md is 9.9.9" in done.stderr
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    (copy / "CHANGELOG.md").write_text(f"# Changelog\n\n## [Unreleased]\n\n## [{version}]\n", encoding="utf-8")
    done = subprocess.run(release, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 2
    assert sorted(path.name for path in (tmp_path / "dist").iterdir()) == [
        f"edgeser-{version}-py3-none-any.whl",
        f"edgeser-{version}.tar.gz",
    ]


def test_every_bound_has_its_reason_beside_it() -> None:
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("dependencies = ["))
    end = lines.index("[project.scripts]")
    for number in range(start, end):
        if re.match(r'^(\w+ = \[)?\s*"[\w-]+[<>=!]', lines[number].strip()):
            assert "#" in lines[number] or lines[number - 1].strip().startswith("#"), lines[number]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_executable_and_says_what_it_does(name: str) -> None:
    path = ROOT / name
    assert os.access(path, os.X_OK)
    text = path.read_text(encoding="utf-8")
    if text.startswith("#!/usr/bin/env bash"):
        assert text.splitlines()[1].startswith("# ")
        assert "\nset -euo pipefail\n" in text
        subprocess.run(["bash", "-n", str(path)], check=True)


def test_the_container_does_what_the_readme_says() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    steps = re.findall(r"^RUN (.*)$", (ROOT / "Containerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert steps
    assert [step for step in steps if step not in readme] == []


def test_an_old_python_is_refused_in_one_line(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2" && exit\nexit 1\n')
    old.chmod(0o755)
    for name in ("bash", "dirname"):
        (tmp_path / name).symlink_to(Path("/bin") / name if (Path("/bin") / name).exists() else Path("/usr/bin") / name)
    program = f"set -euo pipefail; source {ROOT / 'scripts' / 'lib.sh'}; find_python"
    done = subprocess.run(["bash", "-c", program], env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "error: edgeser needs Python 3.11 or newer; python3 here is Python 3.9.2"
    assert done.stderr.splitlines()[1].startswith("hint: ")


def test_skips_are_counted_by_reason(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text(encoding="utf-8"))
    (tmp_path / "test_it.py").write_text(
        "def test_a(corpora_folder): ...\ndef test_b(corpora_folder): ...\ndef test_c(): ...\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "EDGESER_CORPORA"}
    pytest_here = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    done = subprocess.run(pytest_here, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    assert "skipped: 2 (EDGESER_CORPORA is unset (the folder with the public corpora): 2)" in done.stdout
    assert done.stdout.rstrip().splitlines()[-1].startswith("1 passed, 2 skipped")
