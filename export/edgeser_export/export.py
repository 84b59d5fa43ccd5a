"""Trained weights to a folder of files, each of them compared with its source.

    graph = recogniser(student, mean=-28, std=20, temperature=0.5)
    report = export_student(graph, weights, folder, items, {"labels": "a,b"})      # in this process
    report = export_in_child(graph, weights, folder, items, {"labels": "a,b"})     # in a process of its own

On a board the second is the one to use: the writers' packages leave memory when the child ends, and a runtime that
crashes on a processor takes the child with it and not the program. The child's own command line is

    python -m edgeser_export.export REQUEST_FOLDER [--format onnx ...] [--threads 1]

where the folder holds ``student.json``, ``weights.safetensors``, ``items.npy`` and ``metadata.json`` and receives
``student.onnx``, ``student.tflite`` and ``parity.json``. It exits with 0, 1 (a file does not compute what it should) or
2; see :mod:`edgeser_export.utilities.children`.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from edgeser_export.graph.op_graph import FILE_OPS, Graph, Weights
from edgeser_export.graph.reference import run_reference
from edgeser_export.parity import ParityReport, compare
from edgeser_export.utilities.children import SECONDS, Told, answer, ignore_phase, run_child, tell
from edgeser_export.utilities.errors import EdgeserError, ExportError, StorageError
from edgeser_export.utilities.files import write_bytes, write_json
from edgeser_export.writers.formats import FORMATS, find_format

REPORT = "parity.json"
STUDENT, WEIGHTS, ITEMS, METADATA = "student.json", "weights.safetensors", "items.npy", "metadata.json"
CALIBRATION = "calibration.npy"
DEFAULT_FORMATS = ("onnx", "tflite")
INT8_FORMATS = ("onnx-int8", "tflite-int8")


def export_student(
    graph: Graph,
    weights: Weights,
    folder: Path,
    items: NDArray[np.float32],
    metadata: Mapping[str, str],
    formats: Sequence[str] = DEFAULT_FORMATS,
    threads: int = 1,
    calibration: NDArray[np.float32] | None = None,
    optional: Sequence[str] = (),
    told: Told = ignore_phase,
) -> ParityReport:
    """Write a recogniser in each format into ``folder``, load each file again, and compare.

    Args:
        graph: A student, with its batch normalisations, within :func:`edgeser_export.graph.transform.recogniser`.
        weights: Its parameters and running statistics.
        folder: Receives ``student.onnx`` and so on, and ``parity.json``, even where a file fails. Give a draft folder.
        items: float32 (items, channels, height, width): what the files are compared on.
        metadata: Stored in every file.
        formats: Rows of ``FORMATS``.
        threads: Threads of the runtimes.
        calibration: Items to calibrate int8 on, shaped as ``items``; None takes ``items`` themselves.
        optional: Formats whose file is removed, and no error, where it does not compute what it should.
        told: It is called with what is done.

    Raises:
        ParityError: A file does not compute what its source computes.
        GraphError: The weights do not fit the graph.
        ExportError: Unknown format, or a file that cannot be loaded again.
        MissingRuntime: A package for one of the formats is missing.
        StorageError: The folder cannot be written.
    """
    rows = [find_format(name) for name in formats]
    seen = items if calibration is None else calibration
    for row in rows:
        told(f"writing {row.file_name}")
        write_bytes(folder / row.file_name, row.write(graph, weights, metadata, seen))
    told("comparing the files")
    reference = run_reference(graph, weights, items)
    report = compare({row.name: folder / row.file_name for row in rows}, items, reference, threads)
    write_json(folder / REPORT, report.to_json())
    for entry in report.rows:
        if entry.name in optional and not entry.passed:
            (folder / find_format(entry.name).file_name).unlink()
    report.without(optional).require()
    return report


def export_in_child(
    graph: Graph,
    weights: Weights,
    folder: Path,
    items: NDArray[np.float32],
    metadata: Mapping[str, str],
    formats: Sequence[str] = DEFAULT_FORMATS,
    threads: int = 1,
    calibration: NDArray[np.float32] | None = None,
    optional: Sequence[str] = (),
    timeout: float = SECONDS,
    told: Told = ignore_phase,
) -> ParityReport:
    """:func:`export_student` in a process of its own; the same arguments, files and errors.

    Args:
        graph: See :func:`export_student`, also for the following ones.
        weights: Parameters and running statistics.
        folder: Receives the files.
        items: Items on which the files are compared.
        metadata: Stored in every file.
        formats: Rows of ``FORMATS``.
        threads: Threads of the runtimes.
        calibration: Items to calibrate int8 on.
        optional: Formats that may fail.
        timeout: Seconds until the child is ended.
        told: It is called with what the child does.

    Raises:
        ExportError: The child could not be started, or was ended by a signal or by the timeout; or whatever
            :func:`export_student` raises.
    """
    names = [find_format(name).file_name for name in formats] + [REPORT]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # In the target's own folder: /tmp is memory on many boards, and a rename needs one file system.
        with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as name:
            request = Path(name)
            _write_request(request, graph, weights, items, metadata)
            if calibration is not None:
                np.save(request / CALIBRATION, calibration, allow_pickle=False)
            try:
                words = ("-m", "edgeser_export.export", str(request), *_flags(formats, optional, threads))
                run_child(words, "the export", threads=threads, seconds=timeout, told=told)
            finally:
                for file in names:
                    if (request / file).exists():
                        os.replace(request / file, folder / file)
        return ParityReport.from_json(_read_json(folder / REPORT))
    except EdgeserError:
        raise
    except OSError as error:
        raise StorageError(
            f"cannot export to {folder}: {error.strerror or error}",
            "check the free space and the permissions of that folder (df -h, ls -ld)",
        ) from error


def _write_request(
    folder: Path, graph: Graph, weights: Weights, items: NDArray[np.float32], metadata: Mapping[str, str]
) -> None:
    write_json(folder / STUDENT, graph.to_json())
    write_json(folder / METADATA, dict(metadata))
    write_bytes(folder / WEIGHTS, save({name: np.ascontiguousarray(value) for name, value in weights.items()}))
    np.save(folder / ITEMS, items, allow_pickle=False)


def _flags(formats: Sequence[str], optional: Sequence[str], threads: int) -> list[str]:
    asked = [word for name in formats for word in ("--format", name)]
    return [*asked, *(word for name in optional for word in ("--optional", name)), "--threads", str(threads)]


def main(arguments: Sequence[str] | None = None) -> int:
    """The child's command line; returns its exit code."""
    import argparse  # a megabyte, which only the child pays

    parser = argparse.ArgumentParser(
        prog="python -m edgeser_export.export", description="Write a student as files and compare them with it."
    )
    parser.add_argument("request", type=Path, help=f"folder with {STUDENT}, {WEIGHTS}, {ITEMS} and {METADATA}")
    parser.add_argument(
        "--format", action="append", choices=[*FORMATS], dest="formats", help="default: onnx and tflite"
    )
    parser.add_argument("--optional", action="append", default=[], choices=[*FORMATS], help="may fail")
    parser.add_argument("--threads", type=int, default=1, help="threads of the runtimes (default: 1)")
    given = parser.parse_args(arguments)

    def work() -> None:
        graph, weights, items, metadata = _read_request(given.request)
        calibration = _read_items(given.request / CALIBRATION) if (given.request / CALIBRATION).exists() else None
        formats = given.formats or DEFAULT_FORMATS
        export_student(
            graph, weights, given.request, items, metadata, formats, given.threads, calibration, given.optional,
            lambda words: tell(phase=words),
        )  # fmt: skip

    return answer(work)


def _read_request(folder: Path) -> tuple[Graph, dict[str, NDArray[np.float32]], NDArray[np.float32], dict[str, str]]:
    try:
        graph = Graph.from_json(_read_json(folder / STUDENT), FILE_OPS)
        weights = load_file(folder / WEIGHTS)
        items = _read_items(folder / ITEMS)
        metadata = {str(key): str(value) for key, value in _read_json(folder / METADATA).items()}
    except EdgeserError:
        raise
    except (OSError, ValueError, AttributeError, SafetensorError) as error:
        raise ExportError(f"the request in {folder} cannot be read: {error}", "export the model again") from error
    return graph, weights, items, metadata


def _read_items(path: Path) -> NDArray[np.float32]:
    items: NDArray[np.float32] = np.load(path, allow_pickle=False)
    return items


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(main())
