"""Words that messages, tables and progress share."""

from __future__ import annotations


def counted(number: int, one: str, many: str = "") -> str:
    """A number and what is counted: "1 item", "1,200 items"; ``many`` is the plural where it is not ``one`` and s."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"
