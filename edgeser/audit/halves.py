"""Which clips a shadow run learns: halves of the training clips, in pairs that complement each other.

half = draw_half(labels, speakers, seed=0, number=3)

A quarter of the speakers is in with every clip, a quarter is out, and of the rest half of the clips of each class are
in: so the same shadows tell of utterances and of speakers. Every clip is in half of the shadows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeser.audit.membership import SPLIT, WHOLE_IN, WHOLE_OUT
from edgeser.errors import AuditError

FEWEST_SPEAKERS = 4
"""One in, one out, and two halves: with fewer speakers no interval over speakers means anything."""


@dataclass(frozen=True)
class Half:
    """The clips of a shadow.

    Attributes:
        chosen: bool (clips,).
        standing: What it has of each speaker, int64 (speakers,), in alphabetical order: see ``membership``.
    """

    chosen: NDArray[np.bool_]
    standing: NDArray[np.int64]


def speaker_numbers(speakers: tuple[str, ...]) -> NDArray[np.int64]:
    """The place of each clip's speaker in alphabetical order, int64 (clips,).

    Raises:
        AuditError: There are too few speakers for an interval over them.
    """
    names, numbers = np.unique(np.array(speakers), return_inverse=True)
    if len(names) < FEWEST_SPEAKERS:
        count = f"{len(names)} training speaker{'s' if len(names) > 1 else ''}"
        raise AuditError(
            f"the run has {count}, too few for an interval: clips of one speaker are alike",
            f"audit a run whose corpus and --split leave at least {FEWEST_SPEAKERS} speakers for training",
        )
    return np.asarray(numbers, dtype=np.int64)


def draw_half(labels: NDArray[np.int64], speakers: NDArray[np.int64], seed: int, number: int) -> Half:
    """The half of shadow ``number``; an odd number has what the even one before it has not.

    Args:
        labels: Class of each clip, (clips,).
        speakers: Speaker of each clip, (clips,), from 0.
        seed: Of the run.
        number: Of the shadow, from 0.
    """
    random = np.random.default_rng([seed, number // 2, 0x4A1F])
    count = int(speakers.max()) + 1
    order = random.permutation(count)
    quarter = max(1, count // 4)
    standing = np.full(count, SPLIT)
    standing[order[:quarter]], standing[order[quarter : 2 * quarter]] = WHOLE_IN, WHOLE_OUT
    chosen = standing[speakers] == WHOLE_IN
    for speaker in np.flatnonzero(standing == SPLIT):
        for label in np.unique(labels[speakers == speaker]):
            own = random.permutation(np.flatnonzero((speakers == speaker) & (labels == label)))
            chosen[own[: (len(own) + int(random.integers(2))) // 2]] = True  # an odd one is in or out by lot
    if number % 2:
        swapped = np.where(standing == WHOLE_IN, WHOLE_OUT, np.where(standing == WHOLE_OUT, WHOLE_IN, SPLIT))
        return Half(~chosen, swapped)
    return Half(chosen, standing)
