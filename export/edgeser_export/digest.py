"""SHA-256 from Python's own code: hashlib would load OpenSSL, 4 MB that a board's processes need for nothing else."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hashlib import sha256

PLACES = ("_sha2", "_sha256", "hashlib")
"""Where it is: Python 3.12 and newer, 3.11, and a Python that was built without its own hashes."""


def _find() -> Any:
    for name in PLACES[:-1]:
        try:
            return import_module(name).sha256
        except ImportError:
            continue
    return import_module(PLACES[-1]).sha256


if not TYPE_CHECKING:
    sha256 = _find()

__all__ = ["sha256"]
