"""Distribution matching with noise: the clips are looked at once, and what is kept of them is noisy.

For every class c the characteristic function of the features of its clips is taken at fixed frequencies,

    Phi_c(t) = 1/n_c sum over its clips x of exp(i t.f(x)) + noise

Features are those of untrained networks, normalised by what they make of noise: neither f nor t nor the start of the
items depends on a clip. exp(i t.f) has length one whatever the clip, so there is nothing to clip: with m values a
network and k networks a clip moves its class's sum by 2 sqrt(k m) at most when it is replaced, and normal noise of z
times that in every real and imaginary part makes the statistics (epsilon, delta) differentially private
(:mod:`guarantee` has z; the classes are apart, so they share the budget).
Items then follow the kept statistics and see no clip any more:

    loss = mean over t of |Phi_c(t) - 1/n sum over the items y of the class of exp(i t.f(y))|^2

After DP-MERF (Harder et al. 2021, arXiv 2002.11603), with networks for its features. The noise comes from the system's
entropy, not from ``--seed``: whoever knows a seed could take the noise away again. It is kept in the checkpoint, so an
interrupted run goes on, but a run cannot be repeated bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from random import SystemRandom
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgeser.config.settings import Settings
from edgeser.distill.method import Assignment, State
from edgeser.distill.optimise import adam_step, with_moments
from edgeser.distill.starts import smooth_noise
from edgeser.errors import DivergedError, SettingsError
from edgeser.models.network import Tensors, forward, infer, running_norm, to_tensors
from edgeser.models.training import Arrays, with_statistics
from edgeser_export.graph.initial import initial_weights
from edgeser_export.graph.op_graph import Graph, Linear
from edgeser_export.utilities.errors import MissingExtra

DELTA = 1e-5
"""Below one over the number of clips of every corpus that is known here."""
STEP = 1e-3
"""Discretisation of the accountant; what it rounds, it rounds to the safe side."""
UNIT = "one clip, replaced by another of its class"


@cache
def noise_multiplier(epsilon: float) -> float:
    """Least standard deviation of the noise, in sensitivities, for (epsilon, ``DELTA``).

    Raises:
        MissingExtra: dp-accounting is not installed.
    """
    try:
        from dp_accounting import GaussianDpEvent, calibrate_dp_mechanism
        from dp_accounting.pld import PLDAccountant
    except ImportError as error:
        raise MissingExtra("dp_accounting", "host") from error
    return float(
        calibrate_dp_mechanism(
            lambda: PLDAccountant(value_discretization_interval=STEP), GaussianDpEvent, epsilon, DELTA
        )
    )


def require_guarantee(settings: Settings) -> None:
    """Check that nothing that is asked for makes the guarantee void.

    Raises:
        SettingsError: Items or an initialisation that are made of clips.
    """
    if not settings.match.dp:
        return
    reasons = {
        f"items that begin as {settings.start} hold clips": (settings.start != "noise", "use --from noise"),
        "init_epoch trains the initialisation on the clips": (settings.init_epoch > 0, "set init_epoch to 0"),
    }
    for reason, (broken, hint) in reasons.items():
        if broken:
            raise SettingsError(f"match.dp {settings.match.dp:g} would promise nothing: {reason}", hint)


def guarantee(settings: Settings) -> dict[str, Any] | None:
    """The guarantee of a run, for run.json and for people; None without ``match.dp``."""
    if not settings.match.dp:
        return None
    hard = settings.labels == "hard"
    covered = ["the items"] + (["the labels of the views, which follow from the items' classes"] if hard else [])
    labels = "the labels of the views: they come from experts that were trained on the clips without noise"
    return {
        "epsilon": settings.match.dp,
        "delta": DELTA,
        "noise_multiplier": round(noise_multiplier(settings.match.dp), 6),
        "unit": UNIT,
        "covered": covered,
        "not_covered": [
            *([] if hard else [labels]),
            "the mean and standard deviation by which log-mels are normalised, and the number of clips of each class",
            "a speaker: with k clips in a class epsilon grows k-fold and more",
            "what was chosen on dev speakers (check_every), whose clips have no noise",
            "the arithmetic: noise is drawn in floating point",
        ],
    }


NETWORKS, FREQUENCIES = 4, 32
"""Untrained networks, and frequencies for each: more see more of the clips and bring more noise."""
PICTURES = 128
"""Number of pictures of noise, by which features are normalised."""
SEED = 0xD9


def begin(assignment: Assignment) -> State:
    """The noisy statistics of the clips, and items of noise: the only place where clips are read."""
    settings, task = assignment.settings, assignment.task
    exact = class_statistics(task.graph, task.clips, task.labels, task.classes)
    counts = np.bincount(task.labels, minlength=task.classes)
    deviation = noise_multiplier(settings.match.dp) * sensitivity() / counts
    random = SystemRandom()
    drawn = np.array([random.gauss(0.0, 1.0) for _ in range(exact.size)]).reshape(exact.shape)
    noisy = (exact + deviation[:, None] * drawn).astype(np.float32)
    own = np.random.default_rng([settings.seed, SEED])
    items = np.stack([smooth_noise(own, *task.maps.shape[1:]) for _ in assignment.classes]).astype(np.float32)
    return {**with_moments({"items": items}, ["items"]), "statistics": noisy}


def improve(assignment: Assignment, state: State, iteration: int) -> tuple[State, Mapping[str, float]]:
    """One step of Adam on the items towards the kept statistics, by one of the networks.

    Raises:
        DivergedError: The loss is not finite.
    """
    settings, task = assignment.settings, assignment.task
    number = int(np.random.default_rng([settings.seed, iteration, SEED]).integers(NETWORKS))
    look = Look.of(task.graph, number)
    items = torch.from_numpy(np.array(state["items"])).requires_grad_(True)
    wanted = torch.from_numpy(state["statistics"]).reshape(task.classes, NETWORKS, 2 * FREQUENCIES)[:, number]
    waves = look.waves(items[:, None])
    classes = torch.from_numpy(assignment.classes)
    means = torch.stack([waves[classes == label].mean(0) for label in range(task.classes)])
    loss = (means - wanted).square().mean()
    value = loss.item()
    if not np.isfinite(value):
        raise DivergedError(
            f"the loss of iteration {iteration + 1} is {value}",
            f"set match.item_rate below {settings.match.item_rate:g}",
        )
    gradient = torch.autograd.grad(loss, items)[0].numpy()
    changed = adam_step(state, {"items": gradient}, {"items": settings.match.item_rate}, iteration + 1)
    return {**state, **changed}, {"loss": value}


def sensitivity() -> float:
    """The largest movement of the sum of a class's waves, as a vector, when one clip is replaced."""
    return float(2 * np.sqrt(NETWORKS * FREQUENCIES))


