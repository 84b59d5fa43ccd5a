"""The one rule for text from outside: labels, names of speakers, titles, and what else a kit or a model carries.

    tidy(text)                                     # composed letters, one space between words
    require_label(text, "mine.csv, line 3")        # what a kit can carry, a folder can be named and --map can say

A corpus asks when text enters, and a board asks the same functions when it reads a kit.
"""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from contextlib import suppress
from math import isfinite
from pathlib import Path
from typing import Any

from edgeser_export.utilities.errors import StorageError, TextError

MOST_TEXT, MOST_WORDS, MOST_LABEL = 20_000, 4_000, 48
"""Characters of a text in a kit, which may hold several from outside; of one from outside; and of a label, which names
folders: their names end at 255 bytes."""
JOINERS = "\u200c\u200d"
"""Invisible characters that some scripts and emoji need; all other invisible ones are refused."""
SIGNS = "/\\=#"
"""Signs that a label cannot hold: folders, ``--map OURS=THEIRS`` and comments in tables are written with them."""


def tidy(text: str) -> str:
    """Return the text with composed letters (NFC) and with one plain space for every gap, none at the ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def spelling(text: str) -> str:
    """Return what two spellings of one name have in common: case, width, gaps, hyphens and leading zeros do not count.

    >>> spelling("Anna_01") == spelling("anna 1")
    True
    """
    folded = unicodedata.normalize("NFKC", tidy(text)).casefold().translate(dict.fromkeys(map(ord, JOINERS)))
    parted = re.sub(r"[\s_-]+", " ", folded)
    return re.sub(r"(?<!\d) | (?!\d)", "", re.sub(r"(?<![\d.])0+(?=\d)", "", parted))


def is_text(value: Any) -> bool:
    """Tell whether a value is text that can be printed: nothing moves a terminal's cursor or changes its colours."""
    return isinstance(value, str) and len(value) <= MOST_TEXT and not fault_of(re.sub(r"[\n\t]", "", value), MOST_TEXT)


def is_label(value: Any) -> bool:
    """Tell whether a value is a label as :func:`require_label` returns it."""
    return isinstance(value, str) and value == tidy(value) and not label_fault_of(value)


def fault_of(text: str, most: int = MOST_WORDS) -> str:
    """Return in words why a kit cannot carry this text of at most so many characters; empty where it can."""
    odd = next((sign for sign in text if not sign.isprintable() and sign not in JOINERS), None)
    if odd is not None:
        if "\ud800" <= odd <= "\udfff":
            return "is not UTF-8"
        return f"holds the character U+{ord(odd):04X} ({unicodedata.name(odd, 'without a name')})"
    return f"has {len(text)} characters, more than {most}" if len(text) > most else ""


def label_fault_of(text: str) -> str:
    """Return in words why a tidy text is no label; empty where it is one."""
    if not text:
        return "is empty"
    if fault := fault_of(text, MOST_LABEL) or fault_of(tidy(text.lower()), MOST_LABEL):
        return fault
    if found := [sign for sign in SIGNS if sign in text]:
        return f"holds the sign {found[0]}"
    if unicodedata.category(text[0])[0] not in "LN" and unicodedata.category(text[0]) != "So":
        return "does not begin with a letter or a digit"
    return ""


def require_text(text: str, where: str) -> str:
    """Return the text, tidy.

    Raises:
        TextError: A kit cannot carry it.
    """
    plain = tidy(text)
    if fault := fault_of(plain):
        raise TextError(f"{where}: {_shown(plain)} {fault}", "write it in UTF-8, in letters, digits and visible signs")
    return plain


def require_label(text: str, where: str) -> str:
    """Return the label, tidy.

    Raises:
        TextError: It is empty, or no kit could carry it, or no folder could be named after it.
    """
    plain = tidy(text)
    if fault := label_fault_of(plain):
        rule = f"begin it with a letter, and use at most {MOST_LABEL} letters, digits and visible signs"
        raise TextError(f"{where}: the label {_shown(plain)} {fault}", f"{rule}, but none of {' '.join(SIGNS)}")
    return plain


def require_path(path: Path) -> Path:
    """Return the path.

    Raises:
        TextError: Its name is not UTF-8, so that no file of JSON could hold it.
    """
    if not is_path(path):
        raise TextError(f"the name of {_shown(str(path))} is not UTF-8", "rename it, for example with convmv")
    return path


def is_path(path: Path) -> bool:
    """Tell whether the name of a file or folder is UTF-8."""
    return not any("\ud800" <= sign <= "\udfff" for sign in str(path))


def _shown(text: str) -> str:
    return repr(text if len(text) <= MOST_LABEL else f"{text[:MOST_LABEL]}...")


def read_number(text: str) -> float:
    """A finite number such as 0.5 or -2e-3.

    Raises:
        ValueError: It is none.
    """
    if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text) or not isfinite(float(text)):
        raise ValueError(f"{text!r} is no number such as 0.5 or 2e-3")
    return float(text)


def read_whole(text: str) -> int:
    """A whole number of at most 18 digits.

    Raises:
        ValueError: It is none.
    """
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise ValueError(f"{text!r} is no whole number")
    return int(text)


def home() -> Path | None:
    """The user's folder, or None where the system knows of none."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def cache_folder() -> Path | None:
    """The folder of features and encoders: EDGESER_CACHE, else the user's cache folder; None without such a user."""
    given, shared, own = os.environ.get("EDGESER_CACHE"), os.environ.get("XDG_CACHE_HOME"), home()
    if given:
        return Path(given)
    return Path(shared) / "edgeser" if shared else own and own / ".cache" / "edgeser"


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
