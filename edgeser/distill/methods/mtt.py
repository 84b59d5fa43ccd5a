"""Trajectory matching (Cazenavette et al. 2022, arXiv 2203.11932; for speech: arXiv 2406.15119).

A student starts from a snapshot of an expert and takes Q steps on the items; the items move so that the student ends
near the expert's snapshot P epochs later:

    loss = || theta_Q - theta*_(t+P) ||^2 / || theta*_t - theta*_(t+P) ||^2

The student's step size is learnt too, through softplus, so that it stays positive; so may be the labels of the items,
through softmax, and t comes from a window that moves, and what matches too badly is skipped (DATM, Guo et al. 2024,
arXiv 2310.05773). What is shipped may be a moving average of the items (FTD, Du et al. 2023, arXiv 2211.11004).
Parameters are matched; the batch normalisations use the statistics of the batch throughout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log2

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from edgeser.config.settings import Settings
from edgeser.distill.method import Assignment, State
from edgeser.distill.methods.inner_training import MEMORY, Batch, MetaLoss, Student, UnrollSpec, without_graph
from edgeser.distill.optimise import adam_step, with_moments
from edgeser.distill.starts import begin_items
from edgeser.errors import DivergedError
from edgeser.models.network import Tensors, as_input, to_tensors
from edgeser.models.training import roll_each
from edgeser_device.data.schedule import Schedule


def last_start(settings: Settings) -> int:
    """The latest epoch at which any match starts; ``settings`` are resolved."""
    doublings = log2(max(1, settings.ipc * settings.samples_per_item))
    return settings.mtt.max_start_epoch + round(settings.mtt.start_epoch_growth * doublings)


def start_range(settings: Settings, iteration: int) -> tuple[int, int]:
    """The earliest and the latest epoch at which the match of an iteration, counted from 0, may start."""
    last, mtt = last_start(settings), settings.mtt
    first = min(mtt.first_max_start_epoch, last)
    latest = first + round((last - first) * iteration / max(1, mtt.iterations - 1))
    return min(mtt.min_start_epoch, latest), latest


def epochs_used(settings: Settings) -> int:
    """The number of epochs of the trajectories that some match may see; no more are trained."""
    return last_start(settings) + settings.mtt.expert_span


SHIFT = 12
"""Largest circular shift of an item inside a match, in frames, as the experts' augmentation."""
STEP_SIZE_RATE = 0.01
"""Learning rate of the raw step size."""
STEPS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16)
"""Step sizes that are tried where none is given: one far too large moves the student past every target."""
TRIED = 2
"""Matches with which they are tried."""
NEARLY_SURE = 0.9
"""Share of its class in the label with which an item begins that the experts take for another."""
SMALLEST_SHARE = 1e-4
"""The least share of a class in any label at the beginning, so that its logit is finite."""
LONGEST_RUN = 50
"""Losses above the bound in a row after which nothing will come of it."""
BOUND = 10.0
"""The bound is the gate, or this where the gate is wider; 1 is a student that stays where it started."""


def begin(assignment: Assignment) -> State:
    """Items as the settings want them to begin, the step size, labels if they are learnt, empty moments of Adam."""
    settings, items = assignment.settings, begin_items(assignment)
    learnt = {_items(assignment): items}
    if settings.mtt.label_rate:
        learnt["label_logits"] = _first_logits(assignment, items)
    size = settings.mtt.step_size or _best_step(assignment, learnt)
    learnt["raw_step"] = np.array([np.log(np.expm1(size))], dtype=np.float32)
    counts = {"skipped": np.zeros(1, np.int64), "run": np.zeros(1, np.int64)}
    return {**with_moments(learnt, sorted(learnt)), "items": items, **counts}


