"""Pure jobs side by side: local processes, or a Ray cluster through joblib's backend.

    workers = Workers(jobs=2)                       # processes on this machine
    workers = Workers(jobs=16, backend="ray")       # the cluster that RAY_ADDRESS names, else one on this machine
    for result in workers.each(function, [(1, "a"), (2, "b")]):
        ...

Every worker computes with one thread, so that a result does not depend on how many run beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeVar

from edgeser.allocator import keep_freed_memory
from edgeser.errors import MissingExtra, SettingsError, WorkerError
from edgeser_device.machine import available_cores
from edgeser_export.errors import choice_hint

Result = TypeVar("Result")


def _local() -> dict[str, Any]:
    # Large arrays are mapped into the workers; "c" lets torch take them, which wants arrays that can be written to.
    return {"return_as": "generator", "mmap_mode": "c"}


def _ray() -> dict[str, Any]:
    import_module("ray.util.joblib").register_ray()  # ray has types only where it is installed
    # It has no generators: the results come together. Workers that claim a core each spread over the nodes.
    return {"backend": "ray", "ray_remote_args": {"num_cpus": 1}}


BACKENDS: Mapping[str, Callable[[], dict[str, Any]]] = {"local": _local, "ray": _ray}
"""Where jobs run, processes on this machine or a Ray cluster, and what joblib is told then."""


@dataclass(frozen=True)
class Workers:
    """How many processes, and where.

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

    @classmethod
    def all_cores(cls, backend: str = "local") -> Workers:
        """One process for each core that this process may use."""
        return cls(available_cores(), backend)

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
            yield from Parallel(n_jobs=min(self.jobs, len(arguments)), **options)(calls)
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
