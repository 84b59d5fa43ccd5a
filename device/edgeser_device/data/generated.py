"""Points drawn from a generator: what a kit with ``gan.ship=generator`` trains on instead of stored items.

    source = open_source(kit, Drawing(points=50, fresh=True), schedule, seed=0, threads=4)
    distilled, items = source(step)

The kit then carries the generator and the experts that label, as ONNX files; its distilled set is small, serves the
checks, and names schedule and front-end. Points are drawn, stored as bytes and varied as a distilled set's items are,
and each view is labelled by the experts: mean of softmax(logits / temperature). Fixed points are drawn once; fresh ones
anew for each epoch, from the seed and the epoch's number, so that a resumed training sees the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import ceil

import numpy as np
from numpy.typing import NDArray

from edgeser_device.data.distilled import DistilledSet
from edgeser_device.data.sample_storage import quantise
from edgeser_device.data.schedule import Schedule
from edgeser_device.data.stored import StoredSet
from edgeser_device.data.views import mixed_recipes, render
from edgeser_device.errors import KitDamaged, KitError, TrainingError
from edgeser_device.frontend import FrontendSpec
from edgeser_device.kit.archive import parse_json
from edgeser_device.kit.kit import Kit
from edgeser_device.kit.manifest import Check, has, number, whole
from edgeser_device.model.model import DISTILLED
from edgeser_device.train.steps import require_memory
from edgeser_device.train.trainer import Source, compute, open_session

FOLDER = "generator/"
GENERATOR, DESCRIPTION = f"{FOLDER}generator.onnx", f"{FOLDER}generator.json"
"""Members of a kit that draws its points; the run has files of the same names."""
PROBE = f"{FOLDER}probe.safetensors"
"""File of a run; in a kit it is the distilled set."""
AT_ONCE = 32
"""Items or views in one call of a runtime: more take memory and gain no time."""
VIEWS = 2048
"""Least views of a drawn set, as of a distilled one: fewer are seen too often."""
VIEWS_OF_AN_ITEM = 64
MOST_ITEMS = 65_535
"""A set holds no more items: views name theirs in two bytes."""
BYTES_OF_A_VALUE = 15
"""Memory that drawing takes for each value of the items, in one and several bytes side by side; 15.5 to 15.9 were
measured."""
LATENT, LABELS, ITEMS, INPUT, LOGITS = "z", "labels", "items", "x", "logits"


def labeller_name(number: int) -> str:
    """Name of the member that is the expert of that number."""
    return f"{FOLDER}labeller-{number}.onnx"


_COUNT = whole(1, 1 << 20)
_FIELDS: Mapping[str, Check] = {
    "latent": _COUNT,
    "labellers": _COUNT,
    "temperature": number(0.01, 1000),
    "points": _COUNT,
    "clips": lambda value: isinstance(value, list) and len(value) > 1 and all(map(_COUNT, value)),
}


@dataclass(frozen=True)
class Description:
    """The description of a kit's generator.

    Attributes:
        latent: Random numbers for one item.
        labellers: Experts that label.
        temperature: Temperature of the experts' soft labels.
        points: Items a class when nothing else is asked for.
        clips: Training clips of each class in the original data.
    """

    latent: int
    labellers: int
    temperature: float
    points: int
    clips: tuple[int, ...]

    def to_bytes(self) -> bytes:
        """Return the description as JSON."""
        return (json.dumps(asdict(self), indent=1, sort_keys=True) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Description:
        """The inverse of :meth:`to_bytes`.

        Raises:
            KitDamaged: Missing, superfluous or impossible values.
        """
        value = parse_json(data, DESCRIPTION)
        if not has(_FIELDS)(value):
            raise KitDamaged(f"{DESCRIPTION} lacks values, or holds impossible ones", "pack the kit again")
        return cls(**{**value, "clips": tuple(value["clips"])})


@dataclass(frozen=True)
class Drawing:
    """The way in which points are drawn.

    Attributes:
        points: Items a class, on average where the classes differ; None for the kit's own number.
        as_original: Classes as frequent as in the original data, instead of equally.
        fresh: New points in every epoch.
    """

    points: int | None = None
    as_original: bool = False
    fresh: bool = False

    def words(self, kit: Kit) -> str:
        """For the checkpoint and the report, what must be the same when a training goes on: "50 balanced fresh".

        Empty for a kit without a generator.
        """
        if DESCRIPTION not in kit.members:
            return ""
        points = self.points or Description.from_bytes(kit.members[DESCRIPTION]).points
        order = "as-original" if self.as_original else "balanced"
        return f"{points} {order} {'fresh' if self.fresh else 'fixed'}"


class Drawn:
    """Sets drawn from a generator."""

    def __init__(self, points: Points, plain: DistilledSet, drawing: Drawing, seed: int) -> None:
        """Draw nothing yet.

        Args:
            points: The generator and the experts.
            plain: Gives emotions, front-end and schedule.
            drawing: The number of points, and whether each epoch has new ones.
            seed: Decides everything that is drawn.
        """
        self._points, self._plain, self._fresh, self._seed = points, plain, drawing.fresh, seed
        self._counts = points.counts(drawing)
        items, schedule = sum(self._counts), plain.schedule
        # Fresh views are left after an epoch, in which every item is seen.
        self._views = max(VIEWS, items) if drawing.fresh else views_of(items, schedule)
        self._epoch_steps = ceil(self._views / schedule.batch)
        self._found: tuple[int, tuple[DistilledSet, NDArray[np.float32]]] | None = None

    def __call__(self, step: int) -> tuple[DistilledSet, NDArray[np.float32]]:
        """The set of a step, and its items; drawn when its epoch begins."""
        epoch = step // self._epoch_steps if self._fresh else 0
        if self._found is None or self._found[0] != epoch:
            self._found = None  # its memory is needed for the next one
            drawn = self._points.draw(self._counts, self._views, self._plain, self._seed, epoch)
            self._found = epoch, (drawn, drawn.items())
        return self._found[1]


def views_of(items: int, schedule: Schedule) -> int:
    """Views of a set of so many points that is drawn once: no more than a training has steps for, or ``VIEWS``."""
    wanted = max(VIEWS, VIEWS_OF_AN_ITEM * items)
    return max(VIEWS, min(wanted, schedule.steps * schedule.batch))


def open_source(
    kit: Kit, drawing: Drawing, schedule: Schedule, seed: int, threads: int, memory_mb: int | None = None
) -> Source:
    """Open the source of a training's views: the kit's generator, or the set that it holds.

    Args:
        kit: The kit.
        drawing: The way in which the points of a kit that carries a generator are drawn.
        schedule: The training's.
        seed: Decides everything that is drawn.
        threads: Threads of generator and experts.
        memory_mb: Memory that the whole training may take; None for all that is free.

    Raises:
        KitError: Points are asked for and the kit has no generator, or onnxruntime does not accept it.
        KitDamaged: The generator's description is malformed.
        TrainingError: There are too many points for a set, or for the memory.
    """
    if GENERATOR in kit.members:
        plain, points = replace(kit.log_mels("generators are"), schedule=schedule), Points.of(kit, threads)
        require_room(sum(points.counts(drawing)), plain.frontend, memory_mb)
        return Drawn(points, plain, drawing, seed)
    if drawing != Drawing():
        raise KitError(
            f"{kit.path} holds items and no generator, so no points can be drawn",
            "leave out --points, or distil with --method gan --set gan.ship=generator and pack again",
        )
    given = kit.distilled, kit.distilled.items()
    return lambda _: given


def require_room(items: int, frontend: FrontendSpec, allowed_mb: int | None) -> None:
    """Refuse to draw what cannot fit, before anything is drawn.

    Raises:
        TrainingError: A set cannot name so many items, or drawing them takes more than is allowed or free.
    """
    fewer = "use fewer --points"
    if items > MOST_ITEMS:
        raise TrainingError(f"{items:,} points are asked for, a set holds {MOST_ITEMS:,} at most", fewer)
    more = items * frontend.mels * frontend.frames * BYTES_OF_A_VALUE >> 20
    require_memory(f"to draw {items:,} points takes", more, allowed_mb, fewer)


def with_set(kit: Kit, distilled: StoredSet) -> Kit:
    """The kit as if it held this set: what a model is written and compared with."""
    if distilled is kit.distilled:
        return kit
    return replace(kit, members={**kit.members, DISTILLED: distilled.to_bytes()})


class Points:
    """A generator and the experts that label, loaded."""

    def __init__(self, files: Mapping[str, bytes], threads: int) -> None:
        """Load the files of a kit or of a run, by the kit's names.

        Raises:
            KitError: One is missing, or onnxruntime does not accept it.
            KitDamaged: The description is malformed.
        """
        self.description = Description.from_bytes(_member(files, DESCRIPTION))
        self._generator = open_session(_member(files, GENERATOR), threads)
        numbers = range(self.description.labellers)
        self._experts = [open_session(_member(files, labeller_name(number)), threads) for number in numbers]

    @classmethod
    def of(cls, kit: Kit, threads: int) -> Points:
        """Those of a kit; errors as when loading."""
        found = cls(kit.members, threads)
        if len(found.description.clips) != len(kit.labels):
            raise KitDamaged(f"{DESCRIPTION} is of another number of emotions", "pack the kit again")
        return found

    def counts(self, drawing: Drawing) -> list[int]:
        """Items of each class."""
        points, clips = drawing.points or self.description.points, self.description.clips
        return class_counts(points, clips) if drawing.as_original else [points] * len(clips)

    def items(self, classes: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.float32]:
        """Items of these classes, normalised log-mels, float32 (items, mels, frames).

        Raises:
            TrainingError: They could not be computed.
        """
        z = latent_numbers(seed, epoch, classes, self.description.latent)
        labels = np.eye(len(self.description.clips), dtype=np.float32)[classes]
        pieces = [slice(start, start + AT_ONCE) for start in range(0, len(classes), AT_ONCE)]
        return np.concatenate(
            [compute(self._generator, [ITEMS], {LATENT: z[at], LABELS: labels[at]})[0] for at in pieces]
        )

    def labels(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Soft labels of views (views, 1, mels, frames), float32 (views, classes); errors as :meth:`items`."""
        temperature = np.float32(self.description.temperature)
        found = [compute(expert, [LOGITS], {INPUT: x})[0] / temperature for expert in self._experts]
        grown = [np.exp(logits - logits.max(1, keepdims=True)) for logits in found]
        return np.asarray(np.mean([each / each.sum(1, keepdims=True) for each in grown], axis=0), dtype=np.float32)

    def draw(self, counts: Sequence[int], views: int, plain: DistilledSet, seed: int, epoch: int) -> DistilledSet:
        """A set of new items.

        Args:
            counts: Items of each class.
            views: Views in all.
            plain: Gives emotions, schedule and front-end.
            seed: Decides the items and their views.
            epoch: Another one gives other items and views.
        """
        classes = np.repeat(np.arange(len(counts)), counts)
        levels, scale, offset = quantise(self.items(classes, seed, epoch))
        recipes = mixed_recipes(len(classes), max(views, len(classes)), plain.frontend.frames, _mixed(seed, epoch))
        stored = levels.astype(np.float32) * scale[:, None, None] + offset[:, None, None]
        pieces = np.array_split(np.arange(len(recipes)), ceil(len(recipes) / AT_ONCE))
        soft = np.concatenate([self.labels(render(stored, recipes, piece)) for piece in pieces])
        return DistilledSet(
            levels=levels,
            scale=scale,
            offset=offset,
            classes=classes.astype(np.uint8),
            recipes=recipes,
            soft_labels=soft.astype(np.float16),
            names=plain.names,
            schedule=plain.schedule,
            frontend=plain.frontend,
        )


