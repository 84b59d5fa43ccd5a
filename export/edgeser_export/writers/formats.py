"""The formats a student can be written in: one table that help texts, checks, exports and benchmarks read.

    data = find_format("tflite").write(graph, weights, {"labels": "[]"}, items)

The packages that a writer needs are imported when it writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeser_export.graph.op_graph import Graph, Weights
from edgeser_export.graph.transform import InferenceGraph, for_inference
from edgeser_export.runtimes import Kind
from edgeser_export.utilities.errors import ExportError, find_row, require_module
from edgeser_export.utilities.files import sha256

Items: TypeAlias = NDArray[np.float32]
Precision: TypeAlias = Literal["float32", "int8"]
NOTHING: Mapping[str, str] = MappingProxyType({})
WRITERS: Mapping[Kind, tuple[str, str]] = {
    "onnx": ("edgeser_export.writers.onnx_files", "onnx"),
    "tflite": ("edgeser_export.writers.tflite_files", "ai-edge-litert"),
}
"""The module that writes a kind of files, and the package that it needs."""
ENCODER_WRITERS: Mapping[Kind, tuple[str, str]] = {
    "onnx": ("edgeser_export.writers.onnx_encoder", "onnx"),
    "tflite": ("edgeser_export.writers.tflite_encoder", "ai-edge-litert"),
}
"""The same for encoders, alone or with a head behind them."""


@dataclass(frozen=True)
class Format:
    """One row of the table of formats.

    Attributes:
        name: The name that users write.
        suffix: End of the file's name, after ``student``.
        precision: Type of the weights, and of what is computed between normalisation and logits.
        summary: One line for help texts.
        kind: The kind of runtime that runs it; see :mod:`edgeser_export.runtimes`.
        bound: Largest accepted difference of a probability's logarithm, as a share of the largest logarithm; see
            :mod:`edgeser_export.parity`.
    """

    name: str
    suffix: str
    precision: Precision
    summary: str
    kind: Kind
    bound: float

    @property
    def file_name(self) -> str:
        """Name of the file in a model's folder."""
        return f"student{self.suffix}"

    def write(self, graph: Graph, weights: Weights, metadata: Mapping[str, str], items: Items) -> bytes:
        """The content of a file.

        Args:
            graph: The op graph, with or without batch normalisation.
            weights: Its parameters and running statistics.
            metadata: Stored in the file.
            items: Items to calibrate int8 on, float32 (items, channels, height, width).

        Raises:
            GraphError: The weights do not fit the graph, or the graph is none for inference.
            MissingRuntime: A package that writes the format is missing.
        """
        writer = _writer(*WRITERS[self.kind])
        if self.precision == "float32":
            return bytes(getattr(writer, f"write_{self.kind}")(graph, weights, metadata))
        inference = for_inference(graph, weights)
        return bytes(writer.write_plan(inference, _plan(inference, items), metadata))

    def write_encoder(self, graph: Graph, weights: Weights, metadata: Mapping[str, str]) -> bytes:
        """The content of an encoder's file, alone or with a head behind it.

        Args:
            graph: See :mod:`edgeser_export.graph.encoder_graph`.
            weights: Its parameters.
            metadata: Stored in the file.

        Raises:
            GraphError: The weights do not fit the graph, or the graph is no encoder.
            MissingRuntime: A package that writes the format is missing.
        """
        writer = _writer(*ENCODER_WRITERS[self.kind])
        return bytes(writer.write_encoder(graph, weights, metadata, self.precision))


def read_encoder(data: bytes) -> tuple[Graph, dict[str, NDArray[np.float32]]]:
    """The graph and the weights of an encoder's float32 ONNX file, see :mod:`edgeser_export.writers.onnx_encoder`.

    Raises:
        GraphError: The file lacks a weight of an encoder that edgeser writes.
        MissingRuntime: onnx is missing.
    """
    graph, weights = require_module(*ENCODER_WRITERS["onnx"], "reading an encoder's weights").read_encoder(data)
    return graph, weights


def find_format(name: str) -> Format:
    """The row ``name`` of ``FORMATS``.

    Raises:
        ExportError: There is no such format.
    """
    return find_row(FORMATS, name, "format", ExportError)


def format_of(kind: str, precision: str) -> Format:
    """The row for a kind of file in a precision.

    Raises:
        ExportError: There is no such row.
    """
    for row in FORMATS.values():
        if (row.kind, row.precision) == (kind, precision):
            return row
    return find_format(kind)


def _plan(inference: InferenceGraph, items: Items) -> Any:
    """The plan of a student; the last one is kept, because a model has several int8 files."""
    digest = sha256(items.tobytes())
    for name in sorted(inference.weights):
        digest.update(inference.weights[name].tobytes())
    key = (inference.graph, items.shape, digest.digest())
    if key not in _PLANS:
        found = _writer("edgeser_export.writers.rounding", "onnx").plan_int8(inference, items)
        _PLANS.clear()
        _PLANS[key] = found
    return _PLANS[key]


_PLANS: dict[Any, Any] = {}


def _writer(module: str, package: str) -> Any:
    return require_module(module, package, "writing this format")


FLOAT32_BOUND = 2e-5
"""A share of the largest logarithm of a probability. Correct files of the students differ by up to 4e-7: float32 sums
in another order. At temperatures up to 1, weights rounded to float16 differ by 4e-5 and more, a padding on the wrong
side by 3e-3 and more. The bound leaves room for kernels of processors that were not measured, and not for those."""

INT8_BOUND = 0.12
"""A share of the largest logarithm of a probability. Files of trained students differ from float32 by up to 0.04, a
runtime that cut off sums by 0.24. Finer mistakes than this shows are found by the tests, against
the plan computed by numpy; what rounding costs is for ``--max-drop``."""

FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        row.name: row
        for row in (
            Format("onnx", ".onnx", "float32", "ONNX, for onnxruntime", "onnx", FLOAT32_BOUND),
            Format("tflite", ".tflite", "float32", "TFLite, for LiteRT", "tflite", FLOAT32_BOUND),
            Format("onnx-int8", ".int8.onnx", "int8", "ONNX in int8 (QDQ)", "onnx", INT8_BOUND),
            Format("tflite-int8", ".int8.tflite", "int8", "TFLite in int8", "tflite", INT8_BOUND),
        )
    }
)
