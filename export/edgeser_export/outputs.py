"""The one rule on what may be overwritten: what edgeser wrote itself, as the same kind of thing. So no input ever is.

require_output(Path("a.edgeser"), "kit", is_kit)
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from edgeser_export.utilities.errors import EdgeserError, OutputTaken


def require_output(path: Path, noun: str, is_ours: Callable[[Path], bool]) -> None:
    """Check that an output may be written; nothing is.

    Args:
        path: The output's place. A place that is free, or holds an empty file or folder, may be written.
        noun: The output's kind, as in "a kit".
        is_ours: Whether what stands there is such a thing, by its content. An error of reading it is a no.

    Raises:
        OutputTaken: Something else stands there.
    """
    real = Path(os.path.realpath(path))
    if not real.exists() or _is_empty(real):
        return
    try:
        ours = is_ours(real)
    except OutputTaken:
        raise
    except (OSError, ValueError, LookupError, TypeError, EdgeserError):
        ours = False
    if not ours:
        raise OutputTaken(
            f"{path} exists and is no {noun} that edgeser wrote", "choose another name, or remove it yourself"
        )


def _is_empty(path: Path) -> bool:
    return not any(path.iterdir()) if path.is_dir() else path.is_file() and not path.stat().st_size


def holds(path: Path, mark: bytes) -> bool:
    """Whether a file holds ``mark`` in its first or last 64 kB, where formats keep what they say of themselves."""
    with path.open("rb") as file:
        start = file.read(1 << 16)
        file.seek(max(0, path.stat().st_size - (1 << 16)))
        return mark in start or mark in file.read(1 << 16)
