"""A table for a terminal of any width: where its columns do not fit beside each other, they stand below each other.

    sheet = Sheet("file", "emotion", ">UAR", title="results")       # ">": to the right
    sheet.add("a.wav", "anger", "0.812")
    console.print(sheet)

No word is broken that is not itself longer than a line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table
    from rich.text import Text

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
