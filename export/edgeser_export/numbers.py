"""Numbers in words from outside. Python itself would take nan, 1_000, blanks and digits of any script."""

from __future__ import annotations

import re
from math import isfinite


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
