"""A Gaussian of each class instead of its clips: all that a run with ``--privacy`` learns from.

    released = release(task, settings)        # reads the clips, once
    drawn = released.task(task, settings)     # clips drawn from it: experts, items and labels are made of these alone

Clips are vectors in standard deviations. Each is cut to a largest norm first, so that no clip moves a mean far. The
means of the classes differ only within a subspace of low rank: every direction that is kept gives away more of a clip.

- ``aggregate``: subspace and covariance are those of the clips. A class has an item for every ``min_clips`` clips.
- ``dp:EPS``: subspace and covariance are those of the encoder's vectors of the built-in synthetic speech, as is the
  scale of the vectors. The mean of all clips and the sums of the classes get normal noise. Where a clip is replaced by
  another of its class, the first moves by 2 B / n and the second by 2 C, for largest norms B and C; two Gaussian
  mechanisms of multipliers z / sqrt(share) are together one of multiplier z. The noise comes from the system's entropy,
  as :mod:`edgeser.distill.methods.noisy_match` explains.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from random import SystemRandom
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeser.config.settings import Settings
from edgeser.distill.methods.noisy_match import DELTA, UNIT, noise_multiplier
from edgeser.errors import RunError, SettingsError
from edgeser.models.experts import Task
from edgeser_export.utilities.files import write_bytes

Floats = NDArray[np.float64]
DRAWN = 256
"""Clips that are drawn of each class: drawing gives nothing more away, and experts need many."""
WITHIN = 0.7
"""Factor on the spread of what is drawn about a class's mean; chosen by sketches on RAVDESS and EMO-DB."""
REST = 0.3
"""Spread outside the subspace of a ``dp`` release, in standard deviations of the synthetic speech."""
RANK, MOST_RANK = 48, 192
"""Rank of an aggregate, and the largest of ``dp``, which has two directions for each clip of the rarest class."""
CENTRE_SHARE, CENTRE_NORM = 0.05, 1.5
"""Share of the budget that the mean of all clips gets, and the largest norm there, in that of synthetic speech."""
METHODS = ("centroids", "kip", "gradmatch")
"""Methods that see clips only as the task's vectors, and items in any number a class."""


@dataclass(frozen=True)
class Released:
    """What is known of the clips.

    Attributes:
        means: Mean of each class, float64 (classes, numbers), in standard deviations.
        factors: Directions times spreads within a class, float64 (rank, numbers).
        rest: Spread in all other directions.
        most: Items that each class may have, int64 (classes,).
    """

    means: Floats
    factors: Floats
    rest: float
    most: NDArray[np.int64]

    def task(self, task: Task, seed: int) -> Task:
        """The task with ``DRAWN`` clips of each class, drawn from the Gaussians, instead of its own.

        All count the same: those of several corpora are not told apart.
        """
        random = np.random.default_rng([seed, 0x6A55])
        labels = np.repeat(np.arange(task.classes), DRAWN)
        size = self.means.shape[1]
        apart = random.standard_normal((len(labels), len(self.factors))) @ self.factors
        drawn = self.means[labels] + WITHIN * apart + self.rest * random.standard_normal((len(labels), size))
        clips = drawn.astype(np.float32)[:, :, None, None]
        most = tuple(self.most.tolist())
        return replace(task, clips=clips, labels=labels, speakers=(), weights=None, most_items=most)

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        from safetensors.numpy import save

        arrays = {"means": self.means, "factors": self.factors, "rest": np.array([self.rest]), "most": self.most}
        write_bytes(path, save(arrays))

    @classmethod
    def load(cls, path: Path) -> Released:
        """The opposite of :meth:`save`.

        Raises:
            RunError: The file is damaged.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            found = load(path.read_bytes())
            return cls(found["means"], found["factors"], float(found["rest"][0]), found["most"])
        except (OSError, SafetensorError, KeyError) as error:
            raise RunError(f"{path} cannot be read: {error}", "distil again in a new --out") from error


def release(task: Task, names: tuple[str, ...], settings: Settings) -> Released:
    """Read the clips once.

    Args:
        task: The training clips, vectors in standard deviations, with their speakers.
        names: Names of the classes.
        settings: Settings with a ``privacy`` that is not ``none``.

    Raises:
        SettingsError: A class has too few clips, or clips of too few speakers.
    """
    most = most_items(task, names, settings)
    vectors = task.clips[:, :, 0, 0].astype(np.float64)
    if settings.epsilon:
        reference = task.representation.reference
        if reference is None:
            raise ValueError("the representation holds no vectors of synthetic speech")
        return _noisy(vectors, task, reference.astype(np.float64), settings, most)
    return _aggregated(vectors, task, settings, most)


def limited(vectors: Floats, norm: float) -> Floats:
    """Vectors (n, numbers), those that are longer than ``norm`` cut to it."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors * np.minimum(1.0, norm / np.maximum(lengths, 1e-12)))


def _aggregated(vectors: Floats, task: Task, settings: Settings, most: NDArray[np.int64]) -> Released:
    kept = limited(vectors, settings.release.norm * vectors.shape[1] ** 0.5)
    centre, means = kept.mean(0), _class_means(kept, task)
    directions = np.linalg.svd(kept - centre, full_matrices=False)[2][: settings.release.rank or RANK]
    inside = kept - means[task.labels]
    spreads = (inside @ directions.T).std(0)
    left = max(0.0, float((inside**2).sum(1).mean() - (spreads**2).sum()))
    within = centre + (means - centre) @ directions.T @ directions
    rest = WITHIN * (left / vectors.shape[1]) ** 0.5
    return Released(within, spreads[:, None] * directions, rest, most)


