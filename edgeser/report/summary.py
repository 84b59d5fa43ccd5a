"""The first lines of the page: what a reader takes away, made of the figures alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeser.intervals import FEWEST
from edgeser.report.rows import Row
from edgeser_export.words import counted


def sentences(rows: Sequence[Row], description: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[str]:
    """How good the set is, beside all clips and beside random ones.

    Args:
        rows: Of the evaluation, the distilled set first.
        description: What run.json holds.
        metrics: What metrics.json holds.
    """
    budget, by_name = description["budget"], {row.name: row for row in rows}
    own, classes = by_name["distilled"], len(description["labels"])
    speakers = len(description["split"]["test"]["speakers"])
    items, holds = counted(budget["items"], "item"), budget.get("formations", 1)
    items += " drawn from the generator that is shipped" if "drawn" in metrics["distilled"] else ""
    lines = [
        f"A student trained on {items}, in number {budget['share']:.1%} of the {budget['train_items']:,} training "
        f"clips, reaches a UAR of {own.figure} on {counted(speakers, 'speaker')} that nothing was "
        f"trained or chosen on; guessing reaches {1 / classes:.3f}."
    ]
    if holds > 1:
        lines.append(f"An item holds {holds} log-mels, coarser ones, in the bytes of one.")
    full, best, bank = (by_name.get(name) for name in ("full", "full_best", "random_bank"))
    if full:
        lines.append(
            f"Trained on all clips for as many steps it reaches {full.figure}: the set keeps "
            f"{own.mean / full.mean:.0%}"
            + (f", and {own.mean / best.mean:.0%} of what all clips reach in as many steps as help." if best else ".")
        )
    if bank:
        lines.append(f"A label bank over as many random clips reaches {bank.figure}: {_beside(own, bank)}.")
    seeds = len(metrics["seeds"])
    spread = (
        f"± is one standard deviation over {seeds} trainings"
        if seeds >= FEWEST
        else f"{counted(seeds, 'training')} a row are too few for a deviation"
    )
    lines.append(f"{spread[0].upper()}{spread[1:]}; they vary: {metrics['varies']}.")
    return lines


def _beside(own: Row, other: Row) -> str:
    """Better, worse or level: a difference within the larger of two spreads is none."""
    gap = own.mean - other.mean
    if own.std is not None and other.std is not None and abs(gap) <= max(own.std, other.std):
        return "the distilled set is level with it, within one deviation"
    return f"the distilled set is {100 * abs(gap):.1f} points {'above' if gap > 0 else 'below'} it"
