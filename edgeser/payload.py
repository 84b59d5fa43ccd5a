"""What storing the items as bytes and the labels in 16 bits costs, where ``benchmarks/payload.py`` measured it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = "payload.json"
"""Stands in a run beside metrics.json."""
KEYS = ("uar_float", "uar_stored", "uar_difference", "agreement", "seeds", "bytes_float", "bytes_stored", "machine")


def read_cost(run: Path) -> Mapping[str, Any] | None:
    """What was measured for a run; None where nothing was."""
    try:
        stored = json.loads((run / FILE).read_bytes())
        return {key: stored[key] for key in KEYS}
    except (OSError, ValueError, KeyError, TypeError):
        return None
