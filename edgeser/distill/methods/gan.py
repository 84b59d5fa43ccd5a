"""Generative distillation: a small conditional generator that stands for the data set (after arXiv 2406.02963).

The generator first learns its bases and its decoder without random numbers: each basis b of a class has to make one
target x (generative latent optimisation, Bojanowski et al. 2018, arXiv 1707.05776), an aligned pair of that class that
:mod:`edgeser.distill.methods.invert` has moved:

    loss = mean (G(b) - x)^2

An autoencoder of ever new sums makes means of them instead, and what is blurred teaches little. Then random
numbers mix the bases, and the generator plays against a critic D (WGAN-GP, Gulrajani et al. 2017, arXiv 1704.00028)
that sees the features f of the label experts instead of the log-mel (projected GAN, Sauer et al. 2021, arXiv
2111.01007), one expert and its own critic an iteration:

    critic:     E D(f(G), y) - E D(f(x), y) + w_GP L_GP
    generator:  100 mean (G(b) - x)^2 - w_adv E D(f(G), y) + w_FM L_FM + w_SML L_SML + w_DIV L_DIV

Vectors need no codebook and no first part: a generator of vectors begins as a Gaussian of each class, narrower than the
clips', and a small network bends it,

    G(z, y) = m_y + z S + W a(V [y, z] + v),   W = 0 at the beginning,

while it plays against the critics.

The losses stand in :mod:`edgeser.distill.methods.generator_networks`. The moving average of the generator is kept. When
a critic's gradients grow far beyond the length that the penalty asks for, or a number is not finite, everything stays
as it was before that iteration, and no further one is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import cos, isfinite, pi

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgeser.config.values import changed
from edgeser.distill.label_bank import build_set
from edgeser.distill.method import Assignment, State
from edgeser.distill.methods.centroids import fitted_gaussians
from edgeser.distill.methods.generator_networks import (
    SPREAD,
    VectorShape,
    critic_shapes,
    criticise,
    decode,
    feature_matching,
    fitted,
    generate,
    gradient_penalty,
    initial,
    lack_of_diversity,
    look,
    one_hot,
    probability_matching,
)
from edgeser.distill.methods.generator_targets import shape_of, targets
from edgeser.distill.optimise import adam_step, with_moments
from edgeser.errors import RunError
from edgeser.models.network import Tensors, to_tensors
from edgeser.models.training import Arrays, roll_each
from edgeser.run import safetensors_bytes
from edgeser_device.data.generated import DESCRIPTION, GENERATOR, PROBE, Description, labeller_name, latent_numbers
from edgeser_device.data.stored import StoredSet
from edgeser_export.utilities.progress import note
from edgeser_export.writers.onnx_files import write_onnx
from edgeser_export.writers.onnx_generator import CODEBOOK, GeneratorShape, as_stored, halve, write_generator

TIGHT = 0.5
"""Width of the Gaussians with which a generator of vectors begins, as a share of the clips': points near the middle of
a class teach more, by the dev speakers of RAVDESS; those of EMO-DB contradict each other."""
PER_CLASS = 8
"""Clips of a class in one batch; classes with fewer have no distribution to learn."""
CLASSES = 8
"""Classes in one batch at most, drawn anew in each."""
TARGETS = 32
"""Targets in one batch at most."""
SHIFT = 12
"""Largest circular shift of clips and items, in frames, as the experts' augmentation."""
AVERAGE = 0.98
"""Decay of the moving average of the generator."""
DECAY = (0.5, 0.99)
"""Decays of Adam's moments while the critics play: long memories make the game swing."""
LAST_RATE = 0.02
"""Share of the learning rate that is left at the end of each half of the training."""
FIDELITY = 100.0
"""Weight of the difference between targets and what their bases make, while the critics play."""
STEEPEST = 10.0
"""Mean length of a critic's gradient that counts as diverged; the penalty pulls it to 1."""
LEARNT, KEPT = "generator.", "kept."
"""Beginnings of names in the state; the critic of expert k has ``critic-k.``."""
STOPPED = "stopped"
"""Number of the iteration that was not made, and its loss; absent while all is well."""
WANTED = "targets"
"""Name in the state: what the bases have to make, float32 (classes x bases, mels, frames)."""


