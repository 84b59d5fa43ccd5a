"""Words that messages, tables and progress share."""

from __future__ import annotations


def counted(number: int, one: str) -> str:
    """A number and what is counted: "1 item", "1,200 items"."""
    return f"{number:,} {one}{'s' * (number != 1)}"
