"""Words that the command line completes, and what it suggests for mistyped verbs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def edgeser(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgeser", *words], env=os.environ | environment, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("edgeser tr", {"train-on-device"}),
        ("edgeser encoder f", {"fetch"}),
        ("edgeser predict --c", {"--csv"}),
    ],
)
def test_bash_completes_verbs_and_options(line: str, wanted: set[str]) -> None:
    asked = {"_EDGESER_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
    done = edgeser(**asked)
    assert set(done.stdout.split()) == wanted
    assert done.stderr == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_is_shown(shell: str) -> None:
    done = edgeser("--show-completion", shell, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert done.returncode == 0
    assert "_EDGESER_COMPLETE" in done.stdout


@pytest.mark.parametrize(
    ("word", "suggestion"),
    [
        ("train", "hint: did you mean edgeser train-on-device?"),
        ("rolback", "Did you mean 'rollback'?"),
        ("distil", "Did you mean 'distill'?"),
        ("xyzzy", "hint: see edgeser --help"),
    ],
)
def test_a_mistyped_verb_is_answered_with_one_that_there_is(word: str, suggestion: str) -> None:
    done = edgeser(word)
    assert done.returncode == 2
    assert suggestion in done.stderr
    assert len(done.stderr.splitlines()) == 2
