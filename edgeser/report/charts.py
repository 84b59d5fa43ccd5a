"""The figures of the page, as wide as a phone is; matplotlib is loaded when one is drawn."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from statistics import fmean
from typing import TYPE_CHECKING, Any

from edgeser.report.page_rows import Row
from edgeser.report.pictures import BASELINE, DISTILLED, FULL, STYLE, draw_convergence, drawing
from edgeser.report.tables import robust_rows, robust_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


INK, LINE = "#010101", "#dededf"
"""The colours of a figure that stand for the page's text colour and for the colour of its thin lines."""
VARIABLES = {
    INK: "var(--ink)",
    "#000000": "var(--ink)",
    LINE: "var(--line)",
    DISTILLED.lower(): "var(--distilled)",
    FULL.lower(): "var(--full)",
    BASELINE.lower(): "var(--baseline)",
}
"""Colours of a figure, and the page's variables that they become."""
PAGE_STYLE = STYLE | {
    "svg.fonttype": "none",  # text stays text: small, to be searched, in the reader's own font
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": LINE,
}


def inline_svg(figure: Figure, name: str, words: str) -> str:
    """A figure as an ``<svg>`` element.

    Args:
        figure: Drawn within ``PAGE_STYLE``, with colours of ``VARIABLES``.
        name: Begins the ids, so that no two figures of a page share one.
        words: A description of the figure, for those who do not see it.
    """
    data = io.StringIO()
    with drawing(PAGE_STYLE):
        figure.savefig(data, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = data.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    text = re.sub(r"font-family: '[^;\"]*", "font-family: var(--font)", text)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)  # it would reach the whole page
    text = re.sub(r' xmlns(:xlink)?="[^"]*"| version="1.1"', "", text)  # known to HTML
    text = re.sub(r"\s*\n\s*", " ", text)
    for colour, variable in VARIABLES.items():
        text = re.sub(re.escape(colour), variable, text, flags=re.IGNORECASE)
    text = re.sub(r' (width|height)="[^"]*pt"', "", text, count=2)
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(words)}" ', 1).strip()


WIDTH = 4.4
"""Inches: letters of 10 points are then as large on a phone as the page's small print."""
MARKERS = ("o", "s", "^")
"""Markers of rows beside each other, so that they are told apart without colours."""


def uar_chart(rows: Sequence[Row], classes: int) -> str:
    """A line a row: a dot for the mean, a small one for each seed, a bar for the interval over speakers."""
    with drawing(PAGE_STYLE):
        figure, (axes,) = _panels(1, 0.75 + 0.43 * len(rows))
        for place, row in enumerate(rows):
            _draw_row(axes, place, row, row.colour)
        axes.axvline(1 / classes, color=INK, linewidth=0.8, linestyle=":")
        _label_lines(axes, [row.words.replace(", ", ",\n", 1) for row in rows], "UAR; dotted: chance")
    words = "; ".join(f"{row.words} {row.mean:.3f}" for row in rows)
    return inline_svg(figure, "uar", f"UAR by row: {words}")


def class_chart(rows: Sequence[Row], names: Sequence[str]) -> str:
    """Mean recall of each class, the rows beside each other."""
    values = {row.name: [row.recalls.get(name) for name in names] for row in rows}
    return _dots("classes", rows, list(names), values, "mean recall on the test speakers", "Recall by class")


def speaker_chart(rows: Sequence[Row]) -> str:
    """UAR of each test speaker, the rows beside each other."""
    speakers = list(rows[0].details["speakers"])
    values = {
        row.name: [fmean(row.details["speakers"][speaker]["uar"]) for speaker in speakers]
        for row in rows
        if row.details
    }
    return _dots("speakers", [row for row in rows if row.details], speakers, values, "mean UAR", "UAR by speaker")


