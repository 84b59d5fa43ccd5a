"""Programs of our own that run in a process of their own: they take their memory with them, and their crashes.

    data = run_child(("-m", "edgeser_export.stepwriter"), "writing the training step", given=b"{}")

A child that fails says so in its last line on stderr, {"kind", "message", "hint"}, and by its exit code; see
:func:`tell_parent`. The parent raises the same error.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence

from edgeser_export.errors import EdgeserError, ExportError, rebuild

HINTS: Mapping[str, str] = {
    "SIGKILL": "the machine was probably out of memory: close other programs",
    "SIGILL": "an installed runtime does not suit this processor: see edgeser doctor",
}
SECONDS = 600.0
"""The largest job takes under a minute on the slowest board; beyond this a child is taken to hang."""


def run_child(
    words: Sequence[str],
    what: str,
    given: bytes = b"",
    threads: int | None = None,
    seconds: float = SECONDS,
    python: str = sys.executable,
) -> bytes:
    """Run a Python program to its end and return what it wrote on stdout.

    Args:
        words: What follows ``python -P``: "-m", a module and its arguments, for instance.
        what: What the child does, as a noun: "the export".
        given: The child's stdin.
        threads: The most that numpy's libraries may use in it; None for what this process may.
        seconds: After this long the child is ended.
        python: The interpreter.

    Raises:
        ExportError: The child could not be started, was ended by a signal or by the timeout, or failed in a way that
            it did not expect; or the error that it tells of.
    """
    import subprocess  # half a megabyte, which children do without

    # numpy's threads are fixed when it is loaded; more of them than free cores make some work many times slower.
    limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads)) if threads else {}
    # -P: a folder named onnx where the user stands must not hide the package.
    command = [python, "-P", *words]
    try:
        child = subprocess.run(command, input=given, capture_output=True, timeout=seconds, env=os.environ | limits)
    except subprocess.TimeoutExpired as error:
        raise ExportError(
            f"{what} did not end within {seconds:g} s", "check the load and the free memory of this machine"
        ) from error
    except OSError as error:
        raise ExportError(f"{what} could not be started: {error}", "check the free memory of this machine") from error
    if child.returncode:
        raise child_error(what, child.returncode, child.stderr.decode(errors="replace"))
    return child.stdout


def tell_parent(error: EdgeserError) -> int:
    """Write an error for the parent and return the exit code."""
    line = {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
    sys.stderr.write(json.dumps(line) + "\n")
    return error.exit_code


def child_error(what: str, code: int, stderr: str) -> EdgeserError:
    """The error that a child's last line describes, or one that says how it ended.

    Args:
        what: What the child did, as a noun: "the export".
        code: The exit code as ``subprocess`` has it, negative for a signal.
        stderr: All that the child wrote there.
    """
    last = stderr.strip().splitlines()[-1] if stderr.strip() else ""
    try:
        report = json.loads(last)
        return rebuild(_kinds(EdgeserError).get(report["kind"], ExportError), report["message"], report["hint"])
    except (ValueError, KeyError, TypeError):
        pass
    if code < 0:
        ending = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return ExportError(f"{what} was ended by {ending}", HINTS.get(ending, "see edgeser doctor"))
    return ExportError(f"{what} failed: {last or f'exit code {code}'}", "this is a mistake in edgeser: report it")


def _kinds(root: type[EdgeserError]) -> dict[str, type[EdgeserError]]:
    """Every kind of error that is known in this process, by name."""
    return {root.__name__: root} | {name: kind for each in root.__subclasses__() for name, kind in _kinds(each).items()}
