"""Coresets: real items, as many of each class, chosen as the papers define it."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from edgeser.distill.method import Assignment
from edgeser.distill.methods.coresets import expert_features, herding, k_center, random_items
from edgeser_export.graph.op_graph import Linear
from edgeser_export.graph.reference import compute, run_reference

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
