"""Coresets: real items, as many of each class, chosen as the papers define it."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from edgeser.distill.coresets import expert_features, herding, k_center, random_items
from edgeser.distill.method import Assignment
from edgeser.distill.table import METHODS, decided, defaults_of, find_method, settings_for, with_start
from edgeser.errors import SettingsError
from edgeser.settings import Settings, resolve
from edgeser_export.graph import Linear
from edgeser_export.reference import compute, run_reference

CORESETS = (random_items, herding, k_center)


def with_ipc(assignment: Assignment, ipc: int, seed: int = 0) -> Assignment:
    return replace(assignment, settings=replace(assignment.settings, ipc=ipc, seed=seed))


def chosen_by(method, assignment: Assignment) -> list[int]:
    """Indices of the training clips that a method's items are, in its order."""
    clips = {clip.tobytes(): index for index, clip in enumerate(assignment.task.clips[:, 0])}
    return [clips[item.tobytes()] for item in method(assignment)["items"]]


@pytest.mark.parametrize("method", CORESETS)
@pytest.mark.parametrize("ipc", [1, 3, 8])
def test_items_are_different_real_clips_of_their_class(method, assignment: Assignment, ipc: int) -> None:
    given = with_ipc(assignment, ipc)
    chosen = chosen_by(method, given)
    assert len(set(chosen)) == 3 * ipc
    assert np.array_equal(given.task.labels[chosen], given.classes)
    assert np.array_equal(given.classes, np.repeat([0, 1, 2], ipc))


@pytest.mark.parametrize("method", CORESETS)
def test_a_choice_repeats_and_is_a_copy(method, assignment: Assignment) -> None:
    one, other = method(assignment)["items"], method(assignment)["items"]
    assert np.array_equal(one, other)
    one[:] = 0
    assert assignment.task.clips.any(axis=(1, 2, 3)).all()


def test_a_random_choice_depends_on_the_seed_and_reaches_every_clip(assignment: Assignment) -> None:
    choices = [frozenset(chosen_by(random_items, with_ipc(assignment, 2, seed))) for seed in range(40)]
    assert len(set(choices)) > 30
    assert frozenset.union(*choices) == set(range(24))


def test_a_smaller_random_choice_is_the_start_of_a_larger_one(assignment: Assignment) -> None:
    small, large = (chosen_by(random_items, with_ipc(assignment, ipc)) for ipc in (2, 5))
    assert [set(small[i * 2 : i * 2 + 2]) <= set(large[i * 5 : i * 5 + 5]) for i in range(3)] == [True] * 3


def test_features_are_what_the_last_dense_layer_reads(assignment: Assignment) -> None:
    """The dense layer applied to the features, undone from their standardisation, gives the expert's logits."""
    graph, member = assignment.ensemble.graph, assignment.ensemble.members[0]
    last = next(op for op in reversed(graph.ops) if isinstance(op, Linear))
    features = expert_features(assignment, assignment.ensemble.members[:1])
    np.testing.assert_allclose(features.mean(0), 0, atol=1e-6)
    logits = run_reference(graph, member, assignment.task.clips)
    weights = {name: value.astype(float) for name, value in member.items()}
    with_one = np.column_stack([features, np.ones(len(features))])
    solution, *_ = np.linalg.lstsq(with_one, logits, rcond=None)
    np.testing.assert_allclose(with_one @ solution, logits, atol=1e-4)
    assert features.shape == (24, member[f"{last.name}.weight"].shape[1])
    assert compute(last, [np.zeros(features.shape[1])], weights).shape == (3,)


def test_herding_adds_the_item_that_brings_the_mean_nearest(assignment: Assignment) -> None:
    features, chosen = (
        expert_features(assignment, assignment.ensemble.members[:1]),
        chosen_by(herding, with_ipc(assignment, 4)),
    )
    for number in range(3):
        mine = np.flatnonzero(assignment.task.labels == number)
        picked = chosen[4 * number : 4 * number + 4]
        target = features[mine].mean(0)
        for count in range(4):
            distances = {
                candidate: np.linalg.norm(features[[*picked[:count], candidate]].mean(0) - target)
                for candidate in mine
                if candidate not in picked[:count]
            }
            assert picked[count] == min(distances, key=lambda candidate: distances[candidate])


