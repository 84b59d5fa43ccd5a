"""Results as tables for people; the JSON of the same verb holds the same numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeser.errors import RunError
from edgeser_export.utilities.words import counted

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, Group, RenderResult
    from rich.table import Table
    from rich.text import Text

    from edgeser.run import Run


GAPS = (2, 1)
"""Columns of space between two columns, where they fit; and at least."""


class Sheet:
    """Rows of cells below titles, with a line or more above and below them."""

    def __init__(self, *columns: str, title: str = "", caption: str = "") -> None:
        """Begin a table; ``columns`` are their titles, with ``>`` before those of numbers, or empty."""
        self.titles = [column.lstrip(">") for column in columns]
        self.right = [column.startswith(">") for column in columns]
        self.title, self.caption = title, caption
        self.rows: list[Sequence[Text]] = []

    def add(self, *cells: str | Text, style: str = "") -> None:
        """Append a row; a cell is plain text, whose brackets mean nothing."""
        from rich.text import Text

        self.rows.append([Text(cell.strip(), style) if isinstance(cell, str) else cell for cell in cells])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Rich's own protocol: what is printed in a console of this width."""
        from rich.text import Text

        if self.title:
            yield Text(self.title, "bold")
        cells = [*zip([Text(title) for title in self.titles], *self.rows, strict=True)]
        spans = [[cell.__rich_measure__(console, options) for cell in column] for column in cells]
        least = [max(span.minimum for span in column) for column in spans]
        gap = next((gap for gap in GAPS if sum(least) + gap * (len(least) - 1) <= options.max_width), None)
        if gap is None:
            yield from self._below_each_other()
        else:
            spare = options.max_width - sum(least) - gap * (len(least) - 1)
            yield self._beside_each_other(least, [max(span.maximum for span in column) for column in spans], spare, gap)
        if self.caption:
            yield Text(self.caption, "dim")

    def _beside_each_other(self, widths: list[int], whole: list[int], spare: int, gap: int) -> Table:
        """Columns of their longest words' ``widths``, and what is ``spare`` for those whose lines are longer."""
        from rich.table import Table

        order = sorted(range(len(widths)), key=lambda place: whole[place] - widths[place])
        for left, place in zip(range(len(order), 0, -1), order, strict=True):
            more = min(whole[place] - widths[place], spare // left)
            widths[place], spare = widths[place] + more, spare - more
        table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, show_header=any(self.titles))
        for title, right, width in zip(self.titles, self.right, widths, strict=True):
            table.add_column(title, justify="right" if right else "left", width=width, overflow="fold")
        for row in self.rows:
            table.add_row(*row)
        return table

    def _below_each_other(self) -> RenderResult:
        """A row is a line, and below it a line a cell; numbers stand in one."""
        from rich.padding import Padding
        from rich.text import Text

        heads = 2 if any(self.titles) and not self.titles[0] else 1  # a mark without a title belongs to the next cell
        for row in self.rows:
            yield Text(" ").join(cell for cell in row[:heads] if cell)
            below = [each for each in [*zip(self.titles, self.right, row, strict=True)][heads:] if each[2]]
            lines = [Text.assemble(f"{title}: " if title else "", cell) for title, right, cell in below if not right]
            numbers = Text(", ").join(Text.assemble(f"{title} ", cell) for title, right, cell in below if right)
            for line in [*lines, *([numbers] if numbers else [])]:
                yield Padding(line, (0, 0, 0, 2))


def sheet_of(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], title: str = "") -> Sheet:
    """A table of rows of values by name.

    Args:
        rows: The rows.
        columns: The names of the values that are shown, each with the title of its column.
        title: Stands above the table.
    """
    table = Sheet(*columns.values(), title=title)
    for row in rows:
        values = [row[name] for name in columns]
        table.add(*({True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value) for value in values))
    return table


FULL_ROWS = {"full_best": "full, at its best", "full_soft": "full, experts' labels", "full": "full"}
"""Rows on all real clips, and what people call them."""


def evaluation_tables(result: Mapping[str, Any]) -> Group:
    """Everything that ``edgeser evaluate`` measured: rows, and if asked for, other students and convergence."""
    from rich.console import Group

    tables = [evaluation_table(result)]
    if "corpora" in result["distilled"]:
        tables.append(corpora_table(result))
    if result["transfer"]:
        tables.append(transfer_table(result))
    if result["convergence"]:
        tables.append(convergence_table(result["convergence"]))
    if result.get("on"):
        tables.append(across_table(result["on"]))
    if result.get("robust"):
        tables.append(robust_table(result["robust"]))
    return Group(*tables)


