"""What lies behind a UAR: confusion, recall of each speaker and class, and an interval over speakers.

    found = row_details(scores, clips, names)       # of one row, one score a seed
    found["interval"]                               # {"low": 0.47, "high": 0.56}, or None with too few speakers

How good a student is differs more between speakers than between seeds, and test parts have few speakers. So the
interval is over speakers: each is left out once (the jackknife of Efron and Stein 1981, doi:10.1214/aos/1176345462),
and :func:`edgeser.intervals.around` allows for how few they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeser.intervals import FEWEST, Interval, around
from edgeser.scoring import Clips, Score


def row_details(scores: Sequence[Score], clips: Clips, names: Sequence[str]) -> dict[str, Any]:
    """Details of one row.

    Args:
        scores: One a seed, all on ``clips``.
        clips: What was scored, with speakers.
        names: Of the classes.

    Returns:
        ``confusion``: counts over all seeds, a row a true class. ``speakers``: for each the number of its ``clips``,
        its ``uar`` by seed and its mean ``recalls``. ``interval``: 95 %, over speakers, ``low`` and ``high``; or None.
    """
    speakers, numbers = np.unique(clips.speakers, return_inverse=True)
    hits = np.zeros((len(scores), len(speakers), clips.classes))
    totals = np.zeros((len(speakers), clips.classes))
    np.add.at(totals, (numbers, clips.labels), 1)
    for seed, score in enumerate(scores):
        np.add.at(hits[seed], (numbers, clips.labels), score.predicted == clips.labels)
    own = _uar(hits, totals)
    return {
        "confusion": sum(score.confusion for score in scores).tolist(),  # type: ignore[union-attr]
        "speakers": {
            str(speaker): {
                "clips": int(totals[place].sum()),
                "uar": [round(float(value), 6) for value in own[:, place]],
                "recalls": _named(hits[:, place].mean(0), totals[place], names),
            }
            for place, speaker in enumerate(speakers)
        },
        "interval": speaker_interval(hits, totals),
    }


def speaker_interval(hits: NDArray[np.float64], totals: NDArray[np.float64]) -> Interval | None:
    """Interval of 95 % of a mean UAR over speakers.

    Args:
        hits: Clips that were recognised, (seeds, speakers, classes).
        totals: Clips that there are, (speakers, classes).

    Returns:
        ``low`` and ``high`` between 0 and 1, or None with fewer than ``FEWEST`` speakers.
    """
    count = len(totals)
    if count < FEWEST:
        return None
    value = float(_uar(hits.sum(1), totals.sum(0)).mean())
    without = _uar(hits.sum(1, keepdims=True) - hits, totals.sum(0) - totals).mean(0)
    error = float(np.sqrt((count - 1) / count * ((without - without.mean()) ** 2).sum()))
    return around(value, error, count - 1)


def _uar(hits: NDArray[np.float64], totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the classes that occur, (..., classes) to (...)."""
    shares = np.where(totals > 0, hits / np.maximum(totals, 1), 0)
    return np.asarray(shares.sum(-1) / np.maximum((totals > 0).sum(-1), 1))


def _named(hits: NDArray[np.float64], totals: NDArray[np.float64], names: Sequence[str]) -> dict[str, float]:
    return {
        name: round(float(hit / total), 6) for name, hit, total in zip(names, hits, totals, strict=True) if total > 0
    }
