"""A distilled set of any representation: which kind a file holds, and its views as a student reads them.

distilled = read_set(data, of_vectors=False)
batch = batch_of(distilled, distilled.items(), indices)
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeser_device.data.distilled import DistilledSet
from edgeser_device.data.vector_set import VectorSet
from edgeser_device.data.views import render

StoredSet: TypeAlias = DistilledSet | VectorSet
"""A distilled set of any representation."""


def read_set(data: bytes, of_vectors: bool) -> StoredSet:
    """The set in a file.

    Raises:
        DistilledSetError: The file is damaged, or of another kind.
    """
    return VectorSet.from_bytes(data) if of_vectors else DistilledSet.from_bytes(data)


def batch_of(distilled: StoredSet, items: NDArray[np.float32], indices: NDArray[np.integer]) -> NDArray[np.float32]:
    """The chosen views in the shape that a student reads, float32 (batch, channels, rows, columns).

    Args:
        distilled: The set.
        items: ``distilled.items()``.
        indices: The chosen views, (batch,).
    """
    return render(items, distilled.recipes, indices).reshape(-1, *distilled.input_shape)


def first_views(distilled: StoredSet, count: int) -> NDArray[np.float32]:
    """The first views of a set, as many as it has, as a student reads them."""
    return batch_of(distilled, distilled.items(), np.arange(min(count, len(distilled.recipes))))


def first_levels(distilled: StoredSet, count: int) -> NDArray[np.float32]:
    """The same views as a model's files read them: log-mels as levels in dB, not normalised; vectors as they are."""
    return distilled.as_heard(first_views(distilled, count))
