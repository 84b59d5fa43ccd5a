"""The user's folder. There is none where a user id has no account and HOME is not set: in a container, in a service."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from edgeser_export.errors import StorageError


def home() -> Path | None:
    """The user's folder, or None where the system knows of none."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def expand(path: Path) -> Path:
    """``path`` with the user's folder in the place of ``~``.

    Raises:
        StorageError: It begins with ``~``, and that user has no folder.
    """
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise StorageError(
            f"{path} begins with the folder of a user who has none", "give the whole path, or set HOME"
        ) from error


def use_temporary_cache() -> None:
    """Name a cache folder in the environment where the user's own cannot be written: libraries fail without one.

    It is below the system's folder for temporary files, is the same at every start, and only this user can write it.

    Raises:
        OSError: No folder for temporary files can be written.
    """
    given, user = os.environ.get("XDG_CACHE_HOME"), home()
    usual = Path(given) if given else user and user / ".cache"
    if usual and usual.is_absolute() and _can_be_written(usual):
        return
    import tempfile  # half a megabyte, which few need

    place = Path(tempfile.gettempdir()) / f"edgeser-{os.getuid()}"
    with suppress(FileExistsError):
        place.mkdir(mode=0o700)
    found = place.lstat()
    own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
    os.environ["XDG_CACHE_HOME"] = str(place) if own else tempfile.mkdtemp(prefix="edgeser-")


def _can_be_written(folder: Path) -> bool:
    """Whether a folder, or the nearest one above it that exists, lets this user write."""
    nearest = next(each for each in (folder, *folder.parents) if os.path.exists(each))  # noqa: PTH110  never raises
    return os.access(nearest, os.W_OK | os.X_OK)