def test_herding_follows_the_mean_better_than_most_choices(assignment: Assignment) -> None:
    features, chosen = (
        expert_features(assignment, assignment.ensemble.members[:1]),
        chosen_by(herding, with_ipc(assignment, 3)),
    )
    for number in range(3):
        mine = np.flatnonzero(assignment.task.labels == number)
        target = features[mine].mean(0)
        all_choices = sorted(np.linalg.norm(features[list(some)].mean(0) - target) for some in combinations(mine, 3))
        found = np.linalg.norm(features[chosen[3 * number : 3 * number + 3]].mean(0) - target)
        assert found <= all_choices[len(all_choices) // 4]


def test_k_center_begins_in_the_middle_and_takes_the_farthest(assignment: Assignment) -> None:
    features, chosen = (
        expert_features(assignment, assignment.ensemble.members[:1]),
        chosen_by(k_center, with_ipc(assignment, 4)),
    )
    for number in range(3):
        mine = np.flatnonzero(assignment.task.labels == number)
        picked = chosen[4 * number : 4 * number + 4]
        from_mean = {one: np.linalg.norm(features[one] - features[mine].mean(0)) for one in mine}
        assert picked[0] == min(from_mean, key=lambda one: from_mean[one])
        for count in range(1, 4):
            gaps = {one: min(np.linalg.norm(features[one] - features[p]) for p in picked[:count]) for one in mine}
            assert gaps[picked[count]] == pytest.approx(max(gaps.values()))


def test_k_center_covers_within_twice_the_best_radius(assignment: Assignment) -> None:
    """The guarantee of the greedy algorithm (Gonzalez 1985), checked against every choice of three."""
    features, chosen = (
        expert_features(assignment, assignment.ensemble.members[:1]),
        chosen_by(k_center, with_ipc(assignment, 3)),
    )

    def radius(centres: list[int], mine: np.ndarray) -> float:
        return max(min(np.linalg.norm(features[one] - features[c]) for c in centres) for one in mine)

    for number in range(3):
        mine = np.flatnonzero(assignment.task.labels == number)
        best = min(radius(list(some), mine) for some in combinations(mine, 3))
        assert radius(chosen[3 * number : 3 * number + 3], mine) <= 2 * best + 1e-9


def test_copies_of_one_clip_are_still_chosen_once_each(assignment: Assignment) -> None:
    """All distances are zero; the choice must not repeat an index."""
    clips = assignment.task.clips.copy()
    clips[:8] = clips[0]
    twin = with_ipc(replace(assignment, task=replace(assignment.task, clips=clips)), 8)
    for method in (herding, k_center):
        assert np.array_equal(np.unique(method(twin)["items"][8:], axis=0).shape, (16, 64, 96))


def test_the_table_finds_methods_and_suggests_near_ones() -> None:
    for name in METHODS:
        assert find_method(name) is METHODS[name]
    with pytest.raises(SettingsError, match="no method 'hearding'") as caught:
        find_method("hearding")
    assert caught.value.hint == "did you mean 'herding'?"
    with pytest.raises(SettingsError) as caught:
        find_method("zzz")
    assert all(name in caught.value.hint for name in METHODS)


@pytest.mark.parametrize(
    ("values", "rarest", "formations"),
    [
        ({}, 90, 8),
        ({"ipc": 3}, 90, 8),
        ({"ipc": 4}, 90, 2),
        ({"formations": 4}, 90, 4),
        ({"ipc": 40}, 41, 2),  # mixtures can be more than clips
        ({"ipc": 40, "start_from": "real", "method": "invert"}, 79, 1),
        ({"method": "random"}, 16, 8),
        ({"method": "random"}, 15, 4),
        ({"ipc": 60, "method": "herding"}, 119, 1),
        ({"method": "gan"}, 90, 2),
        ({"method": "gan", "ship": "generator"}, 90, 1),
    ],
)
def test_items_hold_as_many_log_mels_as_there_can_be(values: dict[str, Any], rarest: int, formations: int) -> None:
    assert decided(Settings(corpus="demo", **{"ipc": 2, **values}), 1000, 10, rarest).formations == formations


def test_values_that_are_given_stay_whatever_the_method() -> None:
    given = Settings(corpus="demo", ipc=1, iterations=7, item_rate=0.5)
    found = decided(given, 1000, 10, 90)
    assert (found.method, found.iterations, found.item_rate) == ("invert", 7, 0.5)
    named = decided(settings_for("unroll", corpus="demo", ipc=1, iterations=7), 1000, 10, 90)
    assert (named.method, named.iterations, named.steps) == ("unroll", 7, METHODS["unroll"].defaults["steps"])
    with pytest.raises(SettingsError, match="no method"):
        decided(replace(given, method="inver"), 1000, 10, 90)


@pytest.mark.parametrize(
    ("values", "start"),
    [
        ({}, "mix"),
        ({"ipc": 3}, "mix"),
        ({"ipc": 4}, "duet"),
        ({"ipc": 10, "start_from": "mix"}, "mix"),
        ({"start_from": "duet"}, "duet"),
        ({"ipc": 10, "method": "mtt"}, "duet"),
        ({"ipc": 10, "method": "random"}, ""),
        ({"ipc": 10, "method": "gan"}, ""),
    ],
)
def test_many_items_begin_as_fewer_voices(values: dict[str, Any], start: str) -> None:
    assert decided(Settings(corpus="demo", **{"ipc": 2, **values}), 1000, 10, 90).start_from == start


@pytest.mark.parametrize(
    ("values", "iterations"),
    [
        ({}, 40),
        ({"start_from": "duet"}, 40),
        ({"start_from": "noise"}, 300),
        ({"start_from": "noise", "iterations": 5}, 5),
        ({"start_from": "noise", "method": "match"}, METHODS["match"].defaults["iterations"]),
    ],
)
def test_noise_is_a_long_way_from_what_experts_know(values: dict[str, Any], iterations: int) -> None:
    assert decided(Settings(corpus="demo", ipc=1, **values), 1000, 10, 90).iterations == iterations
    assert resolve(None, {"corpus": "demo", "ipc": 1, **values}, defaults_of).iterations == iterations


@pytest.mark.parametrize(
    ("before", "iterations", "after", "expected"),
    [
        ("mix", 40, "noise", 300),
        ("noise", 300, "mix", 40),
        ("mix", 7, "noise", 7),
        ("mix", 40, "duet", 40),
        ("noise", 300, "noise", 300),
    ],
)
def test_another_start_has_its_own_defaults(before: str, iterations: int, after: str, expected: int) -> None:
    settings = settings_for("invert", corpus="demo", ipc=1, start_from=before, iterations=iterations)
    found = with_start(settings, after)
    assert (found.start_from, found.iterations) == (after, expected)
    assert replace(found, start_from=before, iterations=iterations) == settings
