"""The style of all figures, and the picture of UAR against budgets; the same file for the same figures.

    check_picture(Path("budgets.svg"))                  # before hours of training
    save(budget_picture(panels), Path("budgets.svg"))

matplotlib is loaded when a picture is drawn, and never on a board.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from edgeser.errors import SettingsError
from edgeser.evaluation.intervals import bar
from edgeser_export.outputs import holds, require_output
from edgeser_export.utilities.errors import MissingExtra
from edgeser_export.utilities.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


COLOURS = ("#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Colours of methods, told apart with every kind of colour blindness (Okabe and Ito 2008); none is full data's."""
DISTILLED, FULL, BASELINE = COLOURS[0], "#0072B2", "#8A8A8A"
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
"""Markers, so that lines are told apart without colours too."""
MARK = "a picture by edgeser"
FORMATS: Mapping[str, Mapping[str, str | None]] = {
    ".svg": {"Date": None, "Creator": MARK},
    ".png": {"Software": MARK},
    ".pdf": {"CreationDate": None, "ModDate": None, "Creator": MARK},
}
"""The formats of pictures, each with its metadata: the program that made it and no time, so that it repeats."""
STYLE = {
    "svg.hashsalt": "edgeser",
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same everywhere
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "legend.frameon": False,
    "figure.constrained_layout.h_pad": 0.1,  # inches
    "figure.constrained_layout.w_pad": 0.1,
}
UAR_WORDS = "UAR on the test speakers"


def check_picture(path: Path) -> None:
    """Check that a picture can be written there, before anything is measured for it.

    Raises:
        SettingsError: The name does not end in a known format.
        MissingExtra: matplotlib is not installed.
        OutputTaken: Something else than a picture of ours is there.
    """
    _require_format(path)
    require_output(path, "picture", lambda place: holds(place, MARK.encode()))


def _require_format(path: Path) -> None:
    if path.suffix.lower() not in FORMATS:
        raise SettingsError(f"{path.name} names no format of pictures", f"end it with {', '.join(FORMATS)}")
    if find_spec("matplotlib") is None:
        raise MissingExtra("matplotlib", "host")


def save(figure: Figure, path: Path) -> None:
    """Write a picture, whole or not at all, over whatever is there.

    Raises:
        SettingsError: The name does not end in a known format.
        StorageError: It cannot be written.
    """
    _require_format(path)
    suffix, data = path.suffix.lower(), io.BytesIO()
    with drawing():
        figure.savefig(data, format=suffix[1:], dpi=150, metadata=dict(FORMATS[suffix]))
    write_bytes(path, data.getvalue())


def budget_picture(panels: Mapping[str, Mapping[str, Any]]) -> Figure:
    """UAR against the share of the training items.

    Args:
        panels: For each title ``lines``: name to points with ``share``, ``uar_mean`` and ``uar_std``; and ``levels``:
            name to ``uar_mean`` and ``uar_std``, which do not depend on the budget.
    """
    with drawing():
        figure, axes = _figure(len(panels), width=5.0, height=4.4)
        for each, (title, panel) in zip(axes, panels.items(), strict=True):
            _draw_budgets(each, title, panel)
        drawn: dict[str, Any] = {}
        for each in axes:
            drawn |= {label: handle for handle, label in zip(*each.get_legend_handles_labels(), strict=True)}
        names = dict.fromkeys(name for kind in ("lines", "levels") for panel in panels.values() for name in panel[kind])
        figure.legend([drawn[name] for name in names], list(names), loc="outside lower center", ncols=2 * len(panels))
    return figure


@contextmanager
def drawing(style: Mapping[str, Any] = MappingProxyType(STYLE)) -> Iterator[None]:
    """Give figures that are drawn or written in this block a style; words in them are drawn as they are."""
    from matplotlib import rc_context

    named: Any = {**style, "text.parse_math": False}  # its stubs list every name that there is
    with rc_context(named), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # labels may have letters that the font lacks
        yield


