"""The attack finds what is planted, is at chance where there is nothing, and is not led by how halves are drawn."""

from __future__ import annotations

import numpy as np
import pytest

from edgeser.privacy.figures import area
from edgeser.privacy.membership import (
    SPLIT,
    Observations,
    likelihood_ratios,
    membership_figures,
    speaker_decisions,
    utterance_decisions,
)
from edgeser.privacy.shadows import draw_half

SPEAKERS, EACH, SHADOWS = 8, 24, 12


def observed(strength: float, seed: int, shadows: int = SHADOWS) -> Observations:
    """A statistic with a level of its own for every clip, higher by ``strength`` where the clip was used."""
    random = np.random.default_rng(seed)
    speakers = np.repeat(np.arange(SPEAKERS), EACH)
    labels = np.tile(np.arange(EACH) % 4, SPEAKERS)
    halves = [draw_half(labels, speakers, seed, number) for number in range(shadows)]
    members = np.stack([half.chosen for half in halves])
    level = 3 * random.standard_normal(len(speakers))
    statistic = level + strength * members + random.standard_normal(members.shape)
    return Observations(statistic[None], members, speakers, np.stack([half.standing for half in halves]))


def test_a_planted_leak_is_found_in_utterances_and_speakers() -> None:
    found = membership_figures(observed(strength=2.0, seed=0))
    for level in ("utterance", "speaker"):
        assert found[level]["likelihood_ratio"]["auc"]["low"] > 0.85, level
    assert found["utterance"]["likelihood_ratio"]["tpr_at_5"]["value"] > 0.4


def test_the_likelihood_ratio_sees_what_a_threshold_does_not() -> None:
    utterance = membership_figures(observed(strength=2.0, seed=1))["utterance"]
    assert utterance["likelihood_ratio"]["auc"]["low"] > utterance["threshold"]["auc"]["high"]


def test_where_nothing_leaks_every_attack_is_at_chance() -> None:
    found = membership_figures(observed(strength=0.0, seed=2))
    for level in ("utterance", "speaker"):
        for attack in ("likelihood_ratio", "threshold"):
            figure = found[level][attack]["auc"]
            assert figure["low"] <= 0.5 <= figure["high"], (level, attack)


@pytest.mark.parametrize("shadows", [4, 6, 12])
def test_the_halves_alone_tell_nothing(shadows: int) -> None:
    # Were the shadow's complement used, a member would have fewer observations with it than without, which shows.
    areas = []
    for seed in range(20):
        nothing = observed(strength=0.0, seed=seed, shadows=shadows)
        decided = utterance_decisions(nothing, likelihood_ratios(nothing))
        assert decided is not None
        order = decided.scores.argsort().argsort() + 1.0
        positive = decided.members.sum()
        rank = order[decided.members].sum() - positive * (positive + 1) / 2
        areas.append(rank / (positive * (~decided.members).sum()))
    assert np.mean(areas) == pytest.approx(0.5, abs=0.015)


def test_a_statistic_that_never_varies_is_at_chance() -> None:
    nothing = observed(strength=0.0, seed=3)
    constant = Observations(np.zeros_like(nothing.statistics), nothing.members, nothing.speakers, nothing.standing)
    decided = utterance_decisions(constant, likelihood_ratios(constant))
    assert decided is not None
    found = area(decided)
    assert found is not None
    assert found["value"] == 0.5


def test_utterances_are_of_split_speakers_and_speakers_are_the_others() -> None:
    seen = observed(strength=0.0, seed=4)
    utterances = utterance_decisions(seen, seen.statistics[0])
    whole = speaker_decisions(seen, seen.statistics[0])
    assert utterances is not None
    assert whole is not None
    assert set(zip(utterances.rounds, utterances.speakers, strict=True)) == set(
        zip(*np.nonzero(seen.standing == SPLIT), strict=True)
    )
    assert len(whole.scores) == SHADOWS * (SPEAKERS // 4) * 2
    assert whole.members.mean() == 0.5


def test_a_leak_of_few_stored_clips_is_found() -> None:
    # The planted leak: a clip that is stored is at distance nought, in one or two of the shadows.
    seen = observed(strength=0.0, seed=5)
    random = np.random.default_rng(5)
    stored = seen.members & (random.random(seen.members.shape) < 0.1)
    statistic = np.where(stored, 0.0, -8 + seen.statistics / 4)
    found = membership_figures(Observations(statistic, stored, seen.speakers, seen.standing))
    assert found["utterance"]["likelihood_ratio"]["auc"]["value"] > 0.99
    assert found["speaker"]["likelihood_ratio"]["auc"]["value"] > 0.99, "clips that are not stored do not outweigh it"


def test_two_statistics_tell_more_than_one() -> None:
    first, second = observed(strength=1.0, seed=6), observed(strength=1.0, seed=7)
    members = first.members
    shifted = second.statistics + members - second.members  # as strong, about the members of the first
    both = Observations(np.concatenate([first.statistics, shifted]), members, first.speakers, first.standing)
    for attack in ("likelihood_ratio", "threshold"):
        alone, together = (membership_figures(seen)["utterance"][attack]["auc"]["value"] for seen in (first, both))
        assert together > alone + 0.02, attack


def test_sure_scores_are_bounded_and_still_in_an_order() -> None:
    # Equal scores are taken for members all or none, which would make the rate at few false positives zero.
    scores = likelihood_ratios(observed(strength=40.0, seed=3))
    assert np.abs(scores).max() < 10
    assert len(np.unique(scores)) > 0.99 * scores.size