def begin(assignment: Assignment) -> State:
    """A generator near its targets or at narrow Gaussians, untrained critics, empty moments, scales of features."""
    random = np.random.default_rng([assignment.settings.seed, 0x6A0])
    shape = shape_of(assignment)
    wanted = {} if isinstance(shape, VectorShape) else {WANTED: targets(assignment)}
    near = tight_gaussian(assignment, shape) if isinstance(shape, VectorShape) else fitted(shape, wanted[WANTED])
    learnt = _prefixed(LEARNT, {**initial(shape.weights, random), **near})
    scales: Arrays = {}
    for number, member in enumerate(assignment.ensemble.members):
        middle, spread = _scale(assignment, to_tensors(member))
        scales |= {f"scale-{number}.mean": middle, f"scale-{number}.spread": spread}
        learnt |= _prefixed(_critic(number), initial(critic_shapes(len(middle), shape.classes), random))
    kept = _prefixed(KEPT, part(learnt, LEARNT))
    return {**with_moments(learnt, list(learnt)), **scales, **kept, **wanted}


def improve(assignment: Assignment, state: State, iteration: int) -> tuple[State, Mapping[str, float]]:
    """One step of the decoder, or one of the generator after some of a critic; none after a divergence.

    Raises:
        RunError: The state is of a generator of another size, as those of older versions are.
    """
    require_own_size(assignment, state)
    if STOPPED in state:
        return state, {"loss": float(state[STOPPED][1]), STOPPED: float(state[STOPPED][0])}
    if iteration < pretraining(assignment):
        following, values = _decode(assignment, state, iteration)
    else:
        following, values = _play(assignment, state, iteration)
    if is_sound(values) and all(np.isfinite(array).all() for array in following.values()):
        return following, values
    note(f"a network diverged in iteration {iteration + 1}: the generator before it is kept")
    loss = values["loss"] if isfinite(values["loss"]) else 0.0
    return {**state, STOPPED: np.array([iteration + 1, loss])}, {"loss": loss, STOPPED: float(iteration + 1)}


def require_own_size(assignment: Assignment, state: State) -> None:
    """Raise RunError if the state is of a generator with weights of other shapes than the assignment's."""
    for name, wanted in shape_of(assignment).weights.items():
        found = state[LEARNT + name].shape if LEARNT + name in state else ()
        if wanted != found:
            raise RunError(
                f"the checkpoint's generator has {name} of shape {found}, this one {wanted}",
                "begin anew with another --out",
            )


def is_sound(values: Mapping[str, float]) -> bool:
    """Whether an iteration's values are finite and its critic's gradients no longer than ``STEEPEST``."""
    return all(map(isfinite, values.values())) and values.get("slope", 0.0) <= STEEPEST


def items(assignment: Assignment, state: State) -> NDArray[np.float32]:
    """The items that the kept generator makes, float32 (items, rows, columns).

    Raises:
        RunError: As :func:`improve`.
    """
    require_own_size(assignment, state)
    settings, shape = assignment.settings, shape_of(assignment)
    z = latent_numbers(settings.seed, 0, assignment.classes, shape.latent)
    if isinstance(shape, VectorShape):
        z = centred(z, assignment.classes)
    learnt = part(state, KEPT)
    weights = to_tensors(as_stored(learnt) if isinstance(shape, GeneratorShape) else learnt)
    with torch.no_grad():
        return generate(shape, weights, torch.from_numpy(z), one_hot(assignment.classes, shape.classes)).numpy()


