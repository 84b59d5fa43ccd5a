"""The distilled set: a few log-mels as bytes, the recipes of their views, soft labels, and the training schedule.

    distilled = DistilledSet.from_bytes(path.read_bytes())
    items = distilled.items()                       # (log-mels, mels, frames), float32, normalised
    batch = render(items, distilled.recipes, indices)
    labels = distilled.labels_of(indices)           # (batch, classes), float32

What is stored is what every student trains on, on the host as on the board.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeser_device.data.sample_storage import FORMATS, fits, unfold
from edgeser_device.data.schedule import Schedule
from edgeser_device.data.views import Recipes
from edgeser_device.errors import DistilledSetError
from edgeser_device.frontend import FrontendSpec
from edgeser_device.kit.archive import parse_json
from edgeser_device.kit.manifest import MOST_CLASSES

SCHEMA = 2
"""Version of this file format."""
SCHEMA_OF_ONE = 1
"""Version of files whose items hold one log-mel each: older readers know no other."""
ARRAYS = ("levels", "scale", "offset", "classes", "soft_labels")
"""Fields that the file holds as arrays of that name; columns of the views' recipes have "view." before theirs."""
STORED_COUNT = "formations"
"""Key of the number of log-mels in an item in the file's description."""
_DAMAGED = "distil or pack it again with this version of edgeser"


