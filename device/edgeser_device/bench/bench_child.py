"""One measurement in a process of its own: ``python -m edgeser_device.bench.bench_child MODEL onnx onnxruntime 1 200``.

Prints one JSON object. A fresh process for each measurement, because memory that one runtime took would be counted for
the next one, and because a runtime that crashes on a processor must not take the benchmark with it. It loads what
inference needs and nothing else: argparse, numpy.random and numpy's percentiles would add 7 MB to what is measured.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeser_device.frontend import FrontendSpec, FrontendStream
from edgeser_device.machine import peak_rss_mb
from edgeser_device.model.joined_files import open_joined
from edgeser_device.model.model import load_model
from edgeser_device.model.predict import Recogniser
from edgeser_export.utilities.children import answer

PRIME, PIECE = 104729, 1024
WARM_UP = 10
"""Calls before measuring: the first ones pay for caches and lazy allocation."""


def measure(
    folder: Path, format_name: str, runtime: str, threads: int, repeat: int, joined: Path | None = None
) -> dict[str, Any]:
    """Load one file in one runtime and time front-end and model.

    Args:
        folder: A model folder.
        format_name: A row of the table of formats.
        runtime: A row of the table of runtimes.
        threads: Threads of one call.
        repeat: Measured calls.
        joined: A file in that format that holds encoder and head, in the place of the model's own.

    Returns:
        load_ms, frontend_ms_p50 (one second of sound), model_ms_p50, p95, p99 (one window, with the encoder where there
        is one), rtf, peak_rss_mb, warm_up.
    """
    model = load_model(folder)
    began = time.perf_counter()
    if joined is None:
        recogniser = Recogniser.open(model, format_name, runtime, threads)
    else:
        recogniser = open_joined(model, joined.read_bytes(), threads, runtime)
    load_ms = 1000 * (time.perf_counter() - began)
    spec = model.frontend
    frames = _noise(spec.mels * spec.frames).reshape(spec.mels, spec.frames)
    frames = frames * np.float32(spec.std) + np.float32(spec.mean)
    samples = _noise(spec.frames * spec.hop) * np.float32(0.1)

    def window() -> None:
        recogniser(recogniser.reads.window(frames, samples))

    first_ms = _milliseconds(window, 1)[0]
    _milliseconds(window, WARM_UP)
    model_ms = _milliseconds(window, repeat)
    frontend_ms = _frontend_milliseconds(spec, max(5, repeat // 10))
    peak = peak_rss_mb()
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
        "peak_rss_mb": peak,
        "warm_up": WARM_UP,
        "repeat": repeat,
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure as the command line says: MODEL FORMAT RUNTIME THREADS REPEAT [FILE]; returns the exit code."""
    model, format_name, runtime, threads, repeat, *joined = sys.argv[1:] if arguments is None else arguments

    def work() -> None:
        result = measure(Path(model), format_name, runtime, int(threads), int(repeat), *map(Path, joined))
        sys.stdout.write(json.dumps(result) + "\n")

    return answer(work)


def _milliseconds(call: Callable[[], object], repeat: int) -> list[float]:
    times = []
    for _ in range(repeat):
        began = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - began))
    return times


def _noise(count: int) -> NDArray[np.float32]:
    """Numbers without order, mean 0 and variance 1, float32 (count,)."""
    found = np.empty(count, dtype=np.float32)
    for start in range(0, count, PIECE):  # whole arrays of int64 would be counted as the model's memory
        place = np.arange(start, min(start + PIECE, count), dtype=np.int64)
        found[start : start + PIECE] = place * place % PRIME / (PRIME / 12**0.5) - 3**0.5
    return found


def _frontend_milliseconds(spec: FrontendSpec, repeat: int) -> list[float]:
    second = _noise(spec.rate) * np.float32(0.1)
    stream = FrontendStream(spec)
    stream.push(second)
    return _milliseconds(lambda: stream.push(second), repeat)


if __name__ == "__main__":
    sys.exit(main())
