"""Progress: on a terminal a bar, words and the time left; elsewhere nothing."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from typing import Any

import pytest

from edgeser_device.progress import progress_bar

PROGRAM = """
import time
from edgeser_device.progress import note, progress_bar
note("beginning")
with progress_bar("distil (mtt)", total=4, done=1) as advance:
    for done in (2, 3, 4):
        time.sleep(0.15)
        advance(done, "loss 0.52, dev UAR 0.61")
"""


def on_a_terminal() -> str:
    """What the program writes on a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, stderr=theirs, stdout=subprocess.PIPE, env=environment) as child:
        os.close(theirs)
        pieces = []
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # how Linux says that nobody writes any more
                break
            if not piece:
                break
            pieces.append(piece)
        assert child.stdout.read() == b""
    os.close(ours)
    assert child.returncode == 0
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", b"".join(pieces).decode())


def test_a_terminal_sees_the_bar_the_words_and_the_time_left() -> None:
    shown = on_a_terminal()
    assert "beginning" in shown
    assert "distil (mtt)" in shown
    assert "4/4" in shown
    assert "loss 0.52, dev UAR 0.61" in shown
    assert re.search(r"\d:\d\d:\d\d", shown)


def test_nothing_is_written_where_stderr_is_no_terminal() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")


def test_slow_steps_have_a_time_left_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute a step: what rich itself would have forgotten of the last one is still known."""
    import rich.progress

    now = [0.0]
    kept: list[rich.progress.Progress] = []

    class Kept(rich.progress.Progress):
        def __init__(self, *columns: Any, **settings: Any) -> None:
            super().__init__(*columns, **settings, get_time=lambda: now[0])
            kept.append(self)

    monkeypatch.setattr(rich.progress, "Progress", Kept)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress_bar("experts", total=10) as advance:
        for done in (1, 2, 3):
            now[0] += 60
            advance(done, "")
        assert kept[0].tasks[0].time_remaining == pytest.approx(7 * 60, abs=1)
