"""Progress: on a terminal a bar, words and the time left; elsewhere nothing."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from edgeser_device.kit.kit import Kit

PROGRAM = """
import time
from edgeser_export.utilities.progress import note, progress_bar
note("beginning")
with progress_bar("distil (mtt)", total=4, done=1) as advance:
    for done in (2, 3, 4):
        time.sleep(0.15)
        advance(done, "loss 0.52, dev UAR 0.61")
"""


def on_a_terminal(*words: str) -> str:
    """What a Python program writes on a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    command = [sys.executable, *(words or ("-c", PROGRAM))]
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
        assert child.stdout.read() == b"" or words
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


def test_a_training_shows_what_it_does(kit: Kit, tmp_path: Path) -> None:
    words = ("train-on-device", str(kit.path), "--out", str(tmp_path / "model"), "--threads", "1")
    shown = on_a_terminal("-m", "edgeser", *words)
    phases = ("checking the kit", "fitting the temperature", "comparing the files")  # those that last
    places = [shown.index(phase) for phase in phases]
    assert places == sorted(places)


def test_what_was_done_before_says_nothing_of_how_fast_it_goes_on() -> None:
    shown = on_a_terminal("-c", PROGRAM.replace("total=4, done=1", "total=1000").replace("(2, 3, 4)", "(901, 902)"))
    assert "0:00:00" not in shown


def test_nothing_is_written_where_stderr_is_no_terminal() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