def evaluation_table(result: Mapping[str, Any]) -> Sheet:
    """The rows of ``edgeser evaluate``."""
    distilled = result["distilled"]
    size = f"{distilled['share']:.1%} of the training items, {distilled['bytes'] / 1000:.0f} kB"
    if "drawn" in distilled:
        size = f"drawn anew by each seed from a generator of {distilled['bytes'] / 1000:.0f} kB with its experts"
    split, seeds = split_words(result["split"]), counted(len(result["seeds"]), "seed")
    table = Sheet(
        *("row", ">UAR", ">std", ">dev UAR", ">ratio"),
        title=f"UAR on the test speakers, split {split}, {seeds}",
        caption=f"{counted(distilled['ipc'], 'item')} per class, {size}; {result['machine']['cpu']}",
    )
    full = result["full"]
    rows = {words: result[row] for row, words in FULL_ROWS.items()} | {"distilled": distilled}
    for name, row in result["baselines"].items():
        rows[f"{name} (= {row['same_as']})" if "same_as" in row else name] = row
    for name, row in rows.items():
        if row is not None:
            table.add(name, *_figures(row), _ratio(row, full))
    table.add("init", f"{result['init']['uar']:.3f}", "", "", "")
    table.add(f"experts ({result['experts']['members']})", f"{result['experts']['uar']:.3f}", "", "", "")
    return table


def corpora_table(result: Mapping[str, Any]) -> Sheet:
    """The rows of ``edgeser evaluate`` on the test speakers of each of several corpora."""
    names = list(result["distilled"]["corpora"])
    table = Sheet("row", *(f">{name}" for name in names), title="UAR on the test speakers of each corpus")
    rows = {words: result[row] for row, words in FULL_ROWS.items()} | {"distilled": result["distilled"]}
    for name, row in {**rows, **result["baselines"]}.items():
        if row is not None and "corpora" in row:
            table.add(name, *(f"{row['corpora'][each]:.3f}" for each in names))
    return table


def transfer_table(result: Mapping[str, Any]) -> Sheet:
    """Students of several architectures on one distilled set; the first is the one that it was made with."""
    own = {**result["distilled"], **result["student"]}
    columns = ("student", ">width", ">parameters", ">UAR", ">std", ">dev UAR", ">to the first")
    table = Sheet(*columns, title="other students on the same set, each from its own start")
    for name, row in {own["architecture"]: own, **result["transfer"]}.items():
        architecture = name.partition(":")[0]
        table.add(
            architecture,
            f"{row['width']:g}",
            f"{row['parameters']:,}",
            *_figures(row),
            _ratio(row, result["distilled"]),
        )
    return table


def convergence_table(curves: Mapping[str, Any]) -> Sheet:
    """UAR against steps and seconds, and what is needed to come near the distilled set's last UAR."""
    table = Sheet(
        *("steps", *(f">{name} {what}" for name in ("distilled", "full") for what in ("s", "UAR", "std", "dev UAR"))),
        title=f"convergence, trainings of these lengths, {counted(len(curves['seeds']), 'seed')}; "
        f"seconds of {curves['seconds_of']}",
        caption=convergence_words(curves),
    )
    for own, full in zip(curves["distilled"], curves["full"], strict=True):
        cells = [[f"{point['seconds']:.1f}", *_figures(point)] for point in (own, full)]
        table.add(str(own["steps"]), *cells[0], *cells[1])
    return table


def convergence_words(curves: Mapping[str, Any]) -> str:
    """The findings of :func:`edgeser.evaluation.convergence.reached` in a sentence."""
    own, full = curves["to_target"]["distilled"], curves["to_target"]["full"]
    goal = f"to {curves['target']:.3f}, a point below the distilled set's last"
    start = f"{goal}: distilled {counted(own['steps'], 'step')}, {own['seconds']:.1f} s; "
    if full is None:
        return f"{start}full data does not reach it"
    times = f"{curves['ratio']['steps']:.2g} times the steps, {curves['ratio']['seconds']:.2g} times the seconds"
    return f"{start}full {counted(full['steps'], 'step')}, {full['seconds']:.1f} s: {times}"


def across_table(entries: Sequence[Mapping[str, Any]]) -> Sheet:
    """The same student on other corpora: what the set reaches, what all real clips do, and what the set costs."""
    table = Sheet(
        *("corpus", ">speakers", ">clips", ">chance", ">distilled", ">full", ">ratio", ">difference"),
        title="on other corpora, shared emotions only, all speakers (interval of 95 % over them)",
        caption="\n".join(f"{entry['corpus']}: {map_words(entry['labels'])}{_adapted(entry)}" for entry in entries),
    )
    for entry in entries:
        cells = (with_interval(entry[row]["uar_mean"], entry[row]) for row in ("distilled", "full"))
        cost = with_interval(entry["difference"]["value"], entry["difference"], sign="+")
        counts = (str(entry["speakers"]), str(entry["clips"]), f"{entry['chance']:.2f}")
        table.add(entry["corpus"], *counts, *cells, f"{entry['ratio']:.2f}", cost)
    return table


