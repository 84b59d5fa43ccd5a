"""Pure jobs side by side: local processes, or a Ray cluster through joblib's backend.

    workers = Workers(jobs=2)
    for result in workers.each(function, [(1, "a"), (2, "b")]):
        ...

Every worker computes with one thread, so that a result does not depend on how many run beside it.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True)
class Workers:
    """How many processes.

    Attributes:
        jobs: Processes at once, at least 1; 1 computes in this process.
    """

    jobs: int = 1

    @classmethod
    def all_cores(cls) -> Workers:
        """One process for each core that this process may use."""
        return cls(
            jobs=max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
        )

    def each(self, function: Callable[..., Result], arguments: Sequence[tuple[Any, ...]]) -> Iterator[Result]:
        """Results of ``function(*arguments)`` in the order of ``arguments``, as soon as those before it are done."""
        if not arguments:
            return
        if self.jobs == 1 or len(arguments) == 1:
            for each in arguments:
                yield _alone(function, each)
            return
        from joblib import Parallel, delayed

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given")
            yield from Parallel(n_jobs=min(self.jobs, len(arguments)), return_as="generator", mmap_mode="c")(
                delayed(_alone)(function, each) for each in arguments
            )


def _alone(function: Callable[..., Result], arguments: tuple[Any, ...]) -> Result:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return function(*arguments)
    finally:
        torch.set_num_threads(before)
