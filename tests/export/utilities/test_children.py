"""Child processes: what they tell arrives, their memory is counted, and whatever ends them is one error."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeser_export.utilities.children import process_mb, run_child, tree_peak_mb
from edgeser_export.utilities.errors import ExportError, GraphError

CHILD = """
import sys
from edgeser_export.utilities.children import answer, tell
from edgeser_export.utilities.errors import GraphError

def work():
    what = sys.argv[1]
    if what == "echo":
        tell(phase="reading")
        given = sys.stdin.buffer.read()
        sys.stderr.write("INFO: a runtime says something\\n[1, 2]\\n")
        tell(phase="writing")
        sys.stdout.buffer.write(given[::-1])
    elif what == "grow":
        held = bytearray(int(sys.argv[2]) << 20)
        del held
    elif what == "fail":
        raise GraphError("this does not fit", "make it fit")
    elif what == "crash":
        raise ValueError("a mistake")
    elif what == "die":
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "sleep":
        import time
        time.sleep(60)

sys.exit(answer(work))
"""


@pytest.fixture(autouse=True)
def _program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_child.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def test_what_it_is_given_and_tells_and_answers() -> None:
    told: list[str] = []
    given = bytes(range(256)) * 4096  # more than a pipe holds
    assert run_child(("-m", "a_child", "echo"), "the echo", given, told=told.append) == given[::-1]
    assert told == ["reading", "writing"]


def test_its_memory_is_counted_with_this_processs() -> None:
    assert process_mb("VmRSS") is not None
    run_child(("-m", "a_child", "echo"), "the echo")
    alone = tree_peak_mb()
    run_child(("-m", "a_child", "grow", "300"), "the growth")
    together = tree_peak_mb()
    assert together > 300 + process_mb("VmRSS")
    assert together >= alone
    run_child(("-m", "a_child", "echo"), "the echo")
    assert tree_peak_mb() == pytest.approx(together, abs=5), "the most is kept"


@pytest.mark.parametrize(
    ("what", "kind", "words"),
    [
        ("fail", GraphError, "this does not fit"),
        ("crash", ExportError, "the thing failed: ValueError: a mistake"),
        ("die", ExportError, "the thing was ended by SIGKILL"),
        ("sleep", ExportError, "the thing did not end within 1 s"),
    ],
)
def test_how_it_fails(what: str, kind: type[ExportError], words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        run_child(("-m", "a_child", what), "the thing", seconds=1 if what == "sleep" else 60)
    assert caught.value.hint


def test_what_is_no_program() -> None:
    with pytest.raises(ExportError, match="No module named no_such_module"):
        run_child(("-m", "no_such_module"), "the thing")
