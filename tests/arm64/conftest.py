"""One ARM system for all tests of this folder, built once; kept where EDGESER_ARM64_ROOT names a folder for it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest
from arm64 import root


@pytest.fixture(scope="session")
def arm64_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Debian 12 for 64-bit ARM with nothing installed by pip; see :mod:`arm64.root`.

    Shared by processes and tests: what a test writes in it goes below ``/tmp`` there, under a name of its own.
    """
    if reason := root.missing():
        pytest.skip(f"an ARM system under qemu: {reason}")
    kept = os.environ.get("EDGESER_ARM64_ROOT")
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    folder = Path(kept) if kept else shared / "arm64-root"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            root.build(folder)
    return folder
