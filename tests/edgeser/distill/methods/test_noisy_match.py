"""match.dp: the noise is what the accountant says, one clip moves no more than promised, no clip is seen twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from subprocess import CompletedProcess

import numpy as np
import pytest
from scipy.stats import norm

from edgeser.config.settings import Settings
from edgeser.config.values import settings_of
from edgeser.distill.method import Assignment
from edgeser.distill.methods import noisy_match
from edgeser.distill.methods.noisy_match import (
    DELTA,
    begin,
    class_statistics,
    guarantee,
    improve,
    noise_multiplier,
    require_guarantee,
    sensitivity,
)
from edgeser.distill.registry import find_method
from edgeser.errors import SettingsError


def exact_delta(epsilon: float, multiplier: float) -> float:
    """Delta of the Gaussian mechanism (Balle and Wang 2018, arXiv 1805.06530, theorem 5)."""
    half, ratio = 1 / (2 * multiplier), epsilon * multiplier
    return float(norm.cdf(half - ratio) - np.exp(epsilon) * norm.cdf(-half - ratio))


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 8.0])
def test_the_noise_is_enough_and_hardly_more(epsilon: float) -> None:
    multiplier = noise_multiplier(epsilon)
    assert exact_delta(epsilon, multiplier) <= DELTA
    assert exact_delta(epsilon, 0.97 * multiplier) > DELTA


@pytest.fixture
def noisy(assignment: Assignment) -> Assignment:
    own = settings_of(
        {
            "method": "match",
            "corpus": "demo",
            "ipc": 2,
            "match.dp": 8.0,
            "start": "noise",
            "match.iterations": 4,
            "match.item_rate": 0.1,
        }
    )
    return replace(assignment, settings=own)


def test_a_clip_moves_its_class_no_more_than_is_promised(noisy: Assignment) -> None:
    task = noisy.task
    count = int((task.labels == 0).sum())
    before = class_statistics(task.graph, task.clips, task.labels, task.classes)
    first = int(np.flatnonzero(task.labels == 0)[0])
    for other in (-task.clips[first], 50 * task.clips[first], np.full_like(task.clips[first], 7.0)):
        clips = task.clips.copy()
        clips[first] = other
        moved = class_statistics(task.graph, clips, task.labels, task.classes) - before
        assert 0 < np.linalg.norm(moved[0]) * count <= sensitivity()
        assert not moved[1:].any(), "other classes do not move"


def test_statistics_carry_the_noise_that_is_promised(noisy: Assignment) -> None:
    task = noisy.task
    exact = class_statistics(task.graph, task.clips, task.labels, task.classes)
    drawn = np.stack([begin(noisy)["statistics"] - exact for _ in range(20)])
    wanted = noise_multiplier(8.0) * sensitivity() / np.bincount(task.labels)
    assert drawn.std((0, 2)) == pytest.approx(wanted, rel=0.05)
    assert abs(drawn.mean()) < 0.02 * wanted.min()
    assert np.abs(drawn[0] - drawn[1]).min() > 0, "a seed does not repeat it"


def test_items_follow_the_kept_statistics_and_see_no_clip(noisy: Assignment) -> None:
    state = begin(noisy)
    blind = replace(noisy, task=replace(noisy.task, clips=np.full_like(noisy.task.clips, np.nan)))
    losses = []
    for iteration in range(noisy_match.NETWORKS * 3):
        seen, _ = improve(noisy, state, iteration)
        state, figures = improve(blind, state, iteration)
        assert (state["items"] == seen["items"]).all()
        losses.append(figures["loss"])
    assert np.mean(losses[-4:]) < np.mean(losses[:4])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": "mix"}, "begin as mix hold clips"),
        ({"init_epoch": 2}, "trains the initialisation"),
    ],
)
def test_what_would_make_it_void_is_refused(changes: dict[str, object], message: str) -> None:
    own = {"method": "match", "start": "noise", "match.dp": 8.0, **changes}
    with pytest.raises(SettingsError, match=message):
        require_guarantee(settings_of({"ipc": 1, **own}))


def test_labels_of_experts_are_not_covered_and_it_says_so() -> None:
    hard, soft = (
        guarantee(settings_of({"corpus": "demo", "method": "match", "ipc": 1, "match.dp": 4.0, "labels": labels}))
        for labels in ("hard", "bank")
    )
    assert hard is not None
    assert soft is not None
    assert any("labels of the views" in line for line in hard["covered"])
    assert any("labels of the views" in line for line in soft["not_covered"])
    assert guarantee(Settings(corpus="demo", ipc=1)) is None
    assert find_method("match").needs_experts


@pytest.mark.slow
def test_the_verb_prints_the_promise_and_what_it_costs(
    run_edgeser: Callable[..., CompletedProcess[str]], tmp_path: object
) -> None:
    promise = ("--method", "match", "--from", "noise", "--labels", "hard", "--set", "match.dp=8")
    small = ("--ipc", "2", "--width", "0.25", "--steps", "20", "--set", "match.iterations=4", "--views", "4")
    done = run_edgeser("distill", "--corpus", "demo", *promise, *small, "--out", f"{tmp_path}/run", check=True)
    assert "dp       epsilon 8, delta 1e-05, unit: one clip" in done.stdout
    assert "does not cover a speaker" in done.stdout
    assert "utility  UAR 0." in done.stdout
