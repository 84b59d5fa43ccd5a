"""What a run will take: measured beforehand in a process of its own, a few steps of each kind.

plan = make_plan(settings, Workers(jobs=2))
plan["total_seconds"], plan["peak_rss_mb"]
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from edgeser.errors import WorkerError
from edgeser.settings import Settings
from edgeser.sheet import Sheet
from edgeser.workers import Workers

_CHILD = "import sys; from edgeser.distill.calibrate import main; sys.exit(main())"
# Not with -m: what a module that is run in that way defines cannot be found by the workers.


def make_plan(settings: Settings, workers: Workers) -> dict[str, Any]:
    """Seconds and memory of a run of these settings on this machine, whose features are in the cache.

    Returns:
        The keys of :meth:`Stopwatch.summary`, and ``checks`` and ``jobs``. A run that stops early takes less.

    Raises:
        WorkerError: The settings cannot be tried, most often for want of memory.
    """
    asked = {"settings": asdict(settings), "jobs": workers.jobs, "backend": workers.backend}
    command = [sys.executable, "-P", "-c", _CHILD]
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, check=False)
    if done.returncode == -signal.SIGKILL:
        raise WorkerError(
            "the process that tried these settings was killed, most likely because the memory was full",
            "use --jobs 1, a smaller --width or fewer items",
        )
    lines = done.stdout.splitlines()
    result: dict[str, Any] = json.loads(lines[-1]) if lines else {"error": _last_line(done.stderr)}
    if "error" in result:
        hint = result.get("hint", "run it without --dry-run; the error will stand there")
        raise WorkerError(f"these settings cannot be tried: {result['error']}", hint)
    return result


def plan_table(plan: Mapping[str, Any]) -> Sheet:
    """A line a phase: how long it will take, and the most memory that will be held until its end."""
    table = Sheet("phase", ">time", ">memory so far")
    memory = plan["rss_mb"] or {}
    for name, seconds in plan["seconds"].items():
        held = f"{memory[name]:.0f} MB" if name in memory else ""
        if seconds or name != "checks":
            table.add(f"{name} ({plan['checks']})" if name == "checks" else name, in_words(seconds), held)
    most = f"{plan['peak_rss_mb']:.0f} MB" if plan["peak_rss_mb"] else ""
    table.add("total", in_words(plan["total_seconds"]), most, style="bold")
    return table


def in_words(seconds: float) -> str:
    """A duration for people."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it said nothing"
