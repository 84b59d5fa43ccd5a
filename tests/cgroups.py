"""Memory limits that the kernel keeps: a program and all that it starts in a control group of its own.

    if (reason := missing()) is None:
        found = run_limited(["edgeser", "train-on-device", ...], megabytes=128)
        found.done.returncode, found.peak_mb, found.killed

Memory and swap are limited together, for version 1 and version 2 of control groups; both need the right to make one.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
ENTER = 'echo $$ >"$0/cgroup.procs" && exec "$@"'


@dataclass(frozen=True)
class Version:
    """Where a version of control groups keeps what is needed here.

    Attributes:
        base: The group below which new ones are made.
        limits: Files that take a number of bytes and the share of the limit that goes there.
        peak: The file with the most bytes that were held; younger kernels only in version 2.
        events: The file that counts the programs killed for memory.
    """

    base: Path
    limits: tuple[tuple[str, int], ...]
    peak: str
    events: str


@dataclass(frozen=True)
class Limited:
    """How a program ended.

    Attributes:
        done: The program.
        peak_mb: The most memory that it and its children held together, cached files included; None where unknown.
        killed: How many of them the kernel ended for want of memory.
    """

    done: subprocess.CompletedProcess[str]
    peak_mb: int | None
    killed: int


def missing() -> str | None:
    """Why no group can be made here, for a skip; None where one can."""
    try:
        with group(64):
            return None
    except OSError as error:
        return f"control groups cannot be written ({error.strerror or error})"


def run_limited(words: Sequence[str], megabytes: int, cwd: Path, timeout: float = 900) -> Limited:
    """Run a program whose memory and swap together are limited."""
    with group(megabytes) as (version, folder):
        command = ["sh", "-c", ENTER, str(folder), *words]
        done = subprocess.run(
            command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
        )
        peak = folder / version.peak
        return Limited(done, int(peak.read_text()) >> 20 if peak.exists() else None, _killed(folder / version.events))


@contextmanager
def group(megabytes: int) -> Iterator[tuple[Version, Path]]:
    """A new, empty group with a limit; removed at the end."""
    version = _version()
    folder = version.base / f"edgeser-{os.getpid()}-{time.monotonic_ns()}"
    folder.mkdir()
    try:
        for name, share in version.limits:
            (folder / name).write_text(str(share * (megabytes << 20)))
        yield version, folder
    finally:
        _remove(folder)


def _version() -> Version:
    """The version in use for memory; OSError where it lets nobody make groups."""
    own = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    first = MOUNT / "memory"
    if (first / "memory.limit_in_bytes").exists():
        inner = first / own.get("memory", "/").lstrip("/")
        limits = (("memory.limit_in_bytes", 1), ("memory.memsw.limit_in_bytes", 1))
        base = inner if inner.is_dir() else first  # a container may see its own group as the root
        return Version(base, limits, "memory.max_usage_in_bytes", "memory.oom_control")
    base = MOUNT / own.get("", "/").lstrip("/")
    if "memory" not in (base / "cgroup.subtree_control").read_text().split():
        (base / "cgroup.subtree_control").write_text("+memory")
    limits = (("memory.max", 1), ("memory.swap.max", 0))
    return Version(base, limits, "memory.peak", "memory.events")


def _killed(events: Path) -> int:
    counts = dict(line.split() for line in events.read_text().splitlines())
    return int(counts["oom_kill"])


def _remove(folder: Path) -> None:
    for _ in range(100):  # a process that was just killed may still be in it
        with suppress(OSError):
            folder.rmdir()
            return
        time.sleep(0.05)
    folder.rmdir()
