"""Training steps written in a process of their own: the writer's package leaves memory when that process ends.

    steps = write_in_child({"step": Request("training", graph, {"batch": 16, "trained": "frozen"})})
    steps["step"]        # bytes of an ONNX file

The child is ``python -m edgeser_export.stepwriter``: requests as JSON on stdin, the files as safetensors on stdout; or
one JSON line on stderr, {"kind", "message", "hint"}, and exit code 2.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import MappingProxyType
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from edgeser_export.children import child_error
from edgeser_export.errors import EdgeserError, ExportError, MissingRuntime
from edgeser_export.graph import Graph

SECONDS = 600.0
"""The largest student takes a second on a PC; beyond this the child is taken to hang."""
WRITERS: Mapping[str, str] = MappingProxyType(
    {"training": "training_step", "statistics": "statistics_step", "forward": "forward_pass"}
)
"""What can be asked for -> the function of :mod:`edgeser_export.trainstep` that writes it."""


@dataclass(frozen=True)
class Request:
    """A file to write.

    Attributes:
        writer: A row of ``WRITERS``.
        graph: Of a student, or of a part of one.
        settings: The function's further arguments by name; plain JSON values.
    """

    writer: str
    graph: Graph
    settings: Mapping[str, Any] = field(default_factory=dict)


def write_in_child(requests: Mapping[str, Request]) -> dict[str, bytes]:
    """Write some ONNX files in one child process.

    Raises:
        GraphError: A graph cannot be trained, or an argument is unknown.
        MissingRuntime: The package ``onnx`` is missing.
        ExportError: The child could not be started, or was ended.
    """
    asked = {
        name: {"writer": request.writer, "graph": request.graph.to_json(), "settings": dict(request.settings)}
        for name, request in requests.items()
    }
    command = [sys.executable, "-P", "-m", "edgeser_export.stepwriter"]
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    try:
        child = subprocess.run(
            command, input=json.dumps(asked).encode(), capture_output=True, timeout=SECONDS, env=environment
        )
    except subprocess.TimeoutExpired as error:
        raise ExportError(
            f"the training step was not written within {SECONDS:g} s", "check the load and the free memory"
        ) from error
    except OSError as error:
        raise ExportError(
            f"the writer of training steps could not be started: {error}", "check the free memory of this machine"
        ) from error
    if child.returncode != 0:
        raise child_error("writing the training step", child.returncode, child.stderr.decode(errors="replace"))
    try:
        return {name: value.tobytes() for name, value in load(child.stdout).items()}
    except SafetensorError as error:
        raise ExportError(f"the writer of training steps answered: {error}", "see edgeser doctor") from error


def write(requests: Mapping[str, Any]) -> dict[str, bytes]:
    """The files of requests in their JSON form; errors as :func:`write_in_child`."""
    try:
        writers = import_module("edgeser_export.trainstep")
    except ImportError as error:
        raise MissingRuntime(
            f"writing a training step needs the package 'onnx', which cannot be imported: {error}",
            "install it with: pip install onnx",
        ) from error
    found = {}
    for name, request in requests.items():
        function: Callable[..., bytes] = getattr(writers, WRITERS[request["writer"]])
        found[name] = function(Graph.from_json(request["graph"]), **request["settings"])
    return found


def main() -> int:
    """The child's side; returns its exit code."""
    try:
        files = write(json.load(sys.stdin))
    except EdgeserError as error:
        line = {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
        sys.stderr.write(json.dumps(line) + "\n")
        return error.exit_code
    sys.stdout.buffer.write(save({name: np.frombuffer(data, np.uint8) for name, data in files.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