def convergence_chart(curves: Mapping[str, Any]) -> str:
    """UAR against processor seconds, and against steps: the same computing, side by side."""
    with drawing(PAGE_STYLE):
        figure, axes = _panels(2, 6.6)
        draw_convergence(axes[1], axes[0], curves)
        handles, labels = axes[1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", fontsize=9, ncols=2)
    return inline_svg(figure, "convergence", "UAR against seconds and steps of training")


def figure_chart(name: str, rows: Sequence[tuple[str, Mapping[str, float]]], chance: float | None, words: str) -> str:
    """A line a figure of an audit, or of other corpora: value and interval.

    Args:
        name: Begins the ids of the picture.
        rows: Words, and ``value``, ``low``, ``high`` of each.
        chance: The value at which a line is drawn.
        words: The name of the figures.
    """
    with drawing(PAGE_STYLE):
        figure, (axes,) = _panels(1, 0.75 + 0.34 * len(rows))
        for place, (label, found) in enumerate(rows):
            colour = DISTILLED if label.startswith("distilled") else BASELINE
            if "low" in found:
                axes.plot([found["low"], found["high"]], [place, place], color=colour, linewidth=3, alpha=0.5)
            axes.plot([found["value"]], [place], "D", color=colour, markersize=6, clip_on=False)
        if chance is not None:
            axes.axvline(chance, color=INK, linewidth=0.8, linestyle=":")
        _label_lines(axes, [label for label, _ in rows], words)
    return inline_svg(figure, name, words)


def robust_chart(found: Mapping[str, Any]) -> str:
    """A line for each kind of corruption with its levels as points, and the UAR of clean sound."""
    rows = robust_rows(found)
    kinds = list(dict.fromkeys(kind for kind, _, _ in rows))
    with drawing(PAGE_STYLE):
        figure, (axes,) = _panels(1, 0.75 + 0.34 * len(kinds))
        for place, kind in enumerate(kinds):
            values = [each["uar"] for other, _, each in rows if other == kind]
            axes.plot(values, [place] * len(values), color=DISTILLED, linewidth=1, alpha=0.5)
            for heavy, value in enumerate(values):
                axes.plot([value], [place], "D", color=DISTILLED, markersize=4 + 2 * heavy, clip_on=False)
        axes.axvline(found["clean"]["uar"], color=INK, linewidth=0.8, linestyle=":")
        _label_lines(axes, kinds, "UAR; larger marks: heavier; dotted: clean sound")
    return inline_svg(figure, "robust", robust_words(found))


def run_chart(rows: Sequence[tuple[str, Row, Row | None]]) -> str:
    """Several runs: a line each, with all real clips as a square where they were measured."""
    with drawing(PAGE_STYLE):
        figure, (axes,) = _panels(1, 0.9 + 0.5 * len(rows))
        for place, (_, own, full) in enumerate(rows):
            _draw_row(axes, place, own, DISTILLED)
            if full:
                axes.plot([full.mean], [place], "s", color=FULL, markersize=6)
        _label_lines(axes, [label for label, _, _ in rows], "UAR; square: all real clips")
    words = "; ".join(f"{label} {own.mean:.3f}" for label, own, _ in rows)
    return inline_svg(figure, "runs", f"UAR by run: {words}")


def _panels(count: int, height: float) -> tuple[Figure, list[Axes]]:
    """One panel below the other."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, list(figure.subplots(count, 1, squeeze=False).flat)


def _draw_row(axes: Axes, place: int, row: Row, colour: str) -> None:
    """Mean, seeds and interval of a row in the line at ``place``."""
    if row.over_speakers:
        ends = [row.over_speakers["low"], row.over_speakers["high"]]
        axes.plot(ends, [place, place], color=colour, linewidth=7, alpha=0.3, solid_capstyle="butt")
    axes.plot(row.values, [place] * len(row.values), "o", color=colour, markersize=3, alpha=0.6, clip_on=False)
    axes.plot([row.mean], [place], "D", color=colour, markersize=7, clip_on=False)
    axes.text(row.mean, place - 0.27, f"{row.mean:.3f}", ha="center", va="bottom", fontsize=9)


def _label_lines(axes: Axes, names: Sequence[str], unit: str) -> None:
    """Names of the lines from top to bottom, and an axis from 0 to 1 below them."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.75)
    axes.set_xlim(0, 1)
    axes.set_xlabel(unit)
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)


def _dots(
    name: str,
    rows: Sequence[Row],
    lines: Sequence[str],
    values: Mapping[str, Sequence[float | None]],
    unit: str,
    words: str,
) -> str:
    with drawing(PAGE_STYLE):
        figure, (axes,) = _panels(1, 1.05 + 0.32 * len(lines))
        for number, row in enumerate(rows):
            there = [(value, place) for place, value in enumerate(values[row.name]) if value is not None]
            nudge = 0.18 * (number - (len(rows) - 1) / 2)
            axes.plot(
                [value for value, _ in there], [place + nudge for _, place in there], MARKERS[number],
                color=row.colour, markersize=6, label=row.words, clip_on=False,
            )  # fmt: skip
        _label_lines(axes, lines, unit)
        axes.grid()
        figure.legend(loc="outside upper left", ncols=2, fontsize=9)
    return inline_svg(figure, name, words)
