"""Pure jobs side by side: local processes, or a Ray cluster through joblib's backend.

    workers = Workers(jobs=2)                       # processes on this machine
    workers = Workers(jobs=16, backend="ray")       # the cluster that RAY_ADDRESS names, else one on this machine
    for result in workers.each(function, [(1, "a"), (2, "b")]):
        ...

Every worker computes with one thread, so that a result does not depend on how many run beside it.
"""

from __future__ import annotations

import ctypes
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeVar

from edgeser.errors import SettingsError, WorkerError
from edgeser_device.machine import family_peak_rss_mb
from edgeser_export.utilities.errors import MissingExtra, choice_hint

Result = TypeVar("Result")
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD in glibc's malloc.h."""
LARGEST_BLOCK = 32 * 2**20
"""Bytes; the largest threshold that glibc takes. Larger blocks still go back at once."""
KEPT = 512 * 2**20
"""Bytes of free memory at the end of the heap that a process keeps at most."""


def keep_freed_memory() -> bool:
    """Tell the C library to keep what is freed; False where it has no such switch."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(MMAP_THRESHOLD, LARGEST_BLOCK)) and bool(mallopt(TRIM_THRESHOLD, KEPT))


def _local() -> dict[str, Any]:
    # Large arrays are mapped into the workers; "c" lets torch take them, which wants arrays that can be written to.
    return {"return_as": "generator", "mmap_mode": "c"}


def _ray() -> dict[str, Any]:
    import_module("ray.util.joblib").register_ray()  # ray has types only where it is installed
    # It has no generators: the results come together. Workers that claim a core each spread over the nodes.
    return {"backend": "ray", "ray_remote_args": {"num_cpus": 1}}


BACKENDS: Mapping[str, Callable[[], dict[str, Any]]] = {"local": _local, "ray": _ray}
"""The places where jobs run, processes on this machine or a Ray cluster, each with the options that joblib gets."""


@dataclass(frozen=True)
class Workers:
    """A number of processes, and the place where they run.

    Attributes:
        jobs: Processes at once, at least 1; 1 computes in this process.
        backend: A name in ``BACKENDS``.

    Raises:
        SettingsError: There is no such backend.
        MissingExtra: Ray is asked for and not installed.
    """

    jobs: int = 1
    backend: str = "local"

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise SettingsError(f"there is no backend {self.backend!r}", choice_hint(self.backend, BACKENDS))
        if self.backend == "ray" and find_spec("ray") is None:
            raise MissingExtra("ray", "ray")

    def each(self, function: Callable[..., Result], arguments: Sequence[tuple[Any, ...]]) -> Iterator[Result]:
        """Results of ``function(*arguments)`` in the order of ``arguments``, as soon as those before it are done.

        Raises:
            WorkerError: A worker process died, most often for want of memory.
        """
        if self.jobs == 1 or len(arguments) < 2:
            for each in arguments:
                yield _alone(function, each)
            return
        from joblib import Parallel, delayed
        from joblib.externals.loky.process_executor import TerminatedWorkerError

        calls = (delayed(_alone)(function, each) for each in arguments)
        options = BACKENDS[self.backend]()
        try:
            with _deaf_workers():
                results = Parallel(n_jobs=min(self.jobs, len(arguments)), **options)(calls)
            yield from results
        except TerminatedWorkerError as error:
            raise WorkerError(
                "a worker process died, most likely because the memory was full",
                "use --jobs 1, a smaller --width or fewer items; what was finished is kept, so add --resume",
            ) from error

    def release(self) -> None:
        """End the local processes, which otherwise keep their memory for minutes; the next job starts new ones."""
        if self.jobs > 1 and self.backend == "local":
            from joblib.externals.loky import get_reusable_executor

            get_reusable_executor(reuse=True).shutdown(wait=True)


@contextmanager
def _deaf_workers() -> Iterator[None]:
    """Let the processes that begin in this short block ignore Ctrl-C; this one ignores it for as long.

    A terminal sends it to the workers, too, which would print tracebacks; the process that began them ends them.
    """
    if threading.current_thread() is not threading.main_thread():  # other threads may not set handlers
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread in the block: sums end in the same bits everywhere, and busy cores cannot stall it."""
    import torch

    keep_freed_memory()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _alone(function: Callable[..., Result], arguments: tuple[Any, ...]) -> Result:
    with one_thread():
        return function(*arguments)


class Stopwatch:
    """Seconds by phase and memory; a phase may be entered again, and inside another one, which then stands still."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.peak_rss_mb: float | None = None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the block as a part of the phase ``name``."""
        begun, inner = time.monotonic(), sum(self.seconds.values())
        try:
            yield
        finally:
            inner = sum(self.seconds.values()) - inner
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - begun - inner
            self.peak_rss_mb = max(family_peak_rss_mb() or 0.0, self.peak_rss_mb or 0.0) or None

    def summary(self) -> dict[str, Any]:
        """Plain JSON values.

        Returns:
            ``seconds`` by phase, ``total_seconds``, and ``peak_rss_mb``: the most memory that this process and those
            that it had started held at the end of a phase, each at its most. It is None where the system does not tell.
        """
        return {
            "seconds": {name: round(value, 2) for name, value in self.seconds.items()},
            "total_seconds": round(sum(self.seconds.values()), 2),
            "peak_rss_mb": self.peak_rss_mb,
        }