def class_statistics(
    graph: Graph, clips: NDArray[np.float32], labels: NDArray[np.int64], classes: int
) -> NDArray[np.float64]:
    """Mean waves of each class without noise, float64 (classes, networks x 2 frequencies)."""
    waves = np.concatenate([Look.of(graph, number).waves_of(clips) for number in range(NETWORKS)], axis=1)
    return np.stack([waves[labels == label].mean(0) for label in range(classes)])


class Look:
    """The features of log-mels under one untrained network, which depends on its number only."""

    def __init__(self, graph: Graph, number: int) -> None:
        random = np.random.default_rng([number, SEED])
        _, mels, frames = graph.input_shape
        pictures = np.stack([smooth_noise(random, mels, frames) for _ in range(PICTURES)]).astype(np.float32)[:, None]
        start = to_tensors(initial_weights(graph, SEED + number))
        parameters = {name: start[name] for name in graph.parameters}
        self.graph = graph
        self.weights: Arrays = with_statistics(graph, parameters, [torch.from_numpy(pictures)])
        self.tensors: Tensors = to_tensors(self.weights)
        self.last = next(op for op in reversed(graph.ops) if isinstance(op, Linear)).source
        seen = infer(graph, self.weights, pictures, self.last)
        self.middle, self.spread = seen.mean(0), seen.std(0) + 1e-3
        self.frequencies = (random.standard_normal((seen.shape[1], FREQUENCIES)) / np.sqrt(seen.shape[1])).astype(
            np.float32
        )

    @classmethod
    def of(cls, graph: Graph, number: int) -> Look:
        """The one of a number; the latest ones are kept."""
        key = (repr(graph.to_json()), number)
        if key not in _LOOKS:
            while len(_LOOKS) >= NETWORKS:
                _LOOKS.pop(next(iter(_LOOKS)))
            _LOOKS[key] = cls(graph, number)
        return _LOOKS[key]

    def waves(self, x: Tensor) -> Tensor:
        """Cos and sin of t.f(x), (batch, 2 frequencies), of (batch, 1, mels, frames); each pair has length one."""
        features = forward(self.graph, self.tensors, x, running_norm(self.tensors), self.last)
        angles = ((features - torch.from_numpy(self.middle)) / torch.from_numpy(self.spread)) @ torch.from_numpy(
            self.frequencies
        )
        return torch.cat([angles.cos(), angles.sin()], dim=1)

    def waves_of(self, clips: NDArray[np.float32]) -> NDArray[np.float64]:
        """The same of clips, float64."""
        angles = (infer(self.graph, self.weights, clips, self.last) - self.middle) / self.spread @ self.frequencies
        return np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float64)


_LOOKS: dict[tuple[str, int], Look] = {}
