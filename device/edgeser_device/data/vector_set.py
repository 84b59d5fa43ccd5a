"""A distilled set of vectors: its items, the recipes of their views, soft labels, and the training schedule.

    found = VectorSet.from_bytes(path.read_bytes())
    items = found.items()                           # float32 (items, numbers, 1), in standard deviations

It answers as :class:`edgeser_device.data.distilled.DistilledSet` does. An item is stored in steps of its own size: in
whole steps of 8 bits where an encoder made it, and in single precision, with steps of 1, where it is from a file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeser_device.data.distilled import metadata_of
from edgeser_device.data.schedule import Schedule
from edgeser_device.data.views import DTYPES, Recipes
from edgeser_device.errors import DistilledSetError
from edgeser_device.kit.manifest import MOST_CLASSES

LARGEST_LEVEL = 127
"""The largest number of steps of 8 bits."""
LEAST = 1e-30
"""An item whose numbers are all below this is 0: no step of single precision tells them apart."""
STILL = 1e-6
"""A standard deviation below this share of the mean, or of 1 if that is larger, is rounding: single precision has no
more digits."""
_AGAIN = "distil it again with this version of edgeser"
_ARRAYS = ("levels", "step", "classes", "soft_labels", "mean", "spread", "constant")


@dataclass(frozen=True)
class Scale:
    """The mean and the spread by which vectors are standardised.

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


@dataclass(frozen=True)
class VectorSet:
    """Items, views, labels and schedule.

    Attributes:
        levels: The items in steps, int8 or float32 (items, numbers).
        step: Size of a step of each item in standard deviations of the training part, float32 (items,).
        classes: The class that each item was made for, uint8 (items,).
        recipes: The views of the label bank; the plain case is one untouched view an item.
        soft_labels: Probabilities of the classes for each view, float16 (views, classes).
        names: The emotions in the order of the classes.
        schedule: The schedule of a student on the views.
        scale: The scale by which vectors were standardised; items are 0 where the training part is constant.

    Raises:
        DistilledSetError: The parts do not fit together, or hold impossible values.
    """

    levels: NDArray[np.int8] | NDArray[np.float32]
    step: NDArray[np.float32]
    classes: NDArray[np.uint8]
    recipes: Recipes
    soft_labels: NDArray[np.float16]
    names: tuple[str, ...]
    schedule: Schedule
    scale: Scale

    def __post_init__(self) -> None:
        """Check the parts."""
        items, size = self.levels.shape if self.levels.ndim == 2 else (0, 0)
        shapes: dict[str, tuple[NDArray[Any], tuple[int, ...], type]] = {
            "step": (self.step, (items,), np.float32),
            "classes": (self.classes, (items,), np.uint8),
            "soft_labels": (self.soft_labels, (len(self.recipes), len(self.names)), np.float16),
            "mean": (self.scale.mean, (size,), np.float32),
            "spread": (self.scale.spread, (size,), np.float32),
            "constant": (self.scale.constant, (size,), np.bool_),
        }
        for name, (found, shape, dtype) in shapes.items():
            if found.shape != shape or found.dtype != dtype:
                raise DistilledSetError(f"a set of vectors whose {name} are {found.dtype} {found.shape}", _AGAIN)
        if self.levels.dtype not in (np.int8, np.float32) or not items or not size:
            raise DistilledSetError(f"a set of vectors of {self.levels.dtype} {self.levels.shape}", _AGAIN)
        if not 2 <= len(self.names) <= MOST_CLASSES or self.classes.max() >= len(self.names):
            raise DistilledSetError(f"a set of vectors of {len(self.names)} classes", _AGAIN)
        numbers = (self.levels, self.step, self.soft_labels, self.scale.mean, self.scale.spread)
        if not all(np.isfinite(each).all() for each in numbers) or (self.soft_labels < 0).any():
            raise DistilledSetError("a set of vectors with values that are not finite or not probabilities", _AGAIN)
        if (self.step <= 0).any() or (self.scale.spread <= 0).any():
            raise DistilledSetError("a set of vectors with a step or a spread that is not above 0", _AGAIN)

    def __len__(self) -> int:
        return len(self.levels)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape of an item as a student reads it."""
        return self.levels.shape[1], 1, 1

    @property
    def log_mels(self) -> None:
        """Nothing: the items are no log-mels."""

    @property
    def vectors(self) -> VectorSet:
        """This set, for work that is done with vectors only."""
        return self

    @property
    def unit(self) -> tuple[str, float]:
        """The unit in which distances are told to people, and how many of them one standard deviation is."""
        return "standard deviations", 1.0

    def as_heard(self, views: NDArray[np.float32]) -> NDArray[np.float32]:
        """Views as a model's files read them: in standard deviations, as they are."""
        return views

    @property
    def per_class(self) -> int:
        """Items of the smallest class (IPC)."""
        return int(np.bincount(self.classes, minlength=len(self.names)).min())

    def items(self) -> NDArray[np.float32]:
        """The items, float32 (items, numbers, 1): one multiplication each, the same bits everywhere."""
        return in_numbers(self.levels, self.step)[:, :, None]

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

        scale, constant = self.scale, self.scale.constant.astype(np.uint8)
        arrays = (self.levels, self.step, self.classes, self.soft_labels, scale.mean, scale.spread, constant)
        tensors: dict[str, NDArray[np.generic]] = dict(zip(_ARRAYS, arrays, strict=True))
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
            levels, step, classes, soft_labels, mean, spread, constant = (tensors[name] for name in _ARRAYS)
            stored = {name: tensors.get(f"view.{name}") for name in DTYPES}
            names, schedule = tuple(description["names"]), Schedule.from_json(description["schedule"])
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise DistilledSetError(f"not a distilled set of vectors: {error!r}", _AGAIN) from error
        views = len(soft_labels)
        columns = {name: np.zeros(views, DTYPES[name]) if column is None else column for name, column in stored.items()}
        recipes = Recipes.from_columns(columns, items=len(levels))
        scale = Scale(mean, spread, constant.astype(bool))
        return cls(levels, step, classes, recipes, soft_labels, names, schedule, scale)


def in_steps(vectors: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Vectors (items, numbers) in whole steps of 8 bits, and the size of a step of each item, float32 (items,)."""
    step = (np.maximum(np.abs(vectors).max(1), LEAST) / LARGEST_LEVEL).astype(np.float32)
    levels = np.clip(np.rint(vectors / step[:, None]), -LARGEST_LEVEL, LARGEST_LEVEL)
    return levels.astype(np.int8), step


def in_numbers(levels: NDArray[np.int8] | NDArray[np.float32], step: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors of their steps, float32 (items, numbers)."""
    return np.asarray(levels.astype(np.float32) * step[:, None], dtype=np.float32)
