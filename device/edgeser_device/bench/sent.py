"""A benchmark in a form that its user may send: figures and the machine, and nothing that names a person or a folder.

write_report(bench, model, Path("board.json"))

What is kept is listed here key by key, so that a new key of a benchmark is not sent before somebody has judged it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeser_device.bench.bench import Bench
from edgeser_device.model.model import Model
from edgeser_export.utilities.files import write_json

SCHEMA = 1
MACHINE = (
    "model", "is_raspberry_pi", "system", "kernel", "architecture", "bits", "cpu", "cores", "memory_mb", "python",
    "packages", "governor", "temperature_c", "throttled",
)  # fmt: skip
RESULT = (
    "format", "precision", "runtime", "runtime_version", "threads", "load_ms", "first_ms", "frontend_ms_p50",
    "model_ms_p50", "p95", "p99", "rtf", "peak_rss_mb", "warm_up", "repeat", "bytes", "agreement",
)  # fmt: skip
CONDITION = ("governor", "temperature_c", "throttled", "load_average")
STUDENT = ("architecture", "width", "parameters", "multiply_accumulates")


def report_of(bench: Bench, model: Model) -> dict[str, Any]:
    """The report as plain JSON values; of the kernel only the numbers of its version, which a user may have named."""
    machine = _kept(bench.machine, MACHINE)
    numbers = re.match(r"\d+(\.\d+)*", str(machine.get("kernel") or ""))
    return {
        "schema": SCHEMA,
        "machine": {**machine, "kernel": numbers[0] if numbers else None},
        "conditions": {when: _kept(found, CONDITION) for when, found in bench.conditions.items()},
        "student": _kept(model.description.get("architecture") or {}, STUDENT),
        "encoder": model.encoder.name if model.encoder else None,
        "results": [_kept(row, RESULT) for row in bench.results],
    }


def write_report(bench: Bench, model: Model, path: Path) -> None:
    """Write the report to a file.

    Raises:
        StorageError: It cannot be written.
    """
    write_json(path, report_of(bench, model))


def _kept(found: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: found[key] for key in keys if key in found}
