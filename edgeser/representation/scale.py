"""The scale of vectors: mean and standard deviation of the training part, and the dimensions that are constant there.

scale = scale_of(train)
x = scale.standardised(vectors)      # float32, in standard deviations; 0 where training vectors do not differ
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeser_device.vector_set import Scale

STILL = 1e-6
"""A standard deviation below this share of the mean, or of 1 if that is larger, is rounding: single precision has no
more digits."""


def scale_of(train: NDArray[np.float32]) -> Scale:
    """The scale of training vectors, float32 (items, D); sums are made in double precision."""
    mean, spread = train.mean(0, dtype=np.float64), train.std(0, dtype=np.float64)
    constant = spread < STILL * np.maximum(1.0, np.abs(mean))
    return Scale(mean.astype(np.float32), np.where(constant, 1, spread).astype(np.float32), constant)
