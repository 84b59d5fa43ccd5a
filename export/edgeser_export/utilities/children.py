"""Programs of our own that run in a process of their own: they take their memory with them, and their crashes.

    found = run_child(("-m", "edgeser_export.trainstep.step_writer"), "writing the step", given=b"{}")      # the parent
    sys.exit(answer(work))                                                                                  # the child

A child tells what it does on stderr, a JSON object a line: {"phase"}; at its end {"peak_rss_mb"}; and last, where it
fails, {"kind", "message", "hint"}: the parent raises the same error. Other lines there are the runtimes'.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any, TypeAlias

from edgeser_export.utilities.errors import EdgeserError, ExportError, rebuild


@contextmanager
def silenced() -> Iterator[None]:
    """Nothing that is written to descriptor 2 in the block is seen; exceptions pass."""
    sys.stderr.flush()
    kept = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


Told: TypeAlias = Callable[[str], object]
"""Called with what a child does now, in a few words."""


def ignore_phase(words: str) -> None:
    """A ``Told`` that does nothing."""


HINTS: Mapping[str, str] = {
    "SIGKILL": "the machine was probably out of memory: close other programs",
    "SIGILL": "an installed runtime does not suit this processor: see edgeser doctor",
}
SECONDS = 600.0
"""The largest job takes under a minute on the slowest board; beyond this a child is taken to hang."""
_together_mb = [0.0]
"""Memory in MB that this process and a child held together, for each child that has ended."""


def run_child(
    words: Sequence[str],
    what: str,
    given: bytes = b"",
    threads: int | None = None,
    seconds: float = SECONDS,
    python: str = sys.executable,
    told: Told = ignore_phase,
) -> bytes:
    """Run a Python program to its end and return what it wrote on stdout.

    Args:
        words: The arguments after ``python -P``: "-m", a module and its arguments, for instance.
        what: The child's work as a noun: "the export".
        given: The child's stdin.
        threads: The most that numpy's libraries may use in it; None for what this process may.
        seconds: After this long the child is ended.
        python: The interpreter.
        told: It is called with what the child does.

    Raises:
        ExportError: The child could not be started, was ended by a signal or by the timeout, or failed in a way that
            it did not expect; or the error that it tells of.
    """
    import subprocess  # half a megabyte, which children do without

    # numpy's threads are fixed when it is loaded; more of them than free cores make some work many times slower.
    limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads)) if threads else {}
    # -P: a folder named onnx where the user stands must not hide the package.
    command = [python, "-P", *words]
    reading, writing = os.pipe()
    lines: list[str] = []
    listener = Thread(target=_listen, args=(reading, lines, told))
    listener.start()
    try:
        with os.fdopen(writing, "wb") as stderr:
            child = subprocess.run(
                command, input=given, stdout=subprocess.PIPE, stderr=stderr, timeout=seconds, env=os.environ | limits
            )
    except subprocess.TimeoutExpired as error:
        raise ExportError(
            f"{what} did not end within {seconds:g} s", "check the load and the free memory of this machine"
        ) from error
    except OSError as error:
        raise ExportError(f"{what} could not be started: {error}", "check the free memory of this machine") from error
    finally:
        listener.join()
    if child.returncode:
        raise child_error(what, child.returncode, "\n".join(lines))
    return child.stdout


def _listen(reading: int, lines: list[str], told: Told) -> None:
    with os.fdopen(reading, encoding="utf-8", errors="replace") as stream:
        for line in stream:
            lines.append(line)
            try:
                said = json.loads(line)
                if "phase" in said:
                    told(said["phase"])
                elif "peak_rss_mb" in said:
                    _together_mb.append((process_mb("VmRSS") or 0) + said["peak_rss_mb"])
            except (ValueError, TypeError):
                continue


def answer(work: Callable[[], object]) -> int:
    """The child's side: do the work, tell how it ended, and return the exit code."""
    error = None
    try:
        work()
    except EdgeserError as found:
        error = found
    if (peak := process_mb("VmHWM")) is not None:
        tell(peak_rss_mb=peak)
    if error is None:
        return 0
    tell(kind=type(error).__name__, message=error.message, hint=error.hint)
    return error.exit_code


def tell(**said: Any) -> None:
    """Say something to the parent, in one line."""
    sys.stderr.write(json.dumps(said) + "\n")
    sys.stderr.flush()


def process_mb(field: str) -> float | None:
    """Memory of this process in MB by a field of /proc/self/status: VmHWM is the most it held, VmRSS what it holds."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key == field:
                return round(int(value.split()[0]) / 1024, 1)
    except OSError:
        pass
    return None


def tree_peak_mb() -> float | None:
    """The most memory in MB that this process held, alone or together with a child that :func:`run_child` ran.

    Read from VmHWM: what ``getrusage`` says of a child starts at its parent's peak. Pages that both share count twice.
    """
    own = process_mb("VmHWM")
    return None if own is None else round(max(own, *_together_mb), 1)


def child_error(what: str, code: int, stderr: str) -> EdgeserError:
    """The error that a child's last line describes, or one that says how it ended.

    Args:
        what: The child's work as a noun: "the export".
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
