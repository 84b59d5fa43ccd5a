"""Training on the host: against plain torch loops, and against the board's own training with onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from device.kits import synthetic_set
from torch import Tensor

from edgeser.errors import DivergedError
from edgeser.evaluation.scoring import probabilities
from edgeser.models.experts import Task
from edgeser.models.network import batch_norm, forward, to_tensors
from edgeser.models.students import build
from edgeser.models.training import (
    Augmentation,
    advising,
    augmented_batches,
    roll_each,
    soft_cross_entropy,
    train,
    train_on_clips,
    train_on_set,
    with_statistics,
)
from edgeser_device.data.distilled import DistilledSet
from edgeser_device.data.schedule import Schedule, batch_indices, learning_rate, statistics_batches
from edgeser_device.data.views import render
from edgeser_device.train.trainer import TrainingSession, begin, running_statistics
from edgeser_export.graph.initial import initial_weights
from edgeser_export.graph.op_graph import Graph
from edgeser_export.trainstep.step_graph import statistics_step, training_step

STILL = Augmentation(shift=0, gain=0.0, mixup=0.0)


def batches_of(task: Task, size: int = 8) -> Callable[[int], tuple[Tensor, Tensor]]:
    clips, labels = torch.from_numpy(task.clips), torch.from_numpy(task.hard_labels)

    def batch_of(step: int) -> tuple[Tensor, Tensor]:
        chosen = torch.from_numpy(batch_indices(len(clips), size, 4, step))
        return clips[chosen], labels[chosen]

    return batch_of


def test_soft_cross_entropy_is_the_mean_over_items_of_minus_q_log_p() -> None:
    random = np.random.default_rng(0)
    logits, labels = 3 * random.standard_normal((5, 4)), random.dirichlet(np.ones(4), 5)
    expected = np.mean(
        [
            -sum(q * (z - np.log(np.exp(row).sum())) for q, z in zip(label, row, strict=True))
            for row, label in zip(logits, labels, strict=True)
        ]
    )
    assert soft_cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels)).item() == pytest.approx(expected)
    hard = torch.tensor([0, 3, 1, 2, 2])
    one_hot = torch.eye(4, dtype=torch.float64)[hard]
    plain = torch.nn.functional.cross_entropy(torch.from_numpy(logits), hard)
    assert soft_cross_entropy(torch.from_numpy(logits), one_hot).item() == pytest.approx(plain.item())


@pytest.mark.parametrize(
    ("optimiser", "plain"),
    [
        ("adamw", lambda p: torch.optim.AdamW(p, weight_decay=1e-2)),
        ("sgd", lambda p: torch.optim.SGD(p, momentum=0.9, weight_decay=1e-2)),
        ("plain_sgd", lambda p: torch.optim.SGD(p, weight_decay=1e-2)),
    ],
)
def test_training_is_a_plain_torch_loop(
    task: Task, optimiser: str, plain: Callable[..., torch.optim.Optimizer]
) -> None:
    graph, start = task.graph, initial_weights(task.graph, 2)
    schedule = Schedule(optimiser, steps=7, batch=8, peak_rate=0.02, weight_decay=1e-2)
    batch_of = batches_of(task)
    found = train(graph, start, batch_of, schedule)
    mine = {key: torch.from_numpy(start[key].copy()).requires_grad_(True) for key in graph.parameters}
    steps = plain(list(mine.values()))
    for step in range(7):
        steps.param_groups[0]["lr"] = learning_rate(schedule, step)
        x, q = batch_of(step)
        loss = -(q * forward(graph, mine, x, batch_norm(mine)).log_softmax(1)).sum(1).mean()
        steps.zero_grad()
        loss.backward()
        steps.step()
    assert set(found) == set(graph.parameters)
    for key, value in found.items():
        # foreach and single-tensor updates round differently; seven steps of Adam move a weight by up to 0.07
        torch.testing.assert_close(value, mine[key].detach(), atol=2e-5, rtol=1e-4)


def test_the_start_is_not_changed_and_training_repeats_bit_for_bit(task: Task) -> None:
    start = initial_weights(task.graph, 2)
    before = {key: value.copy() for key, value in start.items()}
    schedule = Schedule(steps=5, batch=8)
    one, other = (train(task.graph, start, batches_of(task), schedule) for _ in range(2))
    assert all(np.array_equal(before[key], start[key]) for key in start)
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert any(not np.array_equal(one[key].numpy(), start[key]) for key in one)


def test_every_step_is_reported_to_the_one_who_watches(task: Task) -> None:
    seen: list[int] = []
    told: list[int] = []
    schedule = Schedule(steps=3, batch=8)
    train(
        task.graph, initial_weights(task.graph, 0), batches_of(task), schedule,
        advance=lambda done, words: told.append(done), after=lambda done, parameters: seen.append(done),
    )  # fmt: skip
    assert seen == [1, 2, 3]
    assert told == [1, 3]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_training(task: Task, bad: float) -> None:
    batch_of = batches_of(task)

    def spoilt(step: int) -> tuple[Tensor, Tensor]:
        x, q = batch_of(step)
        return (x * bad if step == 2 else x), q

    with pytest.raises(DivergedError, match=r"the loss of step \d+ is") as caught:
        train(task.graph, initial_weights(task.graph, 0), spoilt, Schedule(steps=6, batch=8, peak_rate=0.01))
    assert "0.01" in caught.value.hint


def test_a_loss_beyond_the_bound_has_diverged(task: Task) -> None:
    """Labels that add up to a thousand make the loss a thousand times as large."""
    batch_of, start = batches_of(task), initial_weights(task.graph, 0)

    def dear(step: int) -> tuple[Tensor, Tensor]:
        x, q = batch_of(step)
        return x, q * 1000

    with pytest.raises(DivergedError, match=r"the loss of step 1 is \d+"):
        train(task.graph, start, dear, Schedule(steps=2, batch=8, peak_rate=0.01))
    with pytest.raises(DivergedError) as caught, advising("use --peak-rate below 1"):
        train(task.graph, start, dear, Schedule(steps=2, batch=8, peak_rate=0.01))
    assert caught.value.hint == "use --peak-rate below 1"


def test_a_far_too_large_rate_diverges_into_an_error_or_finite_weights(task: Task) -> None:
    schedule = Schedule("plain_sgd", steps=60, batch=8, peak_rate=100.0, warm_share=0.0, start_divisor=1.0)
    try:
        found = train(task.graph, initial_weights(task.graph, 0), batches_of(task), schedule)
    except DivergedError:
        return
    assert all(value.isfinite().all() for value in found.values())


def test_statistics_are_the_mean_over_the_batches(task: Task) -> None:
    tensors = to_tensors(initial_weights(task.graph, 1))
    parameters = {key: tensors[key] for key in task.graph.parameters}
    first, second = torch.from_numpy(task.clips[:8]), torch.from_numpy(task.clips[8:16])
    alone = [with_statistics(task.graph, parameters, [batch]) for batch in (first, second)]
    both = with_statistics(task.graph, parameters, iter([first, second]))
    for key in task.graph.statistics:
        np.testing.assert_allclose(both[key], (alone[0][key] + alone[1][key]) / 2, rtol=1e-6, atol=1e-7)
    assert set(both) == {*task.graph.parameters, *task.graph.statistics}


def test_a_distilled_set_is_trained_on_its_own_views_and_no_others(distilled: DistilledSet) -> None:
    graph = build("edgenet", 3, 0.25)
    start, schedule = initial_weights(graph, 0), replace(distilled.schedule, steps=9)
    short = replace(distilled, schedule=schedule)
    items = short.items()

    def batch_of(step: int) -> tuple[Tensor, Tensor]:
        indices = batch_indices(len(short.recipes), schedule.batch, 5, step)
        views = render(items, short.recipes, indices)
        return torch.from_numpy(views), torch.from_numpy(short.soft_labels[indices].astype(np.float32))

    expected = train(graph, start, batch_of, schedule)
    found = train_on_set(graph, start, short, seed=5)
    for key, value in expected.items():
        assert np.array_equal(found[key], value.numpy())
    views = [
        torch.from_numpy(render(items, short.recipes, indices))
        for indices in statistics_batches(len(short.recipes), schedule.batch)
    ]
    for key, value in with_statistics(graph, expected, views).items():
        assert np.array_equal(found[key], value)


def test_another_seed_is_another_order(distilled: DistilledSet) -> None:
    graph = build("edgenet", 3, 0.25)
    short = replace(distilled, schedule=replace(distilled.schedule, steps=3))
    one, other = (train_on_set(graph, initial_weights(graph, 0), short, seed) for seed in (0, 1))
    assert not np.array_equal(one["conv1.weight"], other["conv1.weight"])


def on_the_board(
    graph: object, start: dict[str, np.ndarray], distilled: DistilledSet, seed: int
) -> dict[str, np.ndarray]:
    """The same training with onnxruntime, as the board runs it."""
    schedule = distilled.schedule
    session = TrainingSession(training_step(graph, schedule.batch, schedule.optimiser), threads=1)
    state, items = begin(graph, start, schedule.optimiser), distilled.items()
    for _ in range(schedule.steps):
        state, _ = session.step(state, distilled, items, schedule, seed)
    parameters = {key: state.values[key] for key in graph.parameters}
    statistics = running_statistics(statistics_step(graph, schedule.batch), 1, graph, parameters, distilled)
    return {**parameters, **statistics}


def relative_difference(
    host: dict[str, np.ndarray], board: dict[str, np.ndarray], start: dict[str, np.ndarray]
) -> float:
    """Largest over the tensors: their distance, by how far training moved the tensor."""
    assert set(host) == set(board)
    moved = {key: float(np.linalg.norm(host[key] - start[key])) for key in host}
    return max(float(np.linalg.norm(host[key] - board[key])) / max(moved[key], 1e-6) for key in host)


def agreement(graph: Graph, distilled: DistilledSet) -> tuple[float, float]:
    """How far apart host and board end: of the way that weights went, and in probabilities of the views."""
    start = initial_weights(graph, 0)
    host, board = train_on_set(graph, start, distilled, seed=1), on_the_board(graph, start, distilled, seed=1)
    x = render(distilled.items(), distilled.recipes, np.arange(24))
    apart = np.abs(probabilities(graph, host, x) - probabilities(graph, board, x)).max()
    return relative_difference(host, board, start), float(apart)


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_host_and_board_train_the_same_edgenet(optimiser: str) -> None:
    """Both see the same bits, but sum in another order.

    Usually they end 1e-4 apart; where two frames tie for the maximum, or a unit stands at zero, up to 0.03 was seen.
    """
    distilled = synthetic_set(steps=40, optimiser=optimiser, peak_rate=0.01)
    weights, apart = agreement(build("edgenet", 3, 1.0), distilled)
    assert weights < 0.05
    assert apart < 0.01


@pytest.mark.slow
@pytest.mark.parametrize(("optimiser", "way", "views"), [("sgd", 0.01, 0.001), ("adamw", 0.3, 0.05)])
def test_host_and_board_train_the_same_cnn6(optimiser: str, way: float, views: float) -> None:
    """Adam's first steps are as long for a gradient of nearly zero as for a large one, so its last bits weigh more."""
    distilled = synthetic_set(steps=12, batch=8, views=2, optimiser=optimiser, peak_rate=0.005)
    weights, apart = agreement(build("cnn6", 3, 0.25), distilled)
    assert weights < way
    assert apart < views


