"""The figures of an evaluation, as rows for tables and figures of the page.

rows = rows_of(metrics)
rows[0].words, rows[0].mean, rows[0].interval
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeser.evaluation.intervals import FEWEST, Interval, deviation, mean_interval, with_deviation
from edgeser.report.pictures import BASELINE, DISTILLED, FULL
from edgeser.report.tables import FULL_ROWS
from edgeser_export.utilities.words import counted

WORDS = {
    "distilled": "distilled set",
    **{row: words.replace("full", "all real clips") for row, words in FULL_ROWS.items()},
    "random": "random clips, hard labels",
    "random_soft": "random clips, soft labels",
    "random_bank": "random clips, label bank",
    "random_bank_bytes": "random clips, label bank of as many bytes",
    "init": "untrained start",
    "experts": "label experts together",
}
"""Rows of metrics.json, and what the page calls them; in the order of the page from "distilled" on."""
ORDER = ("distilled", "full", "full_best", "full_soft", "random_bank", "random_bank_bytes", "random_soft", "random")
"""Rows of the table, of those that were measured."""
COMPARED = ("distilled", "full", "full_best", "random_bank", "random")
"""Rows that are compared by class and by speaker, at most ``MOST_COMPARED`` of those that were measured."""
MOST_COMPARED = 3


@dataclass(frozen=True)
class Row:
    """One row of an evaluation.

    Attributes:
        name: As in metrics.json.
        words: The name that people read.
        colour: In figures.
        mean: UAR on the test speakers.
        std: Standard deviation over the seeds; None with too few.
        values: One UAR a seed.
        dev: UAR on the dev speakers; None where it was not measured.
        ratio: To all real clips; None where these were not measured.
        recalls: Mean recall by class.
        over_seeds: Interval of 95 % of the mean over seeds, or None.
        over_speakers: Interval of 95 % over speakers, or None.
        details: Details from :mod:`edgeser.evaluation.scoring`; empty where an earlier version evaluated.
    """

    name: str
    words: str
    colour: str
    mean: float
    std: float | None = None
    values: Sequence[float] = ()
    dev: float | None = None
    ratio: float | None = None
    recalls: Mapping[str, float] = field(default_factory=dict)
    over_seeds: Interval | None = None
    over_speakers: Interval | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def figure(self) -> str:
        """The mean in words, with the deviation where there is one."""
        return with_deviation(self.mean, self.std)


def rows_of(metrics: Mapping[str, Any]) -> list[Row]:
    """The rows that were trained, the distilled set first; rows that would repeat another one are left out."""
    measured: dict[str, Any] = {name: metrics.get(name) for name in ORDER} | dict(metrics.get("baselines") or {})
    names = [*ORDER, *(name for name in measured if name not in ORDER)]
    there = {name: measured[name] for name in names if measured[name] and "same_as" not in measured[name]}
    return [_row(name, found, metrics.get("full"), metrics) for name, found in there.items()]


def single_rows(metrics: Mapping[str, Any]) -> list[Row]:
    """The rows that have no seeds: the untrained start, and the experts."""
    details = metrics.get("details") or {}
    return [
        Row(name, WORDS[name], BASELINE, metrics[name]["uar"], over_speakers=own.get("interval"), details=own)
        for name, own in ((name, details.get(name, {})) for name in ("experts", "init") if metrics.get(name))
    ]


def compared(rows: Sequence[Row]) -> list[Row]:
    """The rows that are shown beside each other by class and speaker."""
    by_name = {row.name: row for row in rows}
    return [by_name[name] for name in COMPARED if name in by_name][:MOST_COMPARED]


def _row(name: str, found: Mapping[str, Any], full: Mapping[str, Any] | None, metrics: Mapping[str, Any]) -> Row:
    details = (metrics.get("details") or {}).get(name, {})
    mean = float(found["uar_mean"])
    return Row(
        name=name,
        words=WORDS.get(name, name.replace("_", " ")),
        colour=DISTILLED if name == "distilled" else FULL if name.startswith("full") else BASELINE,
        mean=mean,
        std=deviation(found["uar"]),
        values=found["uar"],
        dev=found["dev_uar_mean"],
        ratio=mean / full["uar_mean"] if full else None,
        recalls=found["recalls"],
        over_seeds=mean_interval(found["uar"]),
        over_speakers=details.get("interval"),
        details=details,
    )


def sentences(rows: Sequence[Row], description: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[str]:
    """Sentences on how good the set is, beside all clips and beside random ones.

    Args:
        rows: Rows of the evaluation, the distilled set first.
        description: The contents of run.json.
        metrics: The contents of metrics.json.
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
