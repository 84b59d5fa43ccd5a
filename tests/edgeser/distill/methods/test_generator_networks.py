"""The losses of the generative distiller against their equations, written out, and at points whose value is known."""

from __future__ import annotations

from functools import partial
from itertools import combinations

import numpy as np
import pytest
import torch

from edgeser.distill.method import Assignment
from edgeser.distill.methods.generator_networks import (
    critic_shapes,
    criticise,
    feature_matching,
    gradient_penalty,
    initial,
    lack_of_diversity,
    look,
    one_hot,
    probability_matching,
    texture,
)
from edgeser.models.network import forward, infer, running_norm, to_tensors

FEATURES = 7


def batch(rows: int, seed: int, columns: int = FEATURES) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((rows, columns)))


def test_feature_matching_is_zero_for_the_same_and_counts_mean_and_spread() -> None:
    real = batch(9, 0)
    assert feature_matching(real, real[torch.randperm(9)]).item() == pytest.approx(0, abs=1e-12)
    assert feature_matching(real, real + 0.5).item() == pytest.approx(0.25)
    wider = real.mean(0) + 2 * (real - real.mean(0))
    assert feature_matching(real, wider).item() == pytest.approx(float(real.std(0).square().mean()))


def test_probability_matching_is_the_cross_entropy_with_the_mean_probabilities() -> None:
    real, made = batch(5, 1, 4), batch(3, 2, 4)

    def softmax(z: np.ndarray) -> np.ndarray:
        return np.exp(z) / np.exp(z).sum(1, keepdims=True)

    target = softmax(real.numpy()).mean(0)
    expected = -(target * np.log(softmax(made.numpy()))).sum(1).mean()
    assert probability_matching(real, made).item() == pytest.approx(expected)
    entropy = -(target * np.log(target)).sum()
    best = torch.from_numpy(np.log(target)).repeat(3, 1)
    assert probability_matching(real, best).item() == pytest.approx(entropy)  # the least there can be


def test_lack_of_diversity_compares_the_mean_distances() -> None:
    real, made = batch(6, 3), 0.4 * batch(4, 4)

    def mean_distance(x: np.ndarray) -> float:
        return float(np.mean([np.sqrt(np.square(a - b).mean() + 1e-6) for a, b in combinations(x, 2)]))

    expected = (1 - mean_distance(made.numpy()) / mean_distance(real.numpy())) ** 2
    assert lack_of_diversity(real, made).item() == pytest.approx(expected)
    assert lack_of_diversity(real, 3 * real).item() == 0  # more diverse than clips is no fault


def test_items_that_are_all_the_same_still_have_a_gradient() -> None:
    """Nearly the worst value, and finite."""
    made = torch.zeros(4, FEATURES, dtype=torch.float64, requires_grad=True)
    loss = lack_of_diversity(batch(6, 5), made)
    assert loss.item() == pytest.approx(1, abs=0.01)
    assert torch.isfinite(torch.autograd.grad(loss, made)[0]).all()


def test_the_penalty_is_that_of_finite_differences() -> None:
    """The mean over the batch of (|slope| - 1)^2 half way between clips and items."""
    random = np.random.default_rng(6)
    weights = {
        name: torch.from_numpy(random.standard_normal(array.shape))
        for name, array in initial(critic_shapes(FEATURES, 3), random).items()
    }
    labels = one_hot(np.array([0, 1, 2, 2]), 3).double()
    real, made, half = batch(4, 7), batch(4, 8), torch.full((4, 1), 0.5, dtype=torch.float64)
    critic = partial(criticise, weights, labels=labels)
    penalty, slope = gradient_penalty(critic, real, made, half)
    between, small = (real + made) / 2, 1e-6
    slopes = torch.zeros(4, FEATURES, dtype=torch.float64)
    for column in range(FEATURES):
        step = torch.zeros(FEATURES, dtype=torch.float64)
        step[column] = small
        slopes[:, column] = (critic(between + step) - critic(between - step)) / (2 * small)
    lengths = slopes.norm(dim=1)
    assert slope.item() == pytest.approx(lengths.mean().item(), rel=1e-5)
    assert penalty.item() == pytest.approx((lengths - 1).square().mean().item(), rel=1e-5)


def test_a_look_gives_what_inference_gives_and_the_maps_statistics(assignment: Assignment) -> None:
    graph, member = assignment.ensemble.graph, assignment.ensemble.members[0]
    x = assignment.task.clips[:3]
    weights = to_tensors(member)
    seen = look(graph, weights, torch.from_numpy(x))
    assert np.allclose(seen.logits.numpy(), infer(graph, member, x), atol=1e-5)
    first = forward(graph, weights, torch.from_numpy(x), running_norm(weights), "conv1").numpy()
    mean, variance = member["norm1.running_mean"], member["norm1.running_var"]
    channels = len(mean)
    expected = (first.mean((2, 3)) - mean) / np.sqrt(variance + 1e-5)
    own = 6 * 64 - 1  # the texture stands first
    assert np.allclose(seen.features[:, own : own + channels].numpy(), expected, atol=1e-4)
    spread = np.sqrt(first.var((2, 3)) + 1e-5) / np.sqrt(variance + 1e-5)
    assert np.allclose(seen.features[:, own + channels : own + 2 * channels].numpy(), spread, atol=1e-4)


def test_the_texture_tells_stripes_from_smooth_items() -> None:
    """Means and spreads are the same; differences are not."""
    random = np.random.default_rng(0)
    x = np.cumsum(random.standard_normal((1, 3, 40)), axis=2)
    found = [each.numpy()[0] for each in texture(torch.from_numpy(x))]
    assert np.allclose(found[0], x[0].mean(1))
    assert np.allclose(found[1], x[0].std(1), atol=1e-5)
    for lag, each in zip((1, 2, 4), found[2:5], strict=True):
        expected = [np.sqrt(np.mean([(band[t + lag] - band[t]) ** 2 for t in range(40 - lag)])) for band in x[0]]
        assert np.allclose(each, expected, atol=1e-5)
    assert np.allclose(found[5], np.sqrt(np.square(np.diff(x[0], axis=0)).mean(1)), atol=1e-5)
    striped = np.sort(x, axis=2)[:, :, np.r_[np.stack([np.arange(20), np.arange(20, 40)], 1).ravel()]]
    smooth, rough = (list(texture(torch.from_numpy(y)))[2] for y in (np.sort(x, axis=2), striped))
    assert (rough > 2 * smooth).all()