def tight_gaussian(assignment: Assignment, shape: VectorShape) -> Arrays:
    """The weights of a generator that draws from a Gaussian a class, ``TIGHT`` times as wide as the clips are."""
    middle, spread = fitted_gaussians(assignment)
    straight = np.zeros(shape.weights["last.weight"], dtype=np.float32)
    return {"middle": middle, "spread": np.float32(TIGHT) * spread, "last.weight": straight}


def centred(z: NDArray[np.float32], classes: NDArray[np.int64]) -> NDArray[np.float32]:
    """The same numbers (items, latent) less their mean in each class, so that few items have the mean of many."""
    means = np.stack([z[classes == number].mean(0) for number in range(classes.max() + 1)])
    return np.asarray(z - means[classes], dtype=np.float32)


def pretraining(assignment: Assignment) -> int:
    """Iterations of the decoder alone; a generator of vectors has no codebook to learn."""
    if not assignment.representation.has_time:
        return 0
    return round(assignment.settings.gan.pretraining * assignment.settings.gan.iterations)


def part(state: State, prefix: str) -> Arrays:
    """The arrays whose names begin so, without that beginning."""
    return {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}


def _decode(assignment: Assignment, state: State, iteration: int) -> tuple[State, dict[str, float]]:
    """One step of bases and decoder."""
    settings, share = assignment.settings, iteration / pretraining(assignment)
    random = np.random.default_rng([settings.seed, iteration, 0x6A7])
    learnt = _leaves(state, (LEARNT,))
    loss = _apart(assignment, state, _of(learnt, LEARNT), random)
    changed = _stepped(state, learnt, loss, _rate(settings.gan.generator_rate, share), iteration + 1)
    return {**state, **changed, **_prefixed(KEPT, part(changed, LEARNT))}, {"loss": loss.item()}


def _apart(assignment: Assignment, state: State, weights: Tensors, random: np.random.Generator) -> Tensor:
    """Mean squared difference between some targets and what their bases make."""
    chosen = torch.from_numpy(np.sort(random.permutation(len(state[WANTED]))[:TARGETS]))
    shape = shape_of(assignment)
    if isinstance(shape, VectorShape):
        raise TypeError("a generator of vectors has no codebook")
    made = decode(shape, weights, weights[CODEBOOK][chosen])
    return (made - torch.from_numpy(state[WANTED])[chosen]).square().mean()


def _play(assignment: Assignment, state: State, iteration: int) -> tuple[State, dict[str, float]]:
    """Steps of one critic, then one of the generator."""
    settings, shape = assignment.settings, shape_of(assignment)
    random = np.random.default_rng([settings.seed, iteration, 0x6A8])
    eye, first = _eye(assignment, state, random), pretraining(assignment)
    rate = (iteration - first) / (settings.gan.iterations - first)
    values: dict[str, float] = {}
    for step in range(settings.gan.critic_steps if settings.gan.adversarial_weight else 0):
        count = (iteration - first) * settings.gan.critic_steps + step + 1
        state, values = _criticised(assignment, state, eye, random, count)
        if not is_sound(values | {"loss": 0.0}):
            return state, values | {"loss": 0.0}
    learnt = _leaves(state, (LEARNT,))
    x, classes = clips(assignment, random)
    labels = one_hot(classes, shape.classes)
    made = generate(shape, _of(learnt, LEARNT), _normal(random, len(x), shape.latent), labels).view_as(x)
    moved = roll_each(made, random.integers(-SHIFT, SHIFT + 1, len(x)))
    with torch.no_grad():
        real, truth = eye.look(x)
    ours, logits = eye.look(moved)
    groups = [torch.from_numpy(np.flatnonzero(classes == number)) for number in np.unique(classes)]
    critic = to_tensors(part(state, _critic(eye.number)))
    losses = {
        "adversarial": -criticise(critic, ours, labels).mean(),
        "feature": torch.stack([feature_matching(real[at], ours[at]) for at in groups]).mean(),
        "probability": torch.stack([probability_matching(truth[at], logits[at]) for at in groups]).mean(),
        "diversity": torch.stack([lack_of_diversity(real[at], ours[at]) for at in groups]).mean(),
    }
    weighted = [getattr(settings.gan, f"{name}_weight") * value for name, value in losses.items()]
    if WANTED in state:
        losses["apart"] = _apart(assignment, state, _of(learnt, LEARNT), random)
        weighted.append(FIDELITY * losses["apart"])
    loss = torch.stack(weighted).sum()
    before = _without_moments(state, learnt) if iteration == first else state
    changed = _stepped(
        before, learnt, loss, _rate(settings.gan.generator_rate / 10, rate), iteration - first + 1, DECAY
    )
    kept = {
        name: (AVERAGE * array + (1 - AVERAGE) * changed[LEARNT + name]).astype(np.float32)
        for name, array in part(state, KEPT).items()
    }
    values |= {"loss": loss.item(), **{name: value.item() for name, value in losses.items()}}
    return {**state, **changed, **_prefixed(KEPT, kept)}, values


