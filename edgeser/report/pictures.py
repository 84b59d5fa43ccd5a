"""Pictures of results: rows of an evaluation, convergence, transfer, budgets; the same file for the same figures.

    check_picture(Path("rows.svg"))                  # before minutes of training
    save(evaluation_picture(result), Path("rows.svg"))

matplotlib is loaded when a picture is drawn, and never on a board.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from math import nan
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from edgeser.errors import MissingExtra, SettingsError
from edgeser.evaluation.intervals import bar
from edgeser.report.tables import FULL_ROWS
from edgeser_device.kit.kit import Kit
from edgeser_export.outputs import holds, require_output
from edgeser_export.utilities.files import write_bytes
from edgeser_export.utilities.words import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


COLOURS = ("#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Of methods; told apart with every kind of colour blindness (Okabe and Ito 2008), and none is that of full data."""
DISTILLED, FULL, BASELINE = COLOURS[0], "#0072B2", "#8A8A8A"
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
"""So that lines are told apart without colours too."""
MARK = "a picture by edgeser"
FORMATS: Mapping[str, Mapping[str, str | None]] = {
    ".svg": {"Date": None, "Creator": MARK},
    ".png": {"Software": MARK},
    ".pdf": {"CreationDate": None, "ModDate": None, "Creator": MARK},
}
"""What a picture can be written as, and how it is described: by what made it, without the time, so that it repeats."""
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


def evaluation_picture(result: Mapping[str, Any]) -> Figure:
    """What ``edgeser evaluate`` measured: the rows, and other students and convergence where they were asked for."""
    curves = result["convergence"]
    with drawing():
        figure, axes = _figure(1 + bool(result["transfer"]) + (2 if curves else 0))
        _draw_rows(axes[0], result)
        if result["transfer"]:
            _draw_students(axes[1], result)
        if curves:
            draw_convergence(axes[-2], axes[-1], curves)
    return figure


def convergence_picture(curves: Mapping[str, Any]) -> Figure:
    """UAR against steps, and against seconds of training."""
    with drawing():
        figure, axes = _figure(2)
        draw_convergence(axes[0], axes[1], curves)
    return figure


