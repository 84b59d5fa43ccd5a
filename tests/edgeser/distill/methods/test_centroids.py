"""Centroids: means of clusters, of each class as many as there are items."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeser.config.values import changed
from edgeser.distill.method import Assignment
from edgeser.distill.methods.centroids import begin, centroids, draw


def with_ipc(assignment: Assignment, ipc: int, seed: int = 0) -> Assignment:
    return replace(assignment, settings=changed(assignment.settings, {"ipc": ipc, "seed": seed}))


def test_items_are_the_means_of_the_clusters_that_are_there(of_vectors: Assignment) -> None:
    maps = of_vectors.task.maps
    expected = [maps[first : first + 6].mean(0) for first in range(0, 36, 6)]
    found = centroids(of_vectors)
    assert found.dtype == np.float32
    for number in range(3):
        pair, mine = expected[2 * number : 2 * number + 2], found[2 * number : 2 * number + 2]
        order = [int(((each - mine) ** 2).sum((1, 2)).argmin()) for each in pair]
        assert sorted(order) == [0, 1]
        np.testing.assert_allclose(mine[order], pair, atol=1e-5)


def test_one_item_a_class_is_its_mean_and_all_are_the_clips(of_vectors: Assignment) -> None:
    task = of_vectors.task
    means = [task.maps[of_vectors.clips_of_class(number)].mean(0) for number in range(3)]
    np.testing.assert_allclose(begin(with_ipc(of_vectors, 1))["items"], means, atol=1e-6)
    whole = begin(with_ipc(of_vectors, 12))["items"].reshape(36, -1)
    apart = np.linalg.norm(whole[:, None] - task.maps.reshape(1, 36, -1), axis=2)
    assert np.unique(apart.argmin(1)).tolist() == list(range(36))
    assert apart.min(1).max() < 1e-5


def test_the_seed_decides_where_clusters_begin(of_vectors: Assignment) -> None:
    one, again, other = (centroids(with_ipc(of_vectors, 5, seed)) for seed in (0, 0, 1))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("ipc", [2, 3])
def test_equal_clips_make_equal_items(of_vectors: Assignment, ipc: int) -> None:
    clips = np.repeat(of_vectors.task.clips[::12], 12, axis=0)
    items = centroids(with_ipc(replace(of_vectors, task=replace(of_vectors.task, clips=clips)), ipc))
    np.testing.assert_allclose(items[:, :, 0], np.repeat(clips[::12, :, 0, 0], ipc, axis=0), atol=1e-6)


def test_draws_have_the_means_and_the_shared_covariance_of_the_classes(of_vectors: Assignment) -> None:
    task = of_vectors.task
    clips, drawn = task.maps[:, :, 0], draw(with_ipc(of_vectors, 2000))["items"][:, :, 0]
    means = np.stack([clips[of_vectors.clips_of_class(number)].mean(0) for number in range(3)])
    within = clips - means[task.labels]
    made = drawn.reshape(3, 2000, -1)
    spread = np.sqrt((within**2).mean())
    assert np.abs(made.mean(1) - means).max() < 0.2 * spread
    expected = within.T @ within / len(within)
    for each in made:
        assert np.abs(np.cov(each.T) - expected).max() < 0.2 * np.abs(expected).max()
    assert not np.array_equal(drawn, draw(with_ipc(of_vectors, 2000, seed=1))["items"][:, :, 0])
