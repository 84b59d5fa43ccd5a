"""Was this recording used? The likelihood-ratio attack, and the cheap one by a threshold.

LiRA (Carlini et al. 2022, arXiv 2112.03570): a statistic of a clip (how near the nearest item is, or how sure a student
is of it) is compared with what it is in shadow runs with the clip and in shadow runs without,

    score = log N(x; m_in, s_in) - log N(x; m_out, s_out)

bent to stay between -``SUREST`` and ``SUREST``, because tails are not normal and one clip must not outweigh all others
of its speaker; bent and not cut, because equal scores at the end would be taken for members all or none. The scores of
several statistics are added, as if they were independent.

Each shadow is attacked in turn and the others, without its complement, tell how the statistic is distributed. Means are
the clip's own, the spreads are common to all clips, as for few shadows there. Of few shadows the distance of the two
means is not known for each clip: it is drawn towards that of all clips,

    m_in = m_out + (n d + P D) / (n + P)

with d the clip's distance in its n shadows, D the mean over clips, and P = ``PRIOR`` shadows' weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeser.privacy.figures import Decisions, Floats, attack_figures

PRIOR = 4.0
"""Shadows that the common distance of the means counts as."""
SUREST = 10.0
"""Largest logarithm of a ratio: 22,000 to 1."""
WHOLE_OUT, WHOLE_IN, SPLIT = 0, 1, 2
"""The part of a speaker's clips that a shadow has: nothing, every clip, or half of them."""


@dataclass(frozen=True)
class Observations:
    """Statistics of every clip in every shadow; shadows 2k and 2k + 1 are complements.

    Attributes:
        statistics: Larger where the clip was more likely used, float64 (statistics, shadows, clips), finite.
        members: Whether it was, bool (shadows, clips).
        speakers: Speaker of each clip, int64 (clips,), from 0.
        standing: The part that each shadow has of each speaker's clips, int64 (shadows, speakers): a value above.
    """

    statistics: Floats
    members: NDArray[np.bool_]
    speakers: NDArray[np.int64]
    standing: NDArray[np.int64]

    @property
    def plain(self) -> Floats:
        """The statistics, each at mean 0 and spread 1, added, (shadows, clips): what a threshold is put on."""
        apart = self.statistics - self.statistics.mean((1, 2), keepdims=True)
        return np.asarray((apart / (self.statistics.std((1, 2), keepdims=True) + 1e-12)).sum(0))


def membership_figures(observed: Observations) -> dict[str, Any]:
    """Figures of both attacks about utterances and about speakers.

    Utterances are those of speakers of whom a shadow has half: that a speaker is known does not help. Speakers are
    those of whom it has all or nothing; the score of a speaker is the mean of the clips'.
    """
    scores = {"likelihood_ratio": likelihood_ratios(observed), "threshold": observed.plain}
    return {
        level: _level({name: decide(observed, values) for name, values in scores.items()})
        for level, decide in (("utterance", utterance_decisions), ("speaker", speaker_decisions))
    }


def likelihood_ratios(observed: Observations) -> Floats:
    """The score of every clip in every shadow, (shadows, clips), each from the shadows that are not of its pair."""
    shadows = np.arange(len(observed.members))
    rows = []
    for shadow in shadows:
        others = shadows // 2 != shadow // 2
        seen = [
            _ratios(statistic[shadow], statistic[others], observed.members[others]) for statistic in observed.statistics
        ]
        rows.append(np.sum(seen, axis=0))
    return np.stack(rows)


def utterance_decisions(observed: Observations, scores: Floats) -> Decisions | None:
    """Decisions about the clips of split speakers; None where no speaker is split."""
    rounds, clips = np.nonzero(observed.standing[:, observed.speakers] == SPLIT)
    if not len(rounds):
        return None
    return Decisions(scores[rounds, clips], observed.members[rounds, clips], observed.speakers[clips], rounds)


def speaker_decisions(observed: Observations, scores: Floats) -> Decisions | None:
    """Decisions about speakers of whom a shadow has all or nothing; a member is one of whom a clip was used."""
    rounds, speakers = np.nonzero(observed.standing != SPLIT)
    if not len(rounds):
        return None
    own = [observed.speakers == speaker for speaker in speakers]
    means = np.array([scores[shadow, clips].mean() for shadow, clips in zip(rounds, own, strict=True)])
    members = np.array([observed.members[shadow, clips].any() for shadow, clips in zip(rounds, own, strict=True)])
    return Decisions(means, members, speakers, rounds)


def _level(decisions: Mapping[str, Decisions | None]) -> dict[str, Any] | None:
    first = next(iter(decisions.values()))
    if first is None or first.members.all() or not first.members.any():
        return None
    figures = {name: attack_figures(each) for name, each in decisions.items() if each is not None}
    return {"decisions": len(first.members), "members": int(first.members.sum()), **figures}


def _ratios(target: Floats, statistic: Floats, members: NDArray[np.bool_]) -> Floats:
    """Scores of one shadow's statistics (clips,) from other shadows' (others, clips)."""
    count_in, mean_in = _means(statistic, members)
    count_out, mean_out = _means(statistic, ~members)
    common = float(np.median(statistic))
    mean_out = np.where(count_out > 0, mean_out, common)  # a clip that every other shadow has is compared with all
    both = (count_in > 0) & (count_out > 0)
    apart = mean_in - mean_out
    shift = float(apart[both].mean()) if both.any() else 0.0
    pulled = mean_out + (count_in * np.where(count_in > 0, apart, 0) + PRIOR * shift) / (count_in + PRIOR)
    spread_in = _spread(statistic, members, count_in, mean_in)
    spread_out = _spread(statistic, ~members, count_out, mean_out)
    if not spread_out:  # one observation a clip: what is left of the distances of the means is noise of both
        spread_out = float(np.std(apart[both] - shift) / np.sqrt(2)) if both.any() else 0.0
    floor = 1e-3 * float(np.std(statistic)) + 1e-12
    spread_in, spread_out = max(spread_in or spread_out, floor), max(spread_out, floor)
    ratios = _log_normal(target, pulled, spread_in) - _log_normal(target, mean_out, spread_out)
    return np.asarray(ratios / (1 + np.abs(ratios) / SUREST))


def _means(statistic: Floats, chosen: NDArray[np.bool_]) -> tuple[NDArray[np.int64], Floats]:
    count = chosen.sum(0)
    return count, np.where(chosen, statistic, 0).sum(0) / np.maximum(count, 1)


def _spread(statistic: Floats, chosen: NDArray[np.bool_], count: NDArray[np.int64], mean: Floats) -> float:
    """Standard deviation about the clips' own means, over all clips; 0 where no clip has two observations."""
    freedom = int(np.maximum(count - 1, 0).sum())
    twice = count > 1
    squares = np.where(chosen & twice, (statistic - mean) ** 2, 0).sum()
    return float(np.sqrt(squares / freedom)) if freedom else 0.0


def _log_normal(x: Floats, mean: Floats, spread: float) -> Floats:
    return np.asarray(-0.5 * ((x - mean) / spread) ** 2 - np.log(spread))