def improve(assignment: Assignment, state: State, iteration: int) -> tuple[State, Mapping[str, float]]:
    """One match, and one update of what is learnt unless the match is worse than the gate.

    Raises:
        DivergedError: The loss or its gradient is not finite, or too many losses in a row were above the bound.
    """
    settings, match = assignment.settings, draw_match(assignment, iteration)
    loss, gradients = match_gradients(assignment, state, match)
    run = _checked_run(assignment, state, iteration, loss, gradients)
    skipped, following = int(state["skipped"][0]), dict(state)
    if loss > settings.mtt.loss_threshold:
        skipped += 1
    else:
        following |= adam_step(state, gradients, _rates(assignment), iteration + 1 - skipped)
        following["items"] = _shipped(assignment, state, following[_items(assignment)])
    following |= {"skipped": np.array([skipped]), "run": np.array([run])}
    step = float(functional.softplus(torch.from_numpy(following["raw_step"])).item())
    return following, {"loss": loss, "start_epoch": match.epoch, "step_size": step, "skipped": skipped}


def labels(assignment: Assignment, state: State) -> NDArray[np.float32] | None:
    """The labels with which items were matched, float32 (items, classes); None where a student reads the bank."""
    if not assignment.settings.mtt.plain_steps:
        return None
    if "label_logits" in state:
        return torch.from_numpy(np.array(state["label_logits"])).softmax(1).numpy()
    return np.eye(assignment.task.classes, dtype=np.float32)[assignment.classes]


def schedule(assignment: Assignment, state: State) -> Schedule | None:
    """Plain steps at the learnt step size, rounded to four digits; None where a student reads the bank."""
    mtt = assignment.settings.mtt
    if not mtt.plain_steps:
        return None
    size = float(f"{functional.softplus(torch.from_numpy(np.array(state['raw_step']))).item():.4g}")
    batch = min(mtt.student_batch, len(assignment.classes))
    return Schedule("plain_sgd", mtt.plain_steps, batch, peak_rate=size, weight_decay=0.0, rates=(size,))


@dataclass(frozen=True)
class Match:
    """One match: the weights at which a student starts, those at which it should end, and its batches.

    Attributes:
        epoch: The epoch of the snapshot at which it starts.
        start: That snapshot.
        target: The one P epochs later.
        batches: For each step the items that it sees, and how far each is shifted.
    """

    epoch: int
    start: Mapping[str, NDArray[np.float32]]
    target: Mapping[str, NDArray[np.float32]]
    batches: tuple[tuple[NDArray[np.int64], NDArray[np.int64]], ...]


def draw_match(assignment: Assignment, iteration: int) -> Match:
    """The match of an iteration: trajectory, start, items and shifts depend on the seed and its number only."""
    settings, count = assignment.settings, len(assignment.classes)
    random = np.random.default_rng([settings.seed, iteration, 0x377])
    trajectory = assignment.trajectories[random.integers(len(assignment.trajectories))]
    first, last = (
        min(epoch, trajectory.epochs - settings.mtt.expert_span) for epoch in start_range(settings, iteration)
    )
    epoch = int(random.integers(first, last + 1))
    size, batches = min(settings.mtt.student_batch, count), []
    for _ in range(settings.mtt.student_steps):
        chosen = np.sort(random.permutation(count)[:size]) if size < count else np.arange(count)
        batches.append((chosen, random.integers(-SHIFT, SHIFT + 1, size)))
    return Match(epoch, trajectory.at(epoch), trajectory.at(epoch + settings.mtt.expert_span), tuple(batches))


def match_gradients(assignment: Assignment, state: State, match: Match) -> tuple[float, dict[str, NDArray[np.float32]]]:
    """The loss of a match, and its gradient by each array of the state that is learnt."""
    settings, start = assignment.settings, Student(to_tensors(match.start), 0)
    learnt = {name: torch.from_numpy(np.array(state[name])).requires_grad_(True) for name in sorted(_rates(assignment))}
    through, spec = MEMORY[settings.mtt.memory], _unroll_spec(assignment, match)
    _, loss, gradients = through(spec, start, learnt, settings.mtt.student_steps, _meta_loss(match))
    return loss.item(), {name: gradient.numpy() for name, gradient in gradients.items()}


def _unroll_spec(assignment: Assignment, match: Match) -> UnrollSpec:
    """Plain gradient steps on the items of each batch, as a function of what is learnt."""
    hard = functional.one_hot(torch.from_numpy(assignment.classes), assignment.task.classes).float()
    items, graph = _items(assignment), assignment.task.graph

    def batch_of(learnt: Tensors, number: int) -> Batch:
        chosen, shifts = match.batches[number]
        places = torch.from_numpy(chosen)
        labels = learnt["label_logits"].softmax(1) if "label_logits" in learnt else hard
        rate = functional.softplus(learnt["raw_step"])[0]
        return Batch(roll_each(as_input(graph, learnt[items][places]), shifts), labels[places], rate)

    return UnrollSpec(graph, "plain_sgd", 0.0, batch_of)


