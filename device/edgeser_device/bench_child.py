"""One measurement in a process of its own: ``python -m edgeser_device.bench_child MODEL --format onnx ...``.

Prints one JSON object. A fresh process for each measurement, because memory that one runtime took would be counted for
the next one, and because a runtime that crashes on a processor must not take the benchmark with it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgeser_device.frontend import FrontendSpec, FrontendStream
from edgeser_device.machine import peak_rss_mb
from edgeser_device.model import load_model
from edgeser_device.runtime import Recogniser
from edgeser_export.errors import EdgeserError

WARM_UP = 10
"""Calls before measuring: the first ones pay for caches and lazy allocation."""


def measure(folder: Path, format_name: str, runtime: str, threads: int, repeat: int) -> dict[str, Any]:
    """Load one file in one runtime and time front-end and model.

    Args:
        folder: A model folder.
        format_name: A row of the table of formats.
        runtime: A row of the table of runtimes.
        threads: Of one call.
        repeat: Measured calls.

    Returns:
        load_ms, frontend_ms_p50 (one second of sound), model_ms_p50, p95, p99 (one window), rtf, peak_rss_mb, warm_up.
    """
    model = load_model(folder)
    began = time.perf_counter()
    recogniser = Recogniser.open(model, format_name, runtime, threads)
    load_ms = 1000 * (time.perf_counter() - began)
    spec = model.frontend
    noise = np.random.default_rng(0).standard_normal((1, spec.mels, spec.frames)).astype(np.float32)
    window = noise * np.float32(spec.std) + np.float32(spec.mean)
    first_ms = _milliseconds(lambda: recogniser(window), 1)[0]
    _milliseconds(lambda: recogniser(window), WARM_UP)
    model_ms = _milliseconds(lambda: recogniser(window), repeat)
    frontend_ms = _frontend_milliseconds(spec, max(5, repeat // 10))
    each_second = spec.rate / (spec.hop * spec.window_hop)
    p50, p95, p99 = (round(float(np.percentile(model_ms, share)), 4) for share in (50, 95, 99))
    frontend = round(float(np.median(frontend_ms)), 4)
    return {
        "load_ms": round(load_ms, 3),
        "first_ms": round(first_ms, 4),
        "frontend_ms_p50": frontend,
        "model_ms_p50": p50,
        "p95": p95,
        "p99": p99,
        "rtf": round((frontend + p50 * each_second) / 1000, 6),
        "peak_rss_mb": peak_rss_mb(),
        "warm_up": WARM_UP,
        "repeat": repeat,
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure as the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m edgeser_device.bench_child", description="Measure one file once.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--format", required=True)
    parser.add_argument("--runtime", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--repeat", type=int, required=True)
    given = parser.parse_args(arguments)
    try:
        result = measure(given.model, given.format, given.runtime, given.threads, given.repeat)
    except EdgeserError as error:
        result = {"error": error.message}
    sys.stdout.write(json.dumps(result) + "\n")
    return 1 if "error" in result else 0


def _milliseconds(call: Callable[[], object], repeat: int) -> list[float]:
    times = []
    for _ in range(repeat):
        began = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - began))
    return times


def _frontend_milliseconds(spec: FrontendSpec, repeat: int) -> list[float]:
    second = (np.random.default_rng(1).standard_normal(spec.rate) * 0.1).astype(np.float32)
    stream = FrontendStream(spec)
    stream.push(second)
    return _milliseconds(lambda: stream.push(second), repeat)


if __name__ == "__main__":
    sys.exit(main())
