"""Training steps written in a process of their own: the writer's package leaves memory when that process ends.

    steps = write_in_child({"step": Request("training", graph, {"batch": 16, "trained": "frozen"})})
    steps["step"]        # bytes of an ONNX file

The child is ``python -m edgeser_export.trainstep.step_writer``: requests as JSON on stdin, the files as safetensors on
stdout; see :mod:`edgeser_export.utilities.children`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from edgeser_export.graph.op_graph import Graph
from edgeser_export.utilities.children import answer, run_child
from edgeser_export.utilities.errors import ExportError, require_module

WRITERS: Mapping[str, str] = {"training": "training_step", "statistics": "statistics_step", "forward": "forward_pass"}
"""The kind of file that is asked for -> the function of :mod:`edgeser_export.trainstep.step_graph` that writes it."""


@dataclass(frozen=True)
class Request:
    """A file to write.

    Attributes:
        writer: A row of ``WRITERS``.
        graph: The op graph of a student, or of a part of one.
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
    words = "-m", "edgeser_export.trainstep.step_writer"
    written = run_child(words, "writing the training step", json.dumps(asked).encode(), threads=1)
    try:
        return {name: value.tobytes() for name, value in load(written).items()}
    except SafetensorError as error:
        raise ExportError(f"the writer of training steps answered: {error}", "see edgeser doctor") from error


def write(requests: Mapping[str, Any]) -> dict[str, bytes]:
    """The files of requests in their JSON form; errors as :func:`write_in_child`."""
    writers = require_module("edgeser_export.trainstep.step_graph", "onnx", "writing a training step")
    found = {}
    for name, request in requests.items():
        function: Callable[..., bytes] = getattr(writers, WRITERS[request["writer"]])
        found[name] = function(Graph.from_json(request["graph"]), **request["settings"])
    return found


def main() -> int:
    """The child's side; returns its exit code."""

    def work() -> None:
        files = write(json.load(sys.stdin))
        sys.stdout.buffer.write(save({name: np.frombuffer(data, np.uint8) for name, data in files.items()}))

    return answer(work)


if __name__ == "__main__":
    sys.exit(main())
