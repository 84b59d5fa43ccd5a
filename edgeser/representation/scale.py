"""The scale of vectors: mean and standard deviation of the training part, and the dimensions that are constant there.

scale = scale_of(train)
x = scale.standardised(vectors)      # float32, in standard deviations; 0 where training vectors do not differ
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STILL = 1e-6
"""A standard deviation below this share of the mean, or of 1 if that is larger, is rounding: single precision has no
more digits."""


@dataclass(frozen=True)
class Scale:
    """How vectors are standardised.

    Attributes:
        mean: Mean of the training part, float32 (D,).
        spread: Standard deviations of the training part, float32 (D,); 1 where it is constant.
        constant: Dimensions in which the training part is constant, bool (D,): nothing can be learnt there, and a
            difference has no unit.
    """

    mean: NDArray[np.float32]
    spread: NDArray[np.float32]
    constant: NDArray[np.bool_]

    def standardised(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors (items, D) in standard deviations, float32; infinite where one is too far from the training part."""
        with np.errstate(over="ignore"):  # the caller says what single precision does not hold
            found = ((x.astype(np.float64) - self.mean) / self.spread).astype(np.float32)
        found[:, self.constant] = 0
        return found


def scale_of(train: NDArray[np.float32]) -> Scale:
    """The scale of training vectors, float32 (items, D); sums are made in double precision."""
    mean, spread = train.mean(0, dtype=np.float64), train.std(0, dtype=np.float64)
    constant = spread < STILL * np.maximum(1.0, np.abs(mean))
    return Scale(mean.astype(np.float32), np.where(constant, 1, spread).astype(np.float32), constant)