def test_augmented_batches_depend_on_seed_and_step_only(task: Task) -> None:
    clips, labels = torch.from_numpy(task.clips), torch.from_numpy(task.hard_labels)
    one, other = (augmented_batches(clips, labels, 8, 3, Augmentation()) for _ in range(2))
    other(0), other(2)
    later = other(5)
    assert all(torch.equal(a, b) for a, b in zip(one(5), later, strict=True))
    assert not torch.equal(one(5)[0], one(6)[0])
    x, q = one(1)
    assert x.dtype == q.dtype == torch.float32
    torch.testing.assert_close(q.sum(1), torch.ones(8))


def test_without_augmentation_a_batch_is_the_clips_themselves(task: Task) -> None:
    clips, labels = torch.from_numpy(task.clips), torch.from_numpy(task.hard_labels)
    x, q = augmented_batches(clips, labels, 8, 3, STILL)(2)
    chosen = batch_indices(len(clips), 8, 3, 2)
    assert torch.equal(x, clips[chosen])
    assert torch.equal(q, labels[chosen])


def test_mixing_mixes_clips_and_labels_alike(task: Task) -> None:
    """With clips that are their own labels, whatever was mixed can be read from the picture."""
    labels = torch.from_numpy(task.hard_labels)
    clips = labels.argmax(1).float()[:, None, None, None].expand(-1, 1, 64, 96).contiguous()
    x, q = augmented_batches(clips, labels, 8, 0, Augmentation(shift=12, gain=0.0, mixup=1.0))(0)
    torch.testing.assert_close(x[:, 0, 0, 0], (q * torch.arange(3.0)).sum(1))
    assert ((q > 0).sum(1) > 1).any()


def test_items_roll_each_by_its_own_shift() -> None:
    x = torch.randn(4, 1, 3, 10, generator=torch.Generator().manual_seed(0))
    shifts = np.array([0, 3, -4, 13])
    for row, shift, source in zip(roll_each(x, shifts), shifts, x, strict=True):
        assert torch.equal(row, source.roll(int(shift), dims=2))


def test_training_on_clips_learns_them(task: Task) -> None:
    clips, labels = torch.from_numpy(task.clips), torch.from_numpy(task.hard_labels)
    schedule = Schedule(steps=30, batch=8, peak_rate=0.01)
    start = initial_weights(task.graph, 0)
    weights = to_tensors(train_on_clips(task.graph, start, clips, labels, schedule, 0, Augmentation()))
    before, after = (
        soft_cross_entropy(forward(task.graph, each, clips, batch_norm(each)), labels).item()
        for each in (to_tensors(start), weights)
    )
    assert after < 0.7 * before
