"""Tables of labels as the user writes them: CSV with a header line, or JSON Lines."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeser.corpora.errors import MissingColumns, UnknownSpeaker, UnreadableLabels
from edgeser_export.utilities.outside import require_text


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: its number in the file (from 1) and its cells, trimmed."""

    number: int
    cells: Mapping[str, str]

    def where(self, path: Path) -> str:
        """Name the line for an error."""
        return f"{path}, line {self.number}"


def read_rows(path: Path, needed: Iterable[str]) -> tuple[Row, ...]:
    """Read a table; the first character that is no space decides between JSON Lines and CSV.

    Columns of a CSV file are parted by a comma, a semicolon or a tab, whichever the header line has most of, or by what
    a line such as ``sep=;`` before the header line says, which spreadsheets write.

    Raises:
        UnreadableLabels: The file is not UTF-8, is empty, or a line is broken.
        MissingColumns: A needed column is absent.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableLabels(path, "is not UTF-8 text; save it as UTF-8") from error
    except OSError as error:
        raise UnreadableLabels(path, f"cannot be read ({error.strerror or error})") from error
    if not text.strip():
        raise UnreadableLabels(path, "is empty")
    needed = tuple(needed)
    rows = _json_rows(path, text, needed) if text.lstrip().startswith("{") else _csv_rows(path, text, needed)
    if not rows:
        raise UnreadableLabels(path, "has a header line but no rows")
    return rows


def _csv_rows(path: Path, text: str, needed: tuple[str, ...]) -> tuple[Row, ...]:
    said = re.match(r"\s*sep=(.)\n", text)
    text = f"\n{text[said.end() :]}" if said else text  # lines keep their numbers
    header = (text.lstrip().splitlines() or [""])[0]
    delimiter = said[1] if said else max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    rows: list[Row] = []
    columns: list[str] | None = None
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if columns is None:
                columns = [cell.strip().lower() for cell in cells]
                _check_columns(path, needed, columns)
            elif len(cells) > len(columns):
                raise UnreadableLabels(path, f"line {reader.line_num} has more cells than the header line")
            else:
                named = dict(zip(columns, (cell.strip() for cell in cells), strict=False))
                rows.append(Row(reader.line_num, named))
    except csv.Error as error:
        raise UnreadableLabels(path, f"line {reader.line_num}: {error}") from error
    return tuple(rows)


def _json_rows(path: Path, text: str, needed: tuple[str, ...]) -> tuple[Row, ...]:
    rows: list[Row] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise UnreadableLabels(path, f"line {number} is not JSON ({error})") from error
        if not isinstance(record, dict):
            raise UnreadableLabels(path, f"line {number} is not a JSON object")
        cells = {key.strip().lower(): str(value).strip() for key, value in record.items() if value is not None}
        _check_columns(path, needed, cells)
        rows.append(Row(number, cells))
    return tuple(rows)


def _check_columns(path: Path, needed: tuple[str, ...], found: Iterable[str]) -> None:
    present = list(found)
    missing = [name for name in needed if name not in present]
    if missing:
        raise MissingColumns(path, missing, present)


def read_speaker(where: Path, row: Row) -> str:
    """Read the column ``speaker``.

    Raises:
        UnknownSpeaker: It is empty.
        TextError: It holds signs that cannot be shown.
    """
    name = require_text(row.cells.get("speaker", ""), f"{row.where(where)}, speaker")
    if not name:
        raise UnknownSpeaker(row.where(where), "fill the column speaker; one person has one name over all rows")
    return name


def read_sex(where: Path, row: Row) -> str | None:
    """Read the optional column ``sex``: female, male, f, m or empty.

    Raises:
        UnreadableLabels: It holds something else.
    """
    word = row.cells.get("sex", "").lower()
    if word in ("", "unknown", "other"):
        return None
    if word in ("f", "female", "m", "male"):
        return "female" if word.startswith("f") else "male"
    raise UnreadableLabels(where, f"line {row.number}: sex is {word!r}; known: female, male, or nothing")
