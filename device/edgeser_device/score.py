"""Unweighted average recall (UAR), the mean of the classes' recalls: a frequent emotion counts like a rare one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def recalls(truth: Sequence[str], guesses: Sequence[str]) -> Mapping[str, float]:
    """Recall of each emotion that occurs in ``truth``, 0 to 1, in alphabetical order."""
    found = {}
    for emotion in sorted(set(truth)):
        own = [guess for true, guess in zip(truth, guesses, strict=True) if true == emotion]
        found[emotion] = own.count(emotion) / len(own)
    return found


def unweighted_average_recall(truth: Sequence[str], guesses: Sequence[str]) -> float:
    """UAR over the emotions that occur in ``truth``, which must not be empty."""
    each = recalls(truth, guesses)
    return sum(each.values()) / len(each)
