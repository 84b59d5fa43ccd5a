"""Trained weights to a folder of files, each of them compared with its source.

    graph = recogniser(student, mean=-28, std=20, temperature=0.5)
    report = export_student(graph, weights, folder, items, {"labels": "a,b"})      # in this process
    report = export_in_child(graph, weights, folder, items, {"labels": "a,b"})     # in a process of its own

On a board the second is the one to use: the writers' packages leave memory when the child ends, and a runtime that
crashes on a processor takes the child with it and not the program. The child is ``python -m edgeser_export.export
FOLDER``: the folder holds the request and receives the files; see :mod:`edgeser_export.utilities.children`.
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
from safetensors.numpy import load_file, save

from edgeser_export.graph.op_graph import FILE_OPS, Graph, Weights
from edgeser_export.graph.reference import run_reference
from edgeser_export.parity import ParityReport, compare
from edgeser_export.utilities.children import SECONDS, Told, answer, ignore_phase, run_child, tell
from edgeser_export.utilities.errors import EdgeserError, StorageError
from edgeser_export.utilities.files import write_bytes, write_json
from edgeser_export.writers.formats import find_format

REPORT = "parity.json"
REQUEST, WEIGHTS, ITEMS, CALIBRATION = "request.json", "weights.safetensors", "items.npy", "calibration.npy"
"""Files of a request to the child: the graph and the settings, and the arrays."""
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
    settings = {"metadata": dict(metadata), "formats": [*formats], "threads": threads, "optional": [*optional]}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # In the target's own folder: /tmp is memory on many boards, and a rename needs one file system.
        with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as name:
            request = Path(name)
            write_json(request / REQUEST, {"graph": graph.to_json(), **settings})
            write_bytes(request / WEIGHTS, save({key: np.ascontiguousarray(value) for key, value in weights.items()}))
            np.save(request / ITEMS, items, allow_pickle=False)
            np.save(request / CALIBRATION, items if calibration is None else calibration, allow_pickle=False)
            try:
                words = "-m", "edgeser_export.export", str(request)
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


def main() -> int:
    """The child's side; returns its exit code."""
    folder = Path(sys.argv[1])

    def work() -> None:
        settings = _read_json(folder / REQUEST)
        graph = Graph.from_json(settings.pop("graph"), FILE_OPS)
        items, calibration = (np.load(folder / name, allow_pickle=False) for name in (ITEMS, CALIBRATION))
        weights = load_file(folder / WEIGHTS)
        export_student(
            graph, weights, folder, items, calibration=calibration, told=lambda words: tell(phase=words), **settings
        )

    return answer(work)


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(main())