def _without_moments(state: State, learnt: Tensors) -> State:
    """The state with empty moments of Adam: those of one loss make the first steps of another too long."""
    return with_moments({**state}, list(learnt))


def _criticised(
    assignment: Assignment, state: State, eye: Eye, random: np.random.Generator, count: int
) -> tuple[State, dict[str, float]]:
    """One step of the critic of an expert."""
    settings, shape = assignment.settings, shape_of(assignment)
    x, classes = clips(assignment, random)
    labels = one_hot(classes, shape.classes)
    with torch.no_grad():
        generator = to_tensors(part(state, LEARNT))
        made = generate(shape, generator, _normal(random, len(x), shape.latent), labels).view_as(x)
        moved = roll_each(made, random.integers(-SHIFT, SHIFT + 1, len(x)))
        real, ours = eye.look(torch.cat([x, moved]))[0].chunk(2)
    learnt = _leaves(state, (_critic(eye.number),))
    critic = _of(learnt, _critic(eye.number))
    between = torch.from_numpy(random.random((len(x), 1), dtype=np.float32))
    penalty, slope = gradient_penalty(lambda f: criticise(critic, f, labels), real, ours, between)
    gap = criticise(critic, real, labels).mean() - criticise(critic, ours, labels).mean()
    changed = _stepped(
        state, learnt, settings.gan.penalty_weight * penalty - gap, settings.gan.critic_rate, count, DECAY
    )
    return {**state, **changed}, {"gap": gap.item(), "slope": slope.item()}