def _figure(panels: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure  # not pyplot, which asks for a screen and keeps figures

    columns = panels if panels < 4 else 2
    rows = -(-panels // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for spare in list(grid.flat)[panels:]:
        spare.remove()
    return figure, list(grid.flat)[:panels]


def draw_convergence(by_steps: Axes, by_seconds: Axes, curves: Mapping[str, Any]) -> None:
    """Both curves of an evaluation's convergence, against steps in one panel and seconds in the other."""
    units = {"steps": "steps of the training", "seconds": f"seconds of the training ({curves['seconds_of']})"}
    names = {"distilled": ("distilled set", DISTILLED, "o"), "full": ("all real clips", FULL, "s")}
    for axes, (unit, words) in zip((by_steps, by_seconds), units.items(), strict=True):
        for curve, (name, colour, marker) in names.items():
            points = curves[curve]
            places = [point[unit] for point in points]
            _line(axes, places, points, name, colour, marker)
            dev = [point["dev_uar_mean"] for point in points]
            axes.plot(places, dev, color=colour, linestyle=":", linewidth=1, label=f"{name}, dev speakers")
        axes.axhline(
            curves["target"], color="black", linewidth=0.8, linestyle="--", label="a point below the set's last"
        )
        axes.set_xscale("log")
        axes.set_xlabel(words)
        axes.set_ylabel(UAR_WORDS)
        axes.grid()
        _plain_ticks(axes, [point[unit] for point in curves["distilled"]] if unit == "steps" else None)


def _draw_budgets(axes: Axes, title: str, panel: Mapping[str, Any]) -> None:
    names = sorted({point["share"] for points in panel["lines"].values() for point in points})
    middle = (len(panel["lines"]) - 1) / 2
    for number, (name, points) in enumerate(panel["lines"].items()):
        nudge = 1.025 ** (number - middle)  # error bars beside each other, not over each other
        colour = BASELINE if name.startswith("random") else COLOURS[number % len(COLOURS)]
        places = [100 * point["share"] * nudge for point in points]
        _line(axes, places, points, name, colour, MARKERS[number % len(MARKERS)])
    for number, (name, level) in enumerate(panel["levels"].items()):
        style = ("-", "--", ":")[number % 3]
        axes.axhline(level["uar_mean"], color=FULL, linestyle=style, linewidth=1.2, label=name)
    axes.set_xscale("log")
    _plain_ticks(axes, [100 * share for share in names])
    axes.set_xlim(100 * names[0] / 1.5, 100 * names[-1] * 1.5)
    axes.set_xlabel("budget (% of the training items)")
    axes.set_ylabel(UAR_WORDS)
    axes.set_title(title)
    axes.grid(axis="y")


def _line(
    axes: Axes, places: Sequence[float], points: Sequence[Mapping[str, Any]], name: str, colour: str, marker: str
) -> None:
    means, spreads = [point["uar_mean"] for point in points], _spreads(points)
    axes.errorbar(places, means, yerr=spreads, color=colour, marker=marker, markersize=5, capsize=3, label=name)


def _plain_ticks(axes: Axes, places: Sequence[float] | None) -> None:
    """Numbers as people write them on a logarithmic axis; at ``places`` where they are given."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

    axes.xaxis.set_major_locator(FixedLocator(_apart(places)) if places else LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}" if value < 100 else f"{value:g}"))


def _apart(places: Sequence[float]) -> list[float]:
    """Those that stand far enough from the next larger one for a number under each; the largest is among them."""
    kept: list[float] = []
    for place in sorted(places, reverse=True):
        if not kept or place * 1.4 < kept[-1]:
            kept.append(place)
    return kept[::-1]


def _spreads(rows: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """The lengths of error bars, those to smaller and those to larger values."""
    return [list(side) for side in zip(*(bar(row["uar_mean"], row["uar_std"]) for row in rows), strict=True)]