def comparison_picture(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """A bar a run with its standard deviation, and marks for full data and the label bank on random items."""
    compared = (("full", FULL, "D", -0.2), ("random_bank", "#333333", "^", 0.2))
    with drawing():
        figure, (axes,) = _figure(1, height=1.6 + 0.5 * len(rows), width=8.0)
        names = [f"{Path(row['run']).name}\n{row['corpus']}, {row['method']}, {row['ipc']} a class" for row in rows]
        _bars(axes, names, rows, [DISTILLED] * len(rows), label="distilled")
        for name, colour, marker, aside in compared:
            there = [(place + aside, row["others"][name]) for place, row in enumerate(rows) if name in row["others"]]
            if there:
                places, others = zip(*there, strict=True)
                spreads = _spreads(others)
                means = [other["uar_mean"] for other in others]
                marks: dict[str, Any] = {"fmt": marker, "color": colour, "markeredgecolor": "white", "markersize": 8}
                axes.errorbar(means, places, xerr=spreads, capsize=3, label=_words(name), zorder=4, **marks)
        figure.legend(loc="outside lower center", ncols=3)
    return figure


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


def transfer_picture(matrix: Mapping[str, Mapping[str, float | None]]) -> Figure:
    """A heat map of UAR: a row for what the set was distilled with, a column for what was trained on it."""
    names = list(next(iter(matrix.values())))
    values = [[row[name] for name in names] for row in matrix.values()]
    known = [value for row in values for value in row if value is not None]
    low, high = min(known), max(known)
    with drawing():
        figure, (axes,) = _figure(1, width=2.4 + 1.1 * len(names), height=1.7 + 0.75 * len(matrix))
        axes.set_facecolor("#EEEEEE")  # shows where nothing was measured
        filled = [[nan if value is None else value for value in row] for row in values]
        image = axes.imshow(filled, cmap="cividis", vmin=low, vmax=high, aspect="auto")
        for y, row in enumerate(values):
            for x, value in enumerate(row):
                if value is not None:
                    colour = "white" if value < (low + high) / 2 else "black"
                    axes.text(x, y, f"{value:.3f}", ha="center", va="center", color=colour)
        axes.set_xticks(range(len(names)), names)
        axes.set_yticks(range(len(matrix)), list(matrix))
        axes.set_xlabel("trained on the set")
        axes.set_ylabel("distilled with")
        axes.spines[:].set_visible(False)
        figure.colorbar(image, ax=axes, label=UAR_WORDS)
    return figure


@contextmanager
def drawing(style: Mapping[str, Any] = MappingProxyType(STYLE)) -> Iterator[None]:
    """Give figures that are drawn or written in this block a style; words in them are drawn as they are."""
    from matplotlib import rc_context

    named: Any = {**style, "text.parse_math": False}  # its stubs list every name that there is
    with rc_context(named), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # labels may have letters that the font lacks
        yield


def _figure(panels: int, width: float = 6.4, height: float = 4.0) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure  # not pyplot, which asks for a screen and keeps figures

    columns = panels if panels < 4 else 2
    rows = -(-panels // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for spare in list(grid.flat)[panels:]:
        spare.remove()
    return figure, list(grid.flat)[:panels]


def _draw_rows(axes: Axes, result: Mapping[str, Any]) -> None:
    kinds = {words: (result[row], FULL) for row, words in FULL_ROWS.items()} | {
        "distilled": (result["distilled"], DISTILLED)
    }
    kinds |= {_words(name): (row, BASELINE) for name, row in result["baselines"].items() if "same_as" not in row}
    kinds |= {"untrained start": ({"uar_mean": result["init"]["uar"], "uar_std": None}, BASELINE)}
    there = {name: each for name, each in kinds.items() if each[0] is not None}
    _bars(axes, list(there), [row for row, _ in there.values()], [colour for _, colour in there.values()])
    distilled = result["distilled"]
    items = counted(distilled["ipc"], "item")
    axes.set_title(f"{items} per class, {distilled['share']:.1%} of the training items")


def _draw_students(axes: Axes, result: Mapping[str, Any]) -> None:
    own = {**result["distilled"], **result["student"]}
    students = {own["architecture"]: own, **result["transfer"]}
    names = [f"{name.partition(':')[0]} x {row['width']:g}" for name, row in students.items()]
    _bars(axes, names, list(students.values()), [DISTILLED] + [BASELINE] * len(result["transfer"]))
    axes.set_title(f"students on the set that was distilled with {own['architecture']}")


def _bars(
    axes: Axes, names: Sequence[str], rows: Sequence[Mapping[str, Any]], colours: Sequence[str], label: str = ""
) -> None:
    """Bars from top to bottom with standard deviations, and the figure at the end of each."""
    places = range(len(names))
    means, spreads = [row["uar_mean"] for row in rows], _spreads(rows)
    axes.barh(places, means, color=colours, height=0.7, label=label)
    axes.errorbar(means, places, xerr=spreads, fmt="none", ecolor="black", capsize=3)
    for place, mean in zip(places, means, strict=True):
        axes.text(0.01, place, f"{mean:.3f}", va="center", color="white", fontweight="bold")
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel(f"{UAR_WORDS} (mean ± standard deviation)")
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)


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
    handles, labels = by_steps.get_legend_handles_labels()
    by_steps.legend(handles[::-1], labels[::-1], loc="lower right")


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


def _words(row: str) -> str:
    return row.replace("_", " ")


MOST_A_ROW = 12


def save_items(kit: Kit, path: Path) -> None:
    """Draw a kit's items.

    Args:
        kit: A kit that was read.
        path: SVG, PNG or PDF, by its ending.

    Raises:
        SettingsError: Another ending.
        MissingExtra: matplotlib is not installed.
        StorageError: It cannot be written.
    """
    check_picture(path)
    with drawing():
        save(_figure_of(kit), path)


def _figure_of(kit: Kit) -> Figure:
    from matplotlib.figure import Figure

    distilled = kit.log_mels("items are drawn")
    items, classes, spec = distilled.items(), distilled.item_classes(), distilled.frontend
    rows = [[at for at in range(len(items)) if classes[at] == number] for number in range(len(kit.labels))]
    columns = min(MOST_A_ROW, max(len(row) for row in rows))
    figure = Figure(figsize=(1.5 * columns + 1, 1.15 * len(rows) + 0.9), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    low, high = float(items.min()), float(items.max())
    for number, row in enumerate(rows):
        for column in range(columns):
            axis = axes[number][column]
            axis.set_xticks([])
            axis.set_yticks([])
            if column < len(row):
                axis.imshow(items[row[column]], origin="lower", aspect="auto", cmap="magma", vmin=low, vmax=high)
            else:
                axis.axis("off")
        more = f"\n+ {len(row) - columns}" if len(row) > columns else ""
        axes[number][0].set_ylabel(kit.labels[number] + more, rotation=0, ha="right", va="center")
    seconds = spec.frames * spec.seconds_per_frame
    corpus = kit.manifest["provenance"]["corpus"].get("title")
    edges = f"{spec.fmin:g} to {spec.fmax:g} Hz from bottom to top"
    words = f"{len(distilled)} items"
    if distilled.formations > 1:
        words += f", each with {distilled.formations} log-mels,"
    figure.suptitle(
        f"{words} of {corpus}: {seconds:.1f} s from left to right, {edges}",
        fontsize="small",
    )
    return figure
