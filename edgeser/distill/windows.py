"""From which epochs of a trajectory matches start.

    earliest, latest = start_range(settings, iteration)

Early epochs teach what is easy, late ones what is hard, which only a large set can hold (Guo et al. 2024, arXiv
2310.05773). So the latest start is the later, the larger the budget is; and it moves there from a first bound while the
items learn (their sequential generation).
"""

from __future__ import annotations

from math import log2

from edgeser.config.settings import Settings


def last_start(settings: Settings) -> int:
    """The latest epoch at which any match starts; ``settings`` are resolved."""
    doublings = log2(max(1, settings.ipc * settings.samples_per_item))
    return settings.mtt.max_start_epoch + round(settings.mtt.start_epoch_growth * doublings)


def start_range(settings: Settings, iteration: int) -> tuple[int, int]:
    """The earliest and the latest epoch at which the match of an iteration, counted from 0, may start."""
    last, mtt = last_start(settings), settings.mtt
    first = min(mtt.first_max_start_epoch, last)
    latest = first + round((last - first) * iteration / max(1, mtt.iterations - 1))
    return min(mtt.min_start_epoch, latest), latest


def epochs_used(settings: Settings) -> int:
    """How many epochs of the trajectories some match may see; no more are trained."""
    return last_start(settings) + settings.mtt.expert_span
