"""A distilled set of vectors: its items, the recipes of their views, soft labels, and the training schedule.

    found = VectorSet.from_bytes(path.read_bytes())
    items = found.items()                           # float32 (items, numbers, 1), in standard deviations

It answers as :class:`edgeser_device.data.distilled.DistilledSet` does. Vectors are stored in single precision.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeser.representation.vector_file import Scale
from edgeser_device.data.distilled import metadata_of
from edgeser_device.data.schedule import Schedule
from edgeser_device.data.views import DTYPES, Recipes
from edgeser_device.errors import DistilledSetError

_AGAIN = "distil it again with this version of edgeser"
_ARRAYS = ("items", "classes", "soft_labels", "mean", "spread", "constant")


@dataclass(frozen=True)
class VectorSet:
    """Items, views, labels and schedule.

    Attributes:
        vectors: Float32 (items, numbers), in standard deviations of the training part.
        classes: The class that each item was made for, uint8 (items,).
        recipes: The views of the label bank; the plain case is one untouched view an item.
        soft_labels: Probabilities of the classes for each view, float16 (views, classes).
        names: The emotions in the order of the classes.
        schedule: How a student is trained on the views.
        scale: How vectors were standardised; items are 0 where the training part is constant.
    """

    vectors: NDArray[np.float32]
    classes: NDArray[np.uint8]
    recipes: Recipes
    soft_labels: NDArray[np.float16]
    names: tuple[str, ...]
    schedule: Schedule
    scale: Scale

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def per_class(self) -> int:
        """Items of the smallest class (IPC)."""
        return int(np.bincount(self.classes, minlength=len(self.names)).min())

    def items(self) -> NDArray[np.float32]:
        """The items, float32 (items, numbers, 1)."""
        return self.vectors[:, :, None]

    def item_classes(self) -> NDArray[np.uint8]:
        """The class of each of :meth:`items`, uint8 (items,)."""
        return self.classes

    def labels_of(self, indices: NDArray[np.integer]) -> NDArray[np.float32]:
        """Soft labels of the chosen views, float32 (batch, classes)."""
        chosen: NDArray[np.float16] = self.soft_labels[indices]
        return chosen.astype(np.float32)

    def to_bytes(self) -> bytes:
        """The set as one safetensors file, the same bytes for the same set; what no recipe uses is left out."""
        from safetensors.numpy import save

        scale = self.scale
        arrays = (
            self.vectors,
            self.classes,
            self.soft_labels,
            scale.mean,
            scale.spread,
            scale.constant.astype(np.uint8),
        )
        tensors = dict(zip(_ARRAYS, arrays, strict=True))
        views = self.recipes.columns()
        tensors |= {f"view.{name}": column for name, column in views.items() if name == "item" or column.any()}
        description = {"names": list(self.names), "schedule": self.schedule.to_json()}
        contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
        return save(contiguous, metadata={"edgeser": json.dumps(description, sort_keys=True)})

    @classmethod
    def from_bytes(cls, data: bytes) -> VectorSet:
        """The inverse of :meth:`to_bytes`.

        Raises:
            DistilledSetError: The file is damaged, holds something else, or is of an earlier version.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            tensors = load(data)
            description = json.loads(metadata_of(data)["edgeser"])
            vectors, classes, soft_labels, mean, spread, constant = (tensors[name] for name in _ARRAYS)
            stored = {name: tensors.get(f"view.{name}") for name in DTYPES}
            names, schedule = tuple(description["names"]), Schedule.from_json(description["schedule"])
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise DistilledSetError(f"not a distilled set of vectors: {error!r}", _AGAIN) from error
        views = len(soft_labels)
        columns = {name: np.zeros(views, DTYPES[name]) if column is None else column for name, column in stored.items()}
        recipes = Recipes.from_columns(columns, items=len(vectors))
        return cls(vectors, classes, recipes, soft_labels, names, schedule, Scale(mean, spread, constant.astype(bool)))
