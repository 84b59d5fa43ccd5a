"""What libraries in C write to descriptor 2 past Python, kept from the user.

ALSA remarks on its own configuration files, LiteRT on the delegates that it makes; neither is an error, and programs
that read stderr take it for one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silenced() -> Iterator[None]:
    """Nothing that is written to descriptor 2 in the block is seen; exceptions pass."""
    sys.stderr.flush()
    kept = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)