def latent_numbers(seed: int, epoch: int, classes: NDArray[np.int64], size: int) -> NDArray[np.float32]:
    """Standard normal numbers of items of these classes, float32 (items, size), by Box and Muller.

    The largest number of an item says which codebook entry it is made of most. In every class each place has the
    largest in turn, in random order: items are spread over the entries as evenly as can be, each by itself as random as
    before.
    Only raw words of PCG64 are used, whose stream numpy fixes.
    """
    count = len(classes)
    pairs = -(-count * size // 2)
    words = np.random.PCG64(np.random.SeedSequence([seed, epoch, 0x6E0])).random_raw(2 * pairs)
    unit = ((words >> np.uint64(11)).astype(np.float64) + 0.5) / (1 << 53)
    radius, angle = np.sqrt(-2 * np.log(unit[:pairs])), 2 * np.pi * unit[pairs:]
    numbers = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)[: count * size]
    return _in_turn(numbers.reshape(count, size).astype(np.float32), classes, seed, epoch)


def _in_turn(numbers: NDArray[np.float32], classes: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.float32]:
    """Each row's largest number changes places with the one whose turn it is among the rows of its class."""
    size, stream = numbers.shape[1], np.random.PCG64(np.random.SeedSequence([seed, epoch, 0x6E1]))
    turned = numbers.copy()
    for each in np.unique(classes):
        rows = np.flatnonzero(classes == each)
        rounds = -(-len(rows) // size)
        words = stream.random_raw(rounds * size).reshape(rounds, size)
        turn = np.argsort(words, axis=1, kind="stable").ravel()[: len(rows)]
        largest = numbers[rows].argmax(1)
        turned[rows, largest], turned[rows, turn] = numbers[rows, turn], numbers[rows, largest]
    return turned


def class_counts(points: int, clips: Sequence[int]) -> list[int]:
    """Items of each class where ``points`` a class are shared as the clips are: at least one of each.

    What is left after rounding down goes to the classes with the largest remainders.
    """
    total, every = points * len(clips), sum(clips)
    exact = [total * count / every for count in clips]
    counts = [max(1, int(value)) for value in exact]
    short = [place for place, count in enumerate(counts) if count <= exact[place]]
    order = sorted(short, key=lambda place: (counts[place] - exact[place], place))
    for place in order[: max(0, total - sum(counts))]:
        counts[place] += 1
    return counts


def _mixed(seed: int, epoch: int) -> int:
    """A seed of its own for the views of each epoch; the first one's is the seed itself."""
    return seed if epoch == 0 else int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


def _member(files: Mapping[str, bytes], name: str) -> bytes:
    if name not in files:
        raise KitError(f"there is no {name}", "distil with --method gan and pack again")
    return files[name]
