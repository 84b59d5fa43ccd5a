"""The reports of boards in ``benchmarks/boards`` as a table.

python benchmarks/boards.py --write         # docs/results/boards.md
python benchmarks/boards.py                 # on stdout
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeser_device.bench.sent import SCHEMA
from edgeser_device.machine import machine_words

HERE = Path(__file__).resolve().parent
REPORTS, PAGE = HERE / "boards", HERE.parent / "docs" / "results" / "boards.md"
HEAD = """# Figures from boards

Made by `benchmarks/boards.py` from the files in [benchmarks/boards](../../benchmarks/boards).
`edgeser bench MODEL --report FILE` wrote each of them on the machine that it names. Compare figures of
one machine only.
"""
NONE = """
**There is no report yet: nobody has measured edgeser on a board.** To send the first, run
`edgeser bench model --report board.json` on yours, read the file (it holds figures and the machine, no names and no
paths), and add it to `benchmarks/boards`.
"""
COLUMNS = (
    "format",
    "precision",
    "runtime",
    "threads",
    "frontend_ms_p50",
    "model_ms_p50",
    "p95",
    "peak_rss_mb",
    "bytes",
)


def read_reports(folder: Path) -> list[dict[str, Any]]:
    """All reports of a folder, by the names of their files; one of another schema ends the program."""
    found = []
    for path in sorted(folder.glob("*.json")):
        report = json.loads(path.read_text(encoding="utf-8"))
        if report.get("schema") != SCHEMA:
            raise SystemExit(f"{path} is no report of schema {SCHEMA}")
        found.append(report)
    return found


def page_of(reports: Sequence[dict[str, Any]]) -> str:
    """The page, Markdown."""
    return HEAD + ("\n".join(map(_section, reports)) if reports else NONE)


def _section(report: dict[str, Any]) -> str:
    machine, student = report["machine"], report["student"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    lines = [
        f"\n## {_plain(machine_words(machine))}\n",
        _plain(f"{machine['system']}, {machine['memory_mb']} MB, Python {machine['python']}, {packages}."),
        _plain(f"Student: {student.get('architecture')}, {student.get('parameters')} parameters.") + "\n",
        f"| {' | '.join(COLUMNS)} |",
        f"|{' --- |' * len(COLUMNS)}",
    ]
    lines += [f"| {' | '.join(_plain(str(row.get(key, ''))) for key in COLUMNS)} |" for row in report["results"]]
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """A text from elsewhere in which nothing is read as Markdown."""
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|#!" else letter for letter in " ".join(text.split()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/results/boards.md")
    page = page_of(read_reports(REPORTS))
    if parser.parse_args().write:
        PAGE.write_text(page, encoding="utf-8")
    else:
        sys.stdout.write(page)


if __name__ == "__main__":
    main()