def robust_rows(found: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, float]]]:
    """Kind, level and figures of each corruption that ``evaluate --robust`` measured, light ones of a kind first."""
    beside = ("clean", "mce", "relative", "seeds", "machine")
    return [(kind, level, each) for kind, row in found.items() if kind not in beside for level, each in row.items()]


def robust_words(found: Mapping[str, Any]) -> str:
    """The mean error in a line."""
    many = f", {found['relative']:.2f} times that of clean sound" if found["relative"] is not None else ""
    return f"clean UAR {found['clean']['uar']:.3f}; mean error {found['mce']:.3f}{many}"


def robust_table(found: Mapping[str, Any]) -> Sheet:
    """UAR and unchanged answers of the student on the set in each kind and level of corruption."""
    table = Sheet(
        *("sound", "level", ">UAR", ">same answer"),
        title="in rooms, noise, codecs and at other levels, the distilled set's student",
        caption=robust_words(found),
    )
    before = ""
    for kind, level, each in robust_rows(found):
        table.add(kind if kind != before else "", level, f"{each['uar']:.3f}", f"{each['unchanged']:.0%}")
        before = kind
    return table


def _adapted(entry: Mapping[str, Any]) -> str:
    """What adaptation to the speakers gave, in words; nothing where it was not measured."""
    found = entry.get("adapted")
    if not found:
        return ""
    return (
        f"\n  adapted by up to {found['clips']} clips of a speaker: {found['uar_mean']:.3f}, without on the same clips"
        f" {found['plain']['uar_mean']:.3f}; not adapted to {found['refused']:.0%} of the speakers"
    )


def map_words(labels: Mapping[str, str]) -> str:
    """A label map in words: what has one name in both corpora is named once."""
    return ", ".join(own if own == their else f"{own} = {their}" for own, their in labels.items())


def with_interval(value: float, interval: Mapping[str, Any], sign: str = "") -> str:
    """A figure and its interval, where there is one."""
    low, high = interval["low"], interval["high"]
    bounds = "" if low is None else f" ({low:{sign}.2f} to {high:{sign}.2f})"
    return f"{value:{sign}.3f}{bounds}"


def comparison(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """One row a run.

    Raises:
        RunError: A run was not evaluated, or by another version.
    """
    from edgeser.run import Run

    return [_compared(Run(folder)) for folder in folders]


def _compared(run: Run) -> dict[str, Any]:
    description, metrics, hint = run.description(), run.metrics(), f"run: edgeser evaluate {run.folder} --full"
    if metrics is None:
        raise RunError(f"the run {run.folder} was not evaluated", hint)
    try:
        distilled = metrics["distilled"]
        baselines = {row: metrics.get(row) for row in FULL_ROWS} | metrics.get("baselines", {})
        return {
            "run": str(run.folder),
            "corpus": description["corpus"]["name"],
            "method": description["method"],
            "student": description["student"]["architecture"],
            **{key: distilled[key] for key in ("ipc", "share", "bytes", "uar_mean", "uar_std", "ratio")},
            "others": {
                name: {key: row[key] for key in ("uar_mean", "uar_std")} for name, row in baselines.items() if row
            },
        }
    except (KeyError, TypeError) as error:
        raise RunError(f"the run {run.folder} was evaluated by another version", hint) from error


def split_words(split: Mapping[str, Any]) -> str:
    """The name of a split, and what differs from the published one that it is."""
    return f"{split['name']} ({split['remark']})" if split.get("remark") else str(split["name"])


def comparison_table(rows: Sequence[Mapping[str, Any]]) -> Sheet:
    """The rows of ``edgeser compare``."""
    table = Sheet("run", "corpus", "method", "student", ">IPC", ">share", ">kB", ">UAR", ">std", ">ratio")
    for row in rows:
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.3f}"
        table.add(
            row["run"], row["corpus"], row["method"], row["student"], str(row["ipc"]), f"{row['share']:.1%}",
            f"{row['bytes'] / 1000:.0f}", f"{row['uar_mean']:.3f}", _number(row["uar_std"]), ratio,
        )  # fmt: skip
    return table


def _figures(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return f"{row['uar_mean']:.3f}", _number(row["uar_std"]), f"{row['dev_uar_mean']:.3f}"


def _ratio(row: Mapping[str, Any], full: Mapping[str, Any] | None) -> str:
    return f"{row['uar_mean'] / full['uar_mean']:.3f}" if full else ""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
