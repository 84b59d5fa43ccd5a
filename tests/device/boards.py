"""A board on this machine: an environment in which ``install.sh`` finds all packages here instead of on an index."""

from __future__ import annotations

import os
import site
import subprocess
import sys
from pathlib import Path

from edgeser.packaging.wheels import own_wheel

SCRIPT = Path(__file__).resolve().parents[2] / "device" / "edgeser_device" / "install.sh"


def make_wheel(folder: Path) -> Path:
    """edgeser's own wheel for boards."""
    name, data = own_wheel()
    path = folder / name
    path.write_bytes(data)
    return path


def environment(home: Path, wheel: Path | None) -> dict[str, str]:
    """Variables with which ``install.sh`` makes a virtual environment in seconds, without a network.

    edgeser itself is installed from its wheel; what it needs is found in this process's own environment.
    """
    programs = home / "bin"
    programs.mkdir(parents=True, exist_ok=True)
    python = programs / "python3"
    if not python.exists():
        python.symlink_to(Path(sys._base_executable))  # type: ignore[attr-defined]
    packages = home / "packages"  # all that is installed here but edgeser itself
    if not packages.exists():
        packages.mkdir()
        for place in map(Path, site.getsitepackages()):
            for path in place.iterdir():
                if "edgeser" not in path.name and not (packages / path.name).exists():
                    (packages / path.name).symlink_to(path)
    variables = {
        "PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(packages),
        "PIP_NO_DEPS": "1",
        "PIP_NO_INDEX": "1",
        "PIP_CONFIG_FILE": os.devnull,
    }
    return variables | ({"EDGESER_PACKAGE": str(wheel)} if wheel else {})


def install(home: Path, wheel: Path | None, *words: object, **more: str) -> subprocess.CompletedProcess[str]:
    """Run ``install.sh`` to its end."""
    return subprocess.run(
        ["sh", str(SCRIPT), *map(str, words)],
        cwd=home,
        env=environment(home, wheel) | more,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=1800,
    )
