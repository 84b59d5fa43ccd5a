"""How a student is trained further on own clips; the defaults are those that benchmarks/personal.py chose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edgeser_device.views import Mixing
from edgeser_export.errors import GraphError, choice_hint

GENTLE = Mixing(beta=0.1, cut_share=0.0, stretch=0.1, mel_shift=1)
"""Views close to the clips: the label bank's wider ones teach less of the speaker."""


@dataclass(frozen=True)
class AdaptSettings:
    """How to train further.

    Attributes:
        part: What is trained, a row of :data:`edgeser_export.cut.CUTS`: "full", "tail" or "head".
        steps: Training steps.
        rate: Largest learning rate.
        own_share: Share of own views in a batch; the rest is rehearsal.
        share: How far the weights go from the old ones to the trained ones, 0 to 1 (Wortsman et al. 2022, arXiv
            2109.01903).
        own_views: Views of own clips.
        rehearsal_views: Views of the distilled set; 0 trains without rehearsal.
        old_labels: Share of the old student's own answer in the labels of rehearsal (Li and Hoiem 2016, arXiv
            1606.09282); the rest is the label bank's.
        mixing: How own views are drawn.
        seed: Of views and batches.
    """

    part: str = "tail"
    steps: int = 160
    rate: float = 2e-3
    own_share: float = 0.375
    share: float = 0.75
    own_views: int = 512
    rehearsal_views: int = 512
    old_labels: float = 1.0
    mixing: Mixing = GENTLE
    seed: int = 0


PARTS: Mapping[str, AdaptSettings] = MappingProxyType(
    {
        "full": AdaptSettings(part="full", steps=100, rate=1e-3),
        "tail": AdaptSettings(share=0.6),
        "head": AdaptSettings(part="head", steps=320, rate=1e-2, own_share=0.5, share=0.5),
    }
)
"""Settings for each part that can be trained."""


def settings_for(part: str) -> AdaptSettings:
    """A row of ``PARTS``; GraphError for an unknown part."""
    if part not in PARTS:
        raise GraphError(f"there is no part {part!r} of a student", choice_hint(part, PARTS))
    return PARTS[part]
