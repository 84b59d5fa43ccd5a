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

    def __init__(self, *columns: str, title: str = "", caption: str = "", header: bool = True) -> None:
        """Begin a table; ``columns`` are their titles, with ``>`` before those of numbers."""
        self.titles = [column.lstrip(">") for column in columns]
        self.right = [column.startswith(">") for column in columns]
        self.title, self.caption, self.header = title, caption, header
        self.rows: list[Sequence[Text]] = []

    def add(self, *cells: str | Text, style: str = "") -> None:
        """Append a row; a cell is plain text, whose brackets mean nothing."""
        from rich.text import Text

        self.rows.append([Text(cell.strip(), style) if isinstance(cell, str) else cell for cell in cells])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Rich's own protocol: what is printed in a console of this width."""
        from rich.padding import Padding
        from rich.text import Text

        if self.title:
            yield Text(self.title, "bold")
        fitting = self._widths(options.max_width)
        if fitting is not None:
            yield self._grid(*fitting)
        else:
            heads = 1 if self.titles[0] else 2  # a column without a title holds a mark, which belongs to the next one
            for row in self.rows:
                yield Text(" ").join(cell for cell in row[:heads] if cell)
                below = [*zip(self.titles, self.right, row, strict=True)][heads:]
                lines = [self._named(f"{title}: ", cell) for title, right, cell in below if cell and not right]
                numbers = [self._named(f"{title} ", cell) for title, right, cell in below if cell and right]
                for line in [*lines, *([Text(", ").join(numbers)] if numbers else [])]:
                    yield Padding(line, (0, 0, 0, 2))
        if self.caption:
            yield Text(self.caption, "dim")

    def _named(self, title: str, cell: Text) -> Text:
        from rich.text import Text

        return Text.assemble(title, cell) if self.header else cell

    def _widths(self, most: int) -> tuple[list[int], int] | None:
        """The columns' widths and the gap between them; None where they do not fit beside each other."""
        from rich.cells import cell_len

        columns = [[cell.plain for cell in column] for column in zip(*self.rows, strict=True)] or [
            [] for _ in self.titles
        ]
        if self.header:
            columns = [[title, *column] for title, column in zip(self.titles, columns, strict=True)]
        least = [max((cell_len(word) for cell in column for word in cell.split()), default=0) for column in columns]
        whole = [
            max((cell_len(line) for cell in column for line in cell.splitlines()), default=0) for column in columns
        ]
        gap = next((gap for gap in GAPS if sum(least) + gap * (len(least) - 1) <= most), None)
        if gap is None:
            return None
        spare = most - sum(least) - gap * (len(least) - 1)
        order = sorted(range(len(least)), key=lambda place: whole[place] - least[place])
        for left, place in zip(range(len(order), 0, -1), order, strict=True):
            more = min(whole[place] - least[place], spare // left)
            least[place], spare = least[place] + more, spare - more
        return least, gap

    def _grid(self, widths: Sequence[int], gap: int) -> Table:
        from rich.table import Table

        table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, show_header=self.header)
        for title, right, width in zip(self.titles, self.right, widths, strict=True):
            table.add_column(title, justify="right" if right else "left", width=width, overflow="fold")
        for row in self.rows:
            table.add_row(*row)
        return table
