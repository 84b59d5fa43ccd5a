"""The program itself, before any verb: as it is installed, and as a module."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

PROGRAMS = ([str(Path(sys.executable).with_name("edgeser"))], [sys.executable, "-m", "edgeser"])


@pytest.mark.parametrize("program", PROGRAMS, ids=["installed", "module"])
@pytest.mark.parametrize("words", [["--version"], ["--debug", "--version"], ["--version", "distill"]], ids=" ".join)
def test_the_version_is_printed_and_nothing_else(program: list[str], words: list[str]) -> None:
    done = subprocess.run([*program, *words], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{version('edgeser')}\n", "")


def test_without_words_there_is_help() -> None:
    done = subprocess.run(PROGRAMS[1], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "Usage: edgeser" in done.stdout
    assert "Traceback" not in done.stderr


def test_an_option_alone_is_no_command() -> None:
    done = subprocess.run([*PROGRAMS[1], "--debug"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
