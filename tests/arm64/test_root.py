"""The ARM system itself: its own programs run, see each other, and have no network."""

from __future__ import annotations

from pathlib import Path

import pytest
from arm64.root import install, run

pytestmark = [pytest.mark.slow, pytest.mark.system]

PROGRAM = """
import os, platform, socket, subprocess, sys
print(platform.machine(), "%d.%d" % sys.version_info[:2], os.listdir("/sys"))
child = [sys.executable, "-c", "import platform; print(platform.machine())"]
print(subprocess.run(child, capture_output=True, text=True).stdout.strip())
try:
    socket.create_connection(("127.0.0.1", 9), timeout=5)
except OSError as error:
    print("no network:", error.strerror)
"""


def test_its_programs_run_and_start_others(arm64_root: Path) -> None:
    said = run(arm64_root, "python3", "-c", PROGRAM).stdout.splitlines()
    assert said == ["aarch64 3.11 []", "aarch64", "no network: Network is unreachable"]


def test_wheels_for_the_board_are_installed_from_here(arm64_root: Path, tmp_path: Path) -> None:
    (tmp_path / "seen.txt").write_text("from outside")
    install(arm64_root, ["numpy"], site="opt/alone")  # another process may fill the common place at the same time
    program = "import numpy; print(int(numpy.arange(4).sum()), open('/mnt/here/seen.txt').read())"
    words = ("python3", "-c", program)
    said = run(arm64_root, *words, binds={tmp_path: "/mnt/here"}, PYTHONPATH="/opt/alone").stdout
    assert said.splitlines()[0] == "6 from outside"
