"""How near the plan of ``edgeser distill --dry-run`` comes to what then happens: seconds by phase and memory.

    python benchmarks/plan.py data/ravdess --corpus ravdess --ipc 6 --method mtt

All arguments go to ``edgeser distill``; the run is written to a temporary folder. Prints a table on stderr and JSON on
stdout; exits with 1 when the total time or the memory is off by more than 30 %. A machine that is busy with other work
at one of the two times is measured as it is: repeat it there.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from edgeser_device.machine import describe_machine

TOLERANCE = 0.3


def edgeser(*words: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "edgeser", "distill", *words, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def compare(plan: dict[str, Any], run: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    pairs = {name: (plan["seconds"].get(name, 0.0), seconds) for name, seconds in run["seconds"].items()}
    pairs |= {name: (plan[name], run[name]) for name in ("total_seconds", "peak_rss_mb", "process_peak_rss_mb")}
    return {
        name: {"planned": planned, "happened": happened, "ratio": planned / happened if happened else None}
        for name, (planned, happened) in pairs.items()
    }


def table_of(found: dict[str, dict[str, float | None]]) -> Table:
    table = Table("", "planned", "happened", "planned / happened")
    for name, row in found.items():
        table.add_row(name, *("" if value is None else f"{value:.2f}" for value in row.values()))
    return table


def main() -> int:
    words = sys.argv[1:]
    plan = edgeser(*words, "--dry-run")["plan"]
    with tempfile.TemporaryDirectory() as folder:
        run = edgeser(*words, "--out", str(Path(folder) / "run"))
    found = compare(plan, run)
    print(json.dumps({"arguments": words, "plan": found, "machine": describe_machine()}, indent=2))
    Console(stderr=True).print(table_of(found))
    ratios = [found[name]["ratio"] for name in ("total_seconds", "peak_rss_mb")]
    return int(any(ratio is None or abs(ratio - 1) > TOLERANCE for ratio in ratios))


if __name__ == "__main__":
    sys.exit(main())
