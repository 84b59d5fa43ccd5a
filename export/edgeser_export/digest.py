"""SHA-256 from Python's own code: hashlib would load OpenSSL, 4 MB that a board's processes need for nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import sha256
else:
    try:
        from _sha2 import sha256  # Python 3.12 and newer
    except ImportError:
        try:
            from _sha256 import sha256
        except ImportError:  # built without its own hashes
            from hashlib import sha256

__all__ = ["sha256"]