def _meta_loss(match: Match) -> MetaLoss:
    """The student's distance from the target, as a share of the expert's way."""
    target = to_tensors(match.target)
    way = _distance(to_tensors(match.start), target)
    return lambda reached, _learnt: _distance(reached, target) / way


def _best_step(assignment: Assignment, learnt: State) -> float:
    """The step size of ``STEPS`` with which students on the items as they begin come nearest to their targets."""
    arrays = {name: torch.from_numpy(np.array(array)) for name, array in learnt.items()}
    losses = np.zeros(len(STEPS))
    for number in range(TRIED):
        match = draw_match(assignment, number)
        spec, start, meta_loss = _unroll_spec(assignment, match), Student(to_tensors(match.start), 0), _meta_loss(match)
        for place, size in enumerate(STEPS):
            sized = {**arrays, "raw_step": torch.tensor([size]).expm1().log()}
            reached = without_graph(spec, start, sized, assignment.settings.mtt.student_steps)[-1]
            losses[place] += meta_loss(reached.values, sized).item()
    return STEPS[int(np.nan_to_num(losses, nan=np.inf).argmin())]


def _distance(a: Tensors, b: Tensors) -> Tensor:
    # In the order of the names: sums in another order end in other bits, and a resumed run must not.
    return torch.stack([(a[name] - b[name]).square().sum() for name in sorted(b)]).sum()


def _items(assignment: Assignment) -> str:
    """The name of the items that are learnt; those that are shipped are always called items."""
    return "raw_items" if assignment.settings.mtt.ema_decay else "items"


def _shipped(assignment: Assignment, state: State, learnt: NDArray[np.float32]) -> NDArray[np.float32]:
    decay = np.float32(assignment.settings.mtt.ema_decay)
    return np.asarray(decay * state["items"] + (1 - decay) * learnt) if decay else learnt


def _rates(assignment: Assignment) -> dict[str, float]:
    """The learning rate of each array that is learnt."""
    settings = assignment.settings
    rates = {_items(assignment): settings.mtt.item_rate, "raw_step": STEP_SIZE_RATE}
    return {**rates, "label_logits": settings.mtt.label_rate} if settings.mtt.label_rate else rates


def _first_logits(assignment: Assignment, items: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits of the experts' labels of the items; of nearly sure labels where these deny the class or nobody labels."""
    classes = assignment.task.classes
    sure = np.full((len(items), classes), (1 - NEARLY_SURE) / (classes - 1))
    sure[np.arange(len(items)), assignment.classes] = NEARLY_SURE
    if assignment.ensemble.members:
        found = assignment.ensemble.soft_labels(items, assignment.settings.experts.temperature)
        sure = np.where((found.argmax(1) == assignment.classes)[:, None], found, sure)
    return np.asarray(np.log(np.maximum(sure, SMALLEST_SHARE)), dtype=np.float32)


def _checked_run(
    assignment: Assignment, state: State, iteration: int, loss: float, gradients: Mapping[str, NDArray[np.float32]]
) -> int:
    """The number of losses in a row, with this one, were above the bound; the run of hopeless ones ends here."""
    settings, what = assignment.settings, ""
    bound = min(settings.mtt.loss_threshold, BOUND)
    run = int(state["run"][0]) + 1 if loss > bound else 0
    if not np.isfinite(loss) or not all(np.isfinite(gradient).all() for gradient in gradients.values()):
        what = f"the matching loss of iteration {iteration + 1} is {loss}, or its gradient is not finite"
    elif run >= LONGEST_RUN:
        what = f"the matching loss was above {bound:g} in {run} iterations in a row, {loss:.3g} in the last"
    if what:
        size = functional.softplus(torch.from_numpy(np.array(state["raw_step"]))).item()
        hint = f"set mtt.step_size below {size:.2g} or mtt.student_steps below {settings.mtt.student_steps}"
        raise DivergedError(what, hint)
    return run
