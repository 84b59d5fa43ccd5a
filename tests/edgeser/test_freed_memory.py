"""The allocator: blocks that are freed and asked for again cost no page faults."""

from __future__ import annotations

import subprocess
import sys

import pytest

COUNT = """
import resource, sys
import numpy as np
if sys.argv[1] == "keep":
    from edgeser.workers import keep_freed_memory
    assert keep_freed_memory()
def step():
    return sum(float(block[0]) for block in [np.ones(2**20, np.float32) for _ in range(20)])
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
"""Ten steps with twenty blocks of 4 MB, a thousand pages each."""


def faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", COUNT, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's switch")
def test_freed_blocks_are_kept() -> None:
    assert faults("keep") < faults("give back") / 10
