"""What all tests share: the corpora's folder, the program as a user starts it, and the count of what was skipped."""

from __future__ import annotations

import os

# Before anything imports numpy or torch: two processes with two threads each on two cores are ten times slower.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# No deadline: a shared machine stalls. CI repeats the same examples, a developer finds new ones.
settings.register_profile("developer", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("developer"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "developer")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background of a shell, and children inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

CORPORA_UNSET = "EDGESER_CORPORA is unset (the folder with the public corpora)"


@pytest.fixture(scope="session")
def corpora_folder() -> Path:
    """The folder that EDGESER_CORPORA names; the test is skipped, and counted, without it."""
    name = os.environ.get("EDGESER_CORPORA")
    if not name:
        pytest.skip(CORPORA_UNSET)
    folder = Path(name)
    if not folder.is_dir():
        pytest.fail(f"EDGESER_CORPORA names {folder}, which is no folder")
    return folder


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Features and encoders are kept in a folder of this session, for this process and for the programs it starts."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGESER_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def tiny_encoder(own_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a tiny random encoder in this session's cache."""
    from tiny_encoder import add_tiny  # lies beside this file, which another test uses alone

    return add_tiny(tmp_path_factory.mktemp("encoder")).name


@pytest.fixture
def run_edgeser(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The installed program, in a folder of its own: ``run_edgeser("inspect", kit, "--json", timeout=60)``.

    Nothing of this process reaches it but the environment, less PYTHONPATH, so that only what was installed is found.
    """

    def run(
        *arguments: object, timeout: float = 300, check: bool = False, cwd: Path = tmp_path, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | environment
        done = subprocess.run(
            [sys.executable, "-m", "edgeser", *map(str, arguments)],
            cwd=cwd,
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if check and done.returncode:
            pytest.fail(
                f"edgeser {' '.join(map(str, arguments))} exited {done.returncode}\n{done.stdout}\n{done.stderr}"
            )
        return done

    return run


@pytest.fixture(scope="session")
def spoken_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was trained on distilled demo speech: weak, but of speech."""
    folder = tmp_path_factory.mktemp("spoken")
    few = ("--views", "16", "--set", "experts.count=1", "--set", "experts.steps=100", "--steps", "100", "--out", "run")
    for words in (
        ("distill", "--corpus", "demo", "--method", "random", "--ipc", "4", "--labels", "bank", *few),
        ("pack", "run", "--target", "rpi4", "--out", "a.edgeser"),
        ("train-on-device", "a.edgeser", "--out", "model", "--threads", "1"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "edgeser", *words, "--json"], cwd=folder, capture_output=True, text=True, timeout=900
        )
        assert done.returncode == 0, done.stderr
    return folder / "model"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests were skipped and why, in one line that a reader of the last screen sees."""
    reasons = Counter(_skip_reason(report) for report in terminalreporter.stats.get("skipped", []))
    if reasons:
        parts = ", ".join(f"{reason}: {count}" for reason, count in reasons.most_common())
        terminalreporter.write_line(f"skipped: {reasons.total()} ({parts})")


def _skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")