def _noisy(vectors: Floats, task: Task, reference: Floats, settings: Settings, most: NDArray[np.int64]) -> Released:
    counts = np.bincount(task.labels, minlength=task.classes)
    rank = settings.release.rank or min(MOST_RANK, 2 * int(counts.min()))
    spreads, directions = np.linalg.svd(reference, full_matrices=False)[1:]
    factors = (spreads / len(reference) ** 0.5)[:rank, None] * directions[:rank]
    inside = (vectors @ directions[:rank].T) / (spreads[:rank] / len(reference) ** 0.5)
    norm = settings.release.norm * len(factors) ** 0.5
    wide, near = deviations(settings.epsilon, norm, len(vectors))
    centre = centre_of(inside, norm) + wide * _normal((1, len(factors)))
    sums = class_sums(inside - centre, task, norm) + near * _normal((task.classes, len(factors)))
    return Released((centre + sums / counts[:, None]) @ factors, factors, REST, most)


def centre_of(inside: Floats, norm: float) -> Floats:
    """The mean of clips (n, rank), float64 (1, rank), each cut to ``CENTRE_NORM`` times the norm."""
    return np.asarray(limited(inside, CENTRE_NORM * norm).mean(0, keepdims=True))


def class_sums(apart: Floats, task: Task, norm: float) -> Floats:
    """The sum of each class's clips (n, rank), float64 (classes, rank), each cut to the norm."""
    cut = limited(apart, norm)
    return np.stack([cut[task.labels == label].sum(0) for label in range(task.classes)])


def deviations(epsilon: float, norm: float, clips: int) -> tuple[float, float]:
    """Standard deviations of the noise on the mean of all clips and on the sum of a class.

    Args:
        epsilon: Epsilon of both together.
        norm: Largest norm of a clip about the mean; the one about the origin is ``CENTRE_NORM`` times it.
        clips: Number of clips.

    Raises:
        MissingExtra: dp-accounting is not installed.
    """
    multiplier = noise_multiplier(epsilon)
    centre, class_sum = 2 * CENTRE_NORM * norm / clips, 2 * norm
    return multiplier * centre / CENTRE_SHARE**0.5, multiplier * class_sum / (1 - CENTRE_SHARE) ** 0.5


def _class_means(vectors: Floats, task: Task) -> Floats:
    return np.stack([vectors[task.labels == label].mean(0) for label in range(task.classes)])


def _normal(shape: tuple[int, int]) -> Floats:
    random = SystemRandom()
    return np.array([random.gauss(0.0, 1.0) for _ in range(shape[0] * shape[1])]).reshape(shape)


def most_items(task: Task, names: tuple[str, ...], settings: Settings) -> NDArray[np.int64]:
    """Items that each class can give, int64 (classes,): an aggregate has one for every ``min_clips`` clips of a class.

    Raises:
        SettingsError: A class has too few clips, or clips of too few speakers.
    """
    counts = np.bincount(task.labels, minlength=task.classes)
    if settings.privacy != "aggregate":
        return np.full(task.classes, settings.ipc)
    asked, speakers = settings.release, np.array(task.speakers)
    for label, name in enumerate(names):
        voices = len(set(speakers[task.labels == label]))
        if counts[label] < asked.min_clips or voices < asked.min_speakers:
            raise SettingsError(
                f"the class {name!r} has {counts[label]} training clips of {voices} speakers, and an item of "
                f"--privacy aggregate stands for {asked.min_clips} clips of {asked.min_speakers} speakers at least",
                "record more of it, or lower release.min_clips or release.min_speakers",
            )
    return np.asarray(counts // asked.min_clips)


def require_releasable(settings: Settings, has_time: bool) -> None:
    """Check that nothing that is asked for contradicts ``--privacy``.

    Args:
        settings: The settings of a run.
        has_time: Whether its representation varies over time.

    Raises:
        SettingsError: Something does.
    """
    if settings.privacy == "none":
        return
    asked = f"--privacy {settings.privacy}"
    refused = (
        (has_time or not settings.encoder, "works on an encoder's vectors", "choose --encoder smart-turn-2"),
        (settings.method not in METHODS, f"goes with {', '.join(METHODS)}", "use --method kip"),
        (settings.start not in ("", "centroids"), "begins items as centroids of what it drew", "leave out --from"),
        (settings.init_epoch > 0, "takes an initialisation of no clip", "leave out init_epoch"),
        (
            settings.epsilon > 0 and settings.check_every > 0,
            "covers no choice on dev speakers, whose clips have no noise",
            "leave out check_every",
        ),
    )
    for broken, words, hint in refused:
        if broken:
            raise SettingsError(f"{asked} {words}", hint)


def fewer_items(released: Released, names: tuple[str, ...], ipc: int) -> list[str]:
    """A sentence for each class that gives fewer items than were asked for."""
    return [
        f"{name} has {most} items and not {ipc}: its clips allow no more"
        for name, most in zip(names, released.most.tolist(), strict=True)
        if most < ipc
    ]


def promise(settings: Settings) -> Mapping[str, Any] | None:
    """What a ``dp`` release covers, for run.json, the card and people; None for others."""
    if not settings.epsilon:
        return None
    return {
        "epsilon": settings.epsilon,
        "delta": DELTA,
        "noise_multiplier": round(noise_multiplier(settings.epsilon), 6),
        "unit": UNIT,
        "covered": [
            "the items, the labels of the views, the experts and the scale of the vectors: all are made of noisy means "
            "and of synthetic speech"
        ],
        "not_covered": [
            "the number of clips of each class",
            "a speaker: with k clips epsilon grows k-fold and more",
            "the figures of evaluate and audit, and settings that you chose by them",
            "the arithmetic: noise is drawn in floating point",
        ],
    }