@dataclass(frozen=True)
class DistilledSet:
    """Items, views, labels and schedule.

    Attributes:
        levels: The items' log-mels in whole steps above their lowest value, uint8 (items, mels, frames).
        scale: Size of one step in standard deviations of the corpus, float32 (items x samples_per_item,).
        offset: The lowest values, likewise.
        classes: The class that each item was made for, uint8 (items,).
        recipes: The label bank's views; the plain case is one untouched view an item.
        soft_labels: Probabilities of the classes for each view, float16 (views, classes).
        names: The emotions in the order of the classes.
        schedule: The schedule by which a student is trained on the views.
        frontend: The front-end that computes log-mels like the items.
        samples_per_item: The number of log-mels in each item; see :mod:`edgeser_device.data.sample_storage`.
    """

    levels: NDArray[np.uint8]
    scale: NDArray[np.float32]
    offset: NDArray[np.float32]
    classes: NDArray[np.uint8]
    recipes: Recipes
    soft_labels: NDArray[np.float16]
    names: tuple[str, ...]
    schedule: Schedule
    frontend: FrontendSpec
    samples_per_item: int = 1

    def __post_init__(self) -> None:
        _check(self)

    def __len__(self) -> int:
        return len(self.levels)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape of an item as a student reads it."""
        return 1, self.frontend.mels, self.frontend.frames

    @property
    def log_mels(self) -> DistilledSet:
        """This set, for work that is done with log-mels only."""
        return self

    @property
    def vectors(self) -> None:
        """Nothing: the items are no vectors."""

    @property
    def unit(self) -> tuple[str, float]:
        """The unit in which distances are told to people, and how many of them one standard deviation is."""
        return "dB", self.frontend.std

    def as_heard(self, views: NDArray[np.float32]) -> NDArray[np.float32]:
        """Views as a model's files read them: levels in dB, not normalised."""
        return views * np.float32(self.frontend.std) + np.float32(self.frontend.mean)

    @property
    def per_class(self) -> int:
        """Items of the smallest class (IPC)."""
        return int(np.bincount(self.classes, minlength=len(self.names)).min())

    def items(self) -> NDArray[np.float32]:
        """The normalised log-mels that the items hold, float32 (items x samples_per_item, mels, frames).

        Recipes count these; those of the first item come first.
        """
        return unfold(self.levels, self.scale, self.offset, self.samples_per_item)

    def item_classes(self) -> NDArray[np.uint8]:
        """The class of each of :meth:`items`, uint8 (items x samples_per_item,)."""
        return np.repeat(self.classes, self.samples_per_item)

    def labels_of(self, indices: NDArray[np.integer]) -> NDArray[np.float32]:
        """Soft labels of the chosen views, float32 (batch, classes)."""
        chosen: NDArray[np.float16] = self.soft_labels[indices]
        return chosen.astype(np.float32)

    def to_bytes(self) -> bytes:
        """The set as one safetensors file, the same bytes for the same set."""
        from safetensors.numpy import save

        description = {
            "schema": SCHEMA if self.samples_per_item > 1 else SCHEMA_OF_ONE,
            "names": list(self.names),
            "schedule": self.schedule.to_json(),
            "frontend": self.frontend.to_json(),
            **({STORED_COUNT: self.samples_per_item} if self.samples_per_item > 1 else {}),
        }
        tensors = {name: getattr(self, name) for name in ARRAYS}
        tensors |= {f"view.{name}": column for name, column in self.recipes.columns().items()}
        contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
        return save(contiguous, metadata={"edgeser": json.dumps(description, sort_keys=True)})

    @classmethod
    def from_bytes(cls, data: bytes) -> DistilledSet:
        """The inverse of :meth:`to_bytes`.

        Raises:
            DistilledSetError: Not a distilled set, of another version, or with parts that do not fit together.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            tensors = load(data)
            description = parse_json(metadata_of(data)["edgeser"], "the distilled set")
        except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise DistilledSetError(f"not a distilled set: {error}", _DAMAGED) from error
        if not isinstance(description, dict) or description.get("schema") not in (SCHEMA_OF_ONE, SCHEMA):
            raise DistilledSetError("a distilled set of another version", _DAMAGED)
        views = {name.removeprefix("view."): value for name, value in tensors.items() if name.startswith("view.")}
        if not set(tensors).issuperset(ARRAYS) or not {"names", "schedule", "frontend"} <= set(description):
            raise DistilledSetError("a distilled set with missing parts", _DAMAGED)
        names = description["names"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DistilledSetError("a distilled set whose emotions are not names", _DAMAGED)
        samples_per_item = description.get(STORED_COUNT, 1)
        if type(samples_per_item) is not int or samples_per_item not in FORMATS:
            raise DistilledSetError(f"a distilled set of {samples_per_item!r} log-mels an item", _DAMAGED)
        return cls(
            **{name: tensors[name] for name in ARRAYS},
            recipes=Recipes.from_columns(views, items=len(tensors["levels"]) * samples_per_item),
            names=tuple(names),
            schedule=Schedule.from_json(description["schedule"]),
            frontend=FrontendSpec.from_json(description["frontend"]),
            samples_per_item=samples_per_item,
        )


def metadata_of(data: bytes) -> Mapping[str, Any]:
    """The metadata of a safetensors file.

    Raises:
        ValueError: The file is none, or has none; KeyError and TypeError say the same.
    """
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length].decode("utf-8"))
    metadata = header["__metadata__"]
    if not isinstance(metadata, dict):
        raise TypeError("no description")
    return metadata


def _check(distilled: DistilledSet) -> None:
    items, classes, views = len(distilled.levels), len(distilled.names), len(distilled.recipes)
    spec = distilled.frontend
    log_mels = items * distilled.samples_per_item
    expected = {
        "levels": ((items, spec.mels, spec.frames), np.uint8),
        "scale": ((log_mels,), np.float32),
        "offset": ((log_mels,), np.float32),
        "classes": ((items,), np.uint8),
        "soft_labels": ((views, classes), np.float16),
    }
    for name, (shape, dtype) in expected.items():
        found = getattr(distilled, name)
        if found.shape != shape or found.dtype != dtype:
            raise DistilledSetError(
                f"a distilled set whose {name} are {found.dtype} {found.shape}, not {np.dtype(dtype)} {shape}", _DAMAGED
            )
    if not fits(distilled.samples_per_item, spec.mels, spec.frames):
        raise DistilledSetError(
            f"a distilled set with {distilled.samples_per_item} log-mels in {spec.mels} x {spec.frames} bytes", _DAMAGED
        )
    if not 0 < log_mels <= 65535 or not 2 <= classes <= MOST_CLASSES or len(set(distilled.names)) != classes:
        raise DistilledSetError(f"a distilled set of {items} items and {classes} classes", _DAMAGED)
    if distilled.classes.max() >= classes:
        raise DistilledSetError("a distilled set with an item of an unknown class", _DAMAGED)
    finite = all(np.isfinite(getattr(distilled, name)).all() for name in ("scale", "offset", "soft_labels"))
    if not finite or (distilled.scale <= 0).any() or (distilled.soft_labels < 0).any():
        raise DistilledSetError("a distilled set with values that are not finite or not probabilities", _DAMAGED)
