"""Kits with learnt rates: host and board make the same steps, in any number, interrupted or not."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from device.kits import synthetic_set, write_kit
from safetensors.numpy import load

from edgeser.models.training import train_on_set
from edgeser_device.data.distilled import DistilledSet
from edgeser_device.data.schedule import Schedule, learning_rate
from edgeser_device.kit.kit import Kit, read_kit
from edgeser_device.train.train import Settings, train
from edgeser_device.train.trainer import checkpoint_path, load_checkpoint

STEPS = 12
ONE = Settings(threads=1)
LEARNT = (0.002, 0.02, 0.01, 0.03, 0.0005)


def with_rates(distilled: DistilledSet, rates: tuple[float, ...]) -> DistilledSet:
    return replace(distilled, schedule=replace(distilled.schedule, rates=rates))


def one_a_step(schedule: Schedule) -> tuple[float, ...]:
    return tuple(learning_rate(schedule, step) for step in range(schedule.steps))


def kit_of(folder: Path, distilled: DistilledSet) -> Kit:
    folder.mkdir()
    return read_kit(write_kit(folder, distilled).path)


def trained(kit: Kit, folder: Path, steps: int | None = None) -> dict[str, np.ndarray]:
    train(kit, folder, replace(ONE, steps=steps))
    return load((folder / "weights.safetensors").read_bytes())


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return set(one) == set(other) and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def cycle() -> DistilledSet:
    """A set that is trained on one cycle."""
    return synthetic_set(steps=STEPS, views=2)


@pytest.fixture(scope="module")
def learnt(cycle: DistilledSet) -> DistilledSet:
    """The same with five learnt rates for its twelve steps."""
    return with_rates(cycle, LEARNT)


@pytest.fixture(scope="module")
def kit(learnt: DistilledSet, tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """A kit of learnt rates."""
    return kit_of(tmp_path_factory.mktemp("learnt") / "kit", learnt)


def test_a_set_keeps_its_rates(learnt: DistilledSet) -> None:
    assert DistilledSet.from_bytes(learnt.to_bytes()).schedule == learnt.schedule


def test_the_kit_and_its_manifest_hold_the_rates(kit: Kit) -> None:
    assert kit.distilled.schedule.rates == LEARNT
    with zipfile.ZipFile(kit.path) as archive:
        assert json.loads(archive.read("manifest.json"))["schedule"]["rates"] == list(LEARNT)


def test_the_cycle_written_out_trains_the_same_bits_on_host_and_board(cycle: DistilledSet, tmp_path: Path) -> None:
    """So both sides take every rate from the schedule, and from nowhere else."""
    written = with_rates(cycle, one_a_step(cycle.schedule))
    plain, explicit = kit_of(tmp_path / "plain", cycle), kit_of(tmp_path / "explicit", written)
    assert same(trained(plain, tmp_path / "a"), trained(explicit, tmp_path / "b"))
    start = dict(plain.weights)
    assert same(train_on_set(plain.graph, start, cycle, 0), train_on_set(plain.graph, start, written, 0))


def test_other_rates_train_another_student(cycle: DistilledSet, kit: Kit, tmp_path: Path) -> None:
    assert not same(trained(kit_of(tmp_path / "plain", cycle), tmp_path / "a"), trained(kit, tmp_path / "b"))


@pytest.mark.parametrize("steps", [7, 30])
def test_more_or_fewer_steps_spread_the_rates(learnt: DistilledSet, kit: Kit, tmp_path: Path, steps: int) -> None:
    spread = with_rates(learnt, one_a_step(replace(learnt.schedule, steps=steps)))
    assert same(
        trained(kit, tmp_path / "a", steps), trained(kit_of(tmp_path / "spread", spread), tmp_path / "b", steps)
    )


def test_host_and_board_end_at_the_same_student(learnt: DistilledSet, kit: Kit, tmp_path: Path) -> None:
    """They sum in another order, so not to the last bit; the tolerance is that of the tests of one cycle."""
    start = dict(kit.weights)
    host, board = train_on_set(kit.graph, start, learnt, 0), trained(kit, tmp_path / "model")
    for name in kit.graph.parameters:
        moved = float(np.linalg.norm(host[name] - start[name]))
        assert float(np.linalg.norm(host[name] - board[name])) < 0.05 * max(moved, 1e-6)


def test_an_interrupted_training_ends_with_the_same_bits(kit: Kit, tmp_path: Path) -> None:
    def stop(done: int, words: str) -> None:
        if done == 5:
            raise KeyboardInterrupt

    whole = trained(kit, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(kit, tmp_path / "model", ONE, stop)
    assert load_checkpoint(checkpoint_path(tmp_path / "model")).state.done == 5
    report = train(kit, tmp_path / "model", replace(ONE, resume=True))
    assert report.resumed_at == 5
    assert same(load((tmp_path / "model" / "weights.safetensors").read_bytes()), whole)
