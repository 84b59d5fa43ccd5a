"""Experts: trajectories with a snapshot after every epoch, repeatable, and their files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from edgeser.errors import RunError
from edgeser.evaluation.scoring import probabilities
from edgeser.models.experts import (
    Ensemble,
    ExpertRecipe,
    Task,
    Trajectory,
    load_trajectory,
    save_trajectory,
    steps_per_epoch,
    train_expert,
)
from edgeser.models.training import train_on_clips
from edgeser_export.graph.initial import initial_weights
from edgeser_export.graph.reference import run_reference, softmax

RECIPE = ExpertRecipe("sgd", epochs=3, batch=10, peak_rate=0.01)


@pytest.fixture(scope="module")
def trajectory(task: Task) -> Trajectory:
    return train_expert(task, initial_weights(task.graph, 0), RECIPE, seed=5)


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return set(one) == set(other) and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(("clips", "batch", "steps"), [(24, 8, 3), (25, 8, 4), (1, 8, 1), (192, 32, 6)])
def test_an_epoch_sees_every_clip(clips: int, batch: int, steps: int) -> None:
    assert steps_per_epoch(clips, batch) == steps


def test_there_is_a_snapshot_of_the_start_and_of_every_epoch(task: Task, trajectory: Trajectory) -> None:
    start = initial_weights(task.graph, 0)
    assert trajectory.epochs == 3
    assert all(stack.shape == (4, *task.graph.parameters[name]) for name, stack in trajectory.snapshots.items())
    assert same(trajectory.at(0), {name: start[name] for name in task.graph.parameters})
    assert same(trajectory.at(3), {name: trajectory.final[name] for name in task.graph.parameters})
    moved = [
        float(np.abs(trajectory.at(k + 1)["conv2.weight"] - trajectory.at(k)["conv2.weight"]).max()) for k in range(3)
    ]
    assert min(moved) > 0


def test_a_snapshot_is_the_state_after_that_many_steps(task: Task, trajectory: Trajectory) -> None:
    """Recorded once more by hand: 24 clips in batches of 10 are three steps an epoch."""
    seen = {}
    train_on_clips(
        task.graph, initial_weights(task.graph, 0), torch.from_numpy(task.clips), torch.from_numpy(task.hard_labels),
        RECIPE.schedule(24), 5, RECIPE.augmentation,
        after=lambda done, parameters: seen.update({done: parameters["logits.bias"].detach().numpy().copy()}),
    )  # fmt: skip
    assert len(seen) == 9
    for epoch in (1, 2, 3):
        assert np.array_equal(trajectory.at(epoch)["logits.bias"], seen[3 * epoch])


def test_a_trajectory_is_a_pure_function(task: Task, trajectory: Trajectory) -> None:
    again = train_expert(task, initial_weights(task.graph, 0), RECIPE, seed=5)
    assert same(again.snapshots, trajectory.snapshots)
    assert same(again.final, trajectory.final)
    other = train_expert(task, initial_weights(task.graph, 0), RECIPE, seed=6)
    assert not np.array_equal(other.final["conv1.weight"], trajectory.final["conv1.weight"])


def test_without_snapshots_the_end_is_the_same(task: Task, trajectory: Trajectory) -> None:
    bare = train_expert(task, initial_weights(task.graph, 0), RECIPE, seed=5, keep_snapshots=False)
    assert bare.epochs == 0
    assert same(bare.final, trajectory.final)


def test_a_file_brings_every_bit_back(tmp_path: Path, trajectory: Trajectory) -> None:
    save_trajectory(tmp_path / "expert", trajectory)
    found = load_trajectory(tmp_path / "expert")
    assert same(found.snapshots, trajectory.snapshots)
    assert same(found.final, trajectory.final)


def test_a_file_gives_its_arrays_in_the_order_of_their_names(tmp_path: Path, trajectory: Trajectory) -> None:
    """The library gives them in another order in every process; sums over them would end in other bits."""
    save_trajectory(tmp_path / "expert", trajectory)
    found = load_trajectory(tmp_path / "expert")
    assert list(found.snapshots) == sorted(found.snapshots)
    assert list(found.final) == sorted(found.final)


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "foreign", "missing"])
def test_a_damaged_file_is_named_with_a_way_out(tmp_path: Path, trajectory: Trajectory, damage: str) -> None:
    path = tmp_path / "expert.safetensors"
    save_trajectory(path, trajectory)
    match damage:
        case "cut":
            path.write_bytes(path.read_bytes()[:-100])
        case "garbage":
            path.write_bytes(b"\xff" * 100)
        case "empty":
            path.write_bytes(b"")
        case "foreign":
            path.write_bytes(save({"weights": np.zeros(3, np.float32)}))
        case "missing":
            path.unlink()
    with pytest.raises(RunError, match=r"expert\.safetensors") as caught:
        load_trajectory(path)
    assert "remove that file" in caught.value.hint


def test_an_ensemble_labels_with_the_mean_of_its_softmaxes(task: Task) -> None:
    start = initial_weights(task.graph, 0)
    members = tuple(train_expert(task, start, replace(RECIPE, epochs=1), seed).final for seed in (0, 1, 2))
    x, temperature = task.clips[:7], 2.0
    found = Ensemble(task.graph, members).soft_labels(x, temperature)
    expected = np.mean([softmax(run_reference(task.graph, member, x) / temperature) for member in members], axis=0)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
    assert found.dtype == np.float32


def test_a_higher_temperature_is_less_sure(task: Task, trajectory: Trajectory) -> None:
    ensemble = Ensemble(task.graph, (trajectory.final,))
    surest = [ensemble.soft_labels(task.clips, temperature).max(1).mean() for temperature in (0.5, 1.0, 2.0, 100.0)]
    assert surest == sorted(surest, reverse=True)
    assert surest[-1] < 0.36  # three classes


def test_at_temperature_one_a_lone_expert_labels_as_it_predicts(task: Task, trajectory: Trajectory) -> None:
    labels = Ensemble(task.graph, (trajectory.final,)).soft_labels(task.clips, 1.0)
    predicted = probabilities(task.graph, trajectory.final, task.clips)
    np.testing.assert_allclose(labels, predicted, atol=1e-6)
