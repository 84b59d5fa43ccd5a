"""Points drawn on the board: numbers, class counts, fresh and fixed sets, training and going on."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from device.generators import write_generator_kit
from device.kits import LABELS, write_kit
from hypothesis import given
from hypothesis import strategies as st

from edgeser_device.data.generated import (
    BYTES_OF_A_VALUE,
    DESCRIPTION,
    GENERATOR,
    Description,
    Drawing,
    Points,
    class_counts,
    latent_numbers,
    open_source,
)
from edgeser_device.data.schedule import batch_indices
from edgeser_device.errors import KitDamaged, KitError, TrainingError
from edgeser_device.kit.kit import Kit, read_kit
from edgeser_device.model.model import load_model
from edgeser_device.train import steps
from edgeser_device.train.train import Settings, train

SOUND = {"latent": 4, "labellers": 1, "temperature": 2.0, "points": 2, "clips": [3, 3]}


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return read_kit(write_generator_kit(tmp_path_factory.mktemp("generator")))


PINNED = [23, 29, 17, 26, 21, 4, 15, 38]
"""Whose turn it is in the first eight items of the first class, as any numpy draws them."""


def test_latent_numbers_are_standard_normal_and_the_same_on_every_version() -> None:
    classes = np.repeat(np.arange(5), 100)
    numbers = latent_numbers(seed=3, epoch=0, classes=classes, size=40)
    assert numbers.shape == (500, 40)
    assert numbers.dtype == np.float32
    assert abs(float(numbers.mean())) < 0.03
    assert abs(float(numbers.std()) - 1) < 0.02
    assert abs(float((numbers**4).mean()) - 3) < 0.15  # kurtosis of a normal
    first = np.random.PCG64(np.random.SeedSequence([3, 0, 0x6E0])).random_raw(20000)
    unit = ((first >> np.uint64(11)).astype(np.float64) + 0.5) / 2**53
    expected = np.sqrt(-2 * np.log(unit[0])) * np.cos(2 * np.pi * unit[10000])
    assert np.isclose(numbers[0], expected, rtol=1e-6).sum() == 1
    assert numbers[:8].argmax(1).tolist() == PINNED
    assert not np.array_equal(numbers, latent_numbers(seed=3, epoch=1, classes=classes, size=40))


@given(seed=st.integers(0, 1000), counts=st.lists(st.integers(0, 30), min_size=1, max_size=4), size=st.integers(1, 9))
def test_every_basis_has_as_many_items_of_a_class_as_any_other_or_one_more(
    seed: int, counts: list[int], size: int
) -> None:
    classes = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    largest = latent_numbers(seed, 0, classes, size).argmax(1)
    for number in np.unique(classes):
        each = np.bincount(largest[classes == number], minlength=size)
        assert each.max() - each.min() <= 1


def test_the_bases_come_in_another_order_with_every_seed_and_epoch() -> None:
    classes = np.zeros(32, np.int64)
    orders = [latent_numbers(seed, epoch, classes, 32).argmax(1).tolist() for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert all(sorted(order) == list(range(32)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3


@given(st.integers(1, 200), st.lists(st.integers(1, 500), min_size=2, max_size=8))
def test_class_counts_follow_the_clips(points: int, clips: list[int]) -> None:
    counts = class_counts(points, clips)
    total, every = points * len(clips), sum(clips)
    assert min(counts) >= 1
    assert sum(counts) >= total
    assert sum(counts) == total or 1 in counts
    for count, number in zip(counts, clips, strict=True):
        assert count == 1 or abs(count - total * number / every) < 1


def test_equal_clips_give_equal_counts() -> None:
    assert class_counts(7, [30, 30, 30]) == [7, 7, 7]
    assert class_counts(2, [60, 30, 30]) == [3, 2, 1]


def test_a_kit_with_a_generator_draws_its_own_number_by_default(kit: Kit) -> None:
    schedule = kit.distilled.schedule
    distilled, items = open_source(kit, Drawing(), schedule, 0, 1)(0)
    assert np.bincount(distilled.classes).tolist() == [4, 4, 4]
    assert np.array_equal(items, distilled.items())
    assert distilled.names == LABELS
    assert len(distilled.recipes) >= 2048
    assert np.allclose(distilled.soft_labels.astype(np.float64).sum(1), 1, atol=2e-3)


def test_drawing_as_the_corpus_has_them(kit: Kit) -> None:
    source = open_source(kit, Drawing(points=10, as_original=True), kit.distilled.schedule, 0, 1)
    assert np.bincount(source(0)[0].classes).tolist() == [15, 10, 5]


def test_fixed_points_stay_and_fresh_ones_change_with_the_epoch(kit: Kit) -> None:
    schedule = replace(kit.distilled.schedule, batch=512, steps=10)  # four steps an epoch
    fixed = open_source(kit, Drawing(points=3), schedule, 0, 1)
    assert fixed(0)[0] is fixed(9)[0]
    fresh = open_source(kit, Drawing(points=3, fresh=True), schedule, 0, 1)
    first = fresh(0)
    assert fresh(3) is first
    second = fresh(4)
    assert not np.array_equal(first[1], second[1])
    assert not np.array_equal(first[0].recipes.partner, second[0].recipes.partner)
    again = open_source(kit, Drawing(points=3, fresh=True), schedule, 0, 1)
    assert np.array_equal(again(4)[1], second[1])  # a training that goes on draws the same
    other = open_source(kit, Drawing(points=3, fresh=True), schedule, 1, 1)
    assert not np.array_equal(other(0)[1], first[1])


@pytest.mark.parametrize(("points", "steps"), [(3, 4), (700, 5)])
def test_every_fresh_point_is_seen_in_its_epoch(kit: Kit, points: int, steps: int) -> None:
    schedule = replace(kit.distilled.schedule, batch=512, steps=10)
    source = open_source(kit, Drawing(points=points, fresh=True), schedule, 0, 1)
    distilled, _ = source(0)
    assert len(distilled) == 3 * points
    assert len(distilled.recipes) == max(2048, 3 * points)
    seen = np.concatenate([batch_indices(len(distilled.recipes), 512, 0, step) for step in range(steps)])
    assert set(distilled.recipes.item[seen].tolist()) >= set(range(3 * points))
    assert source(steps - 1)[0] is distilled
    assert source(steps)[0] is not distilled


@pytest.mark.parametrize(
    ("points", "memory_mb", "words"),
    [
        (21_846, None, "65,538 points are asked for, a set holds 65,535 at most"),
        (21_845, 300, r"to draw 65,535 points takes at least \d+ MB, 300 MB are allowed"),
        (1000, 200, "to draw 3,000 points takes at least 313 MB, 200 MB are allowed"),
    ],
)
def test_more_points_than_fit_are_refused_before_they_are_drawn(
    kit: Kit, points: int, memory_mb: int | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Points, "items", lambda *_: pytest.fail("points were drawn"))
    with pytest.raises(TrainingError, match=words) as caught:
        open_source(kit, Drawing(points=points), kit.distilled.schedule, 0, 1, memory_mb)
    assert "fewer --points" in caught.value.hint


def test_points_for_which_no_memory_is_free_are_refused(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "memory_available_mb", lambda: 200)
    schedule = kit.distilled.schedule
    with pytest.raises(TrainingError, match="at least 263 MB more, 200 MB are free"):
        open_source(kit, Drawing(points=1000), schedule, 0, 1)
    open_source(kit, Drawing(points=700), schedule, 0, 1)


def test_a_training_within_a_bound_refuses_what_does_not_fit(kit: Kit, tmp_path: Path) -> None:
    bound = Settings(steps=4, threads=1, memory_mb=400, drawing=Drawing(points=3000))
    with pytest.raises(TrainingError, match="400 MB are allowed"):
        train(kit, tmp_path / "model", bound)
    assert not (tmp_path / "model").exists()


def test_drawing_takes_at_least_the_memory_that_is_foretold(kit: Kit) -> None:
    """What is refused is sure not to fit. The items as the runtime gives them, 4 bytes a value, are not traced."""
    source = open_source(kit, Drawing(points=400), replace(kit.distilled.schedule, steps=2), 0, 1)
    tracemalloc.start()
    try:
        source(0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert BYTES_OF_A_VALUE <= peak / (1200 * 64 * 96) + 4 < BYTES_OF_A_VALUE + 4


def test_labels_are_the_experts_mean_probabilities(kit: Kit) -> None:
    import onnxruntime

    points = Points.of(kit, 1)
    x = np.random.default_rng(0).standard_normal((3, 1, 64, 96)).astype(np.float32)
    expected = []
    for number in range(2):
        session = onnxruntime.InferenceSession(kit.members[f"generator/labeller-{number}.onnx"])
        scaled = session.run(["logits"], {"x": x})[0].astype(np.float64) / points.description.temperature
        expected.append(np.exp(scaled) / np.exp(scaled).sum(1, keepdims=True))
    assert np.allclose(points.labels(x), np.mean(expected, 0), atol=1e-6)


def test_training_on_points_gives_a_model_that_holds_them(kit: Kit, tmp_path: Path) -> None:
    report = train(kit, tmp_path / "model", Settings(steps=6, threads=1, drawing=Drawing(points=5)))
    assert report.drawing == "5 balanced fixed"
    model = load_model(tmp_path / "model")
    assert np.bincount(model.distilled.classes).tolist() == [5, 5, 5]


def test_an_interrupted_training_on_fresh_points_ends_bit_identical(kit: Kit, tmp_path: Path) -> None:
    wanted = Settings(steps=132, threads=1, drawing=Drawing(points=2, fresh=True), checkpoint_seconds=0)

    class Stop(Exception):
        pass

    def stop(done: int, _words: str) -> None:
        if done == 129:  # 128 steps of 16 are one epoch
            raise Stop

    train(kit, tmp_path / "whole", wanted)
    with pytest.raises(Stop):
        train(kit, tmp_path / "broken", wanted, stop)
    with pytest.raises(TrainingError, match="drawing is 2 balanced fresh, not 2 balanced fixed"):
        train(kit, tmp_path / "broken", replace(wanted, drawing=Drawing(points=2), resume=True))
    resumed = train(kit, tmp_path / "broken", replace(wanted, resume=True))
    assert resumed.resumed_at in (128, 129)
    for name in ("weights.safetensors", "distilled.safetensors", "student.onnx"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "broken" / name).read_bytes()


def test_points_from_a_kit_without_a_generator_are_refused(tmp_path: Path) -> None:
    plain = read_kit(write_kit(tmp_path).path)
    with pytest.raises(KitError, match="no generator") as caught:
        train(plain, tmp_path / "model", Settings(drawing=Drawing(points=5)))
    assert "gan.ship=generator" in caught.value.hint


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"{}",
        b"[1]",
        b"\xff",
        *(
            json.dumps(SOUND | wrong).encode()
            for wrong in (
                {"latent": 0},
                {"latent": True},
                {"clips": [3]},
                {"clips": 3},
                {"clips": [3, -1]},
                {"temperature": 0},
                {"temperature": float("nan")},
                {"points": 1e9},
                {"more": 1},
            )
        ),
    ],
)
def test_a_malformed_description_is_refused(content: bytes) -> None:
    with pytest.raises(KitDamaged):
        Description.from_bytes(content)


def test_a_generator_that_is_none_is_refused(kit: Kit) -> None:
    broken = replace(kit, members={**kit.members, GENERATOR: b"nothing"})
    with pytest.raises(KitError, match="onnxruntime refuses"):
        open_source(broken, Drawing(), kit.distilled.schedule, 0, 1)


def test_a_description_of_another_corpus_is_refused(kit: Kit) -> None:
    other = replace(Description.from_bytes(kit.members[DESCRIPTION]), clips=(8, 8))
    with pytest.raises(KitDamaged, match="another number of emotions"):
        Points.of(replace(kit, members={**kit.members, DESCRIPTION: other.to_bytes()}), 1)