@dataclass(frozen=True)
class Eye:
    """One expert, as the generator and its critic see through it.

    Attributes:
        assignment: The work, which holds its graph.
        number: Number of the expert.
        weights: Weights of the expert.
        mean: Mean of the real clips' features, (features,).
        spread: Their standard deviations.
    """

    assignment: Assignment
    number: int
    weights: Tensors
    mean: Tensor
    spread: Tensor

    def look(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features in standard deviations of the real clips, (batch, features), and logits (batch, classes)."""
        seen = look(self.assignment.ensemble.graph, self.weights, x)
        return (seen.features - self.mean) / self.spread, seen.logits


def _eye(assignment: Assignment, state: State, random: np.random.Generator) -> Eye:
    number = int(random.integers(len(assignment.ensemble.members)))
    mean, spread = (torch.from_numpy(state[f"scale-{number}.{name}"]) for name in ("mean", "spread"))
    return Eye(assignment, number, to_tensors(assignment.ensemble.members[number]), mean, spread)


def _scale(assignment: Assignment, member: Tensors) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation of the features of all clips."""
    graph, everything = assignment.ensemble.graph, torch.from_numpy(assignment.task.clips)
    with torch.no_grad():
        features = torch.cat([look(graph, member, x).features for x in torch.split(everything, 64)])
    return features.mean(0).numpy(), features.std(0).clamp_min(SPREAD).numpy()


def clips(assignment: Assignment, random: np.random.Generator) -> tuple[Tensor, NDArray[np.int64]]:
    """A batch of clips as experts read them, and their classes; as many of each class, shifted circularly."""
    task = assignment.task
    numbers = np.sort(random.permutation(task.classes)[:CLASSES])
    chosen = np.concatenate([random.permutation(assignment.clips_of_class(number))[:PER_CLASS] for number in numbers])
    moved = roll_each(torch.from_numpy(task.clips[chosen]), random.integers(-SHIFT, SHIFT + 1, len(chosen)))
    return moved, np.repeat(numbers, PER_CLASS)


def _stepped(
    state: State, learnt: Tensors, loss: Tensor, rate: float, count: int, decay: tuple[float, float] | None = None
) -> Arrays:
    gradients = torch.autograd.grad(loss, list(learnt.values()))
    by_name = {name: gradient.numpy() for name, gradient in zip(learnt, gradients, strict=True)}
    return adam_step(state, by_name, dict.fromkeys(learnt, rate), count, *([decay] if decay else []))


def _rate(highest: float, done: float) -> float:
    """Half a cosine from the highest rate to the last."""
    return highest * (LAST_RATE + (1 - LAST_RATE) * (1 + cos(pi * done)) / 2)


def _critic(number: int) -> str:
    return f"critic-{number}."


def _normal(random: np.random.Generator, *shape: int) -> Tensor:
    return torch.from_numpy(random.standard_normal(shape, dtype=np.float32))


def _prefixed(prefix: str, arrays: Mapping[str, NDArray[np.float32]]) -> Arrays:
    return {prefix + name: array for name, array in arrays.items()}


def _leaves(state: State, prefixes: tuple[str, ...]) -> dict[str, Tensor]:
    """The arrays whose names begin so, as tensors that learn; sorted, since a checkpoint gives them in any order."""
    names = sorted(name for name in state if name.startswith(prefixes))
    return {name: torch.from_numpy(np.array(state[name])).requires_grad_(True) for name in names}


def _of(tensors: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


PROBE_VIEWS = 128
"""Views of the probe, or a few more."""
VECTOR_GENERATOR = "generator.safetensors"
"""Name in the run of the weights of a generator of vectors."""


def files(assignment: Assignment, state: State) -> dict[str, bytes]:
    """The files of a generator by their names in the run, written by :mod:`edgeser_export.writers.onnx_generator`.

    A generator of vectors, which no board draws from, is kept as its weights.
    """
    task, ensemble, settings = assignment.task, assignment.ensemble, assignment.settings
    shape = shape_of(assignment)
    if isinstance(shape, VectorShape):
        return {VECTOR_GENERATOR: safetensors_bytes(part(state, KEPT))}
    description = Description(
        latent=shape.latent,
        labellers=len(ensemble.members),
        temperature=settings.experts.temperature,
        points=settings.ipc,
        clips=tuple(np.bincount(task.labels, minlength=task.classes).tolist()),
    )
    experts = {
        labeller_name(number): halve(write_onnx(ensemble.graph, member), ensemble.graph.parameters)
        for number, member in enumerate(ensemble.members)
    }
    return {
        DESCRIPTION: description.to_bytes(),
        PROBE: probe(assignment, state).to_bytes(),
        GENERATOR: write_generator(shape, part(state, KEPT)),
        **experts,
    }


def probe(assignment: Assignment, state: State) -> StoredSet:
    """One item a class with a few views each, the first ones that the generator makes."""
    views = -(-PROBE_VIEWS // assignment.task.classes)
    few = {"ipc": 1, "views": views, "gan.ratio": "balanced", "samples_per_item": 1}
    small = replace(assignment, settings=changed(assignment.settings, few))
    return build_set(small, items(small, state))
