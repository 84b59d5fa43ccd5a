"""A TFLite flatbuffer put together from tensors and operators.

:mod:`edgeser_export.writers.tflite_files` stands above it. It knows the file format and nothing of op graphs. The
schema's classes come with ai-edge-litert.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgeser_export.utilities.errors import ModelFileError

IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3
METADATA_NAME = "edgeser"
"""Name of the one metadata entry; its buffer is a JSON object of strings, UTF-8, sorted by key."""
ALIGNMENT = 16
"""Bytes. The schema asks for it with force_align, which the generated Python code ignores; runtimes map the weights
in place and some kernels fail on the misaligned ones."""
TYPES: Mapping[np.dtype[Any], int] = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.int16): schema.TensorType.INT16,
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.bool_): schema.TensorType.BOOL,
}
LAST_ONE_BYTE_CODE = 127
"""Operators up to this code are also named in the older one-byte field, which old readers look at."""


@dataclass(frozen=True)
class Quantisation:
    """The meaning of a stored integer q: scales (q - zero); several scales are one for each index of axis 0."""

    scales: NDArray[np.float32]
    zero: int = 0


class _AlignedBuffer(schema.BufferT):  # type: ignore[misc]  # the schema has no types
    def __init__(self, content: bytes = b"") -> None:
        super().__init__()
        self.content = content

    def Pack(self, builder: Any) -> int:  # noqa: N802  the schema's name
        vector = None
        if self.content:
            # Built from the end: after this padding the vector's first byte lies on a multiple of ALIGNMENT.
            builder.Prep(ALIGNMENT, len(self.content))
            vector = builder.CreateByteVector(self.content)
        schema.BufferStart(builder)
        if vector is not None:
            schema.BufferAddData(builder, vector)
        return int(schema.BufferEnd(builder))


class TfliteFile:
    """One subgraph under construction. Tensors are known by the number that :meth:`tensor` returns."""

    def __init__(self) -> None:
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self._codes: dict[tuple[int, int], int] = {}
        # Buffer 0 is empty by convention: tensors without constant content point to it.
        self._buffers: list[_AlignedBuffer] = [_AlignedBuffer()]
        self._metadata: list[Any] = []

    def tensor(
        self, name: str, shape: Sequence[int], dtype: Any = np.float32, steps: Quantisation | None = None
    ) -> int:
        """Add a tensor that the runtime computes."""
        return self._add_tensor(name, shape, np.dtype(dtype), 0, steps)

    def constant(self, name: str, value: NDArray[Any], steps: Quantisation | None = None) -> int:
        """Add a tensor with fixed content."""
        buffer = self._buffer(np.ascontiguousarray(value).tobytes())
        return self._add_tensor(name, value.shape, value.dtype, buffer, steps)

    def shape(self, number: int) -> tuple[int, ...]:
        """The shape of a tensor."""
        return tuple(int(size) for size in self._tensors[number].shape)

    def operator(
        self,
        code: int,
        inputs: Sequence[int],
        output: int,
        options: str = "",
        version: int = 1,
        **settings: float,
    ) -> None:
        """Append an operator.

        Args:
            code: From ``schema.BuiltinOperator``.
            inputs: Numbers of the tensors that it reads.
            output: Number of the tensor that it writes.
            options: Name of its options table in the schema, or nothing.
            version: Operator version that its types ask for.
            **settings: Fields of the options table.
        """
        operator = schema.OperatorT()
        operator.opcodeIndex = self._codes.setdefault((code, version), len(self._codes))
        operator.inputs = np.array(inputs, dtype=np.int32)
        operator.outputs = np.array([output], dtype=np.int32)
        if options:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(schema, f"{options}T")(**settings)
        self._operators.append(operator)

    def metadata(self, values: Mapping[str, str]) -> None:
        """Store ``values`` as the metadata entry ``METADATA_NAME``."""
        entry = schema.MetadataT()
        entry.name = METADATA_NAME
        text = json.dumps(dict(values), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        entry.buffer = self._buffer(text.encode())
        self._metadata.append(entry)

    def finish(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """The content of the file."""
        subgraph = schema.SubGraphT()
        subgraph.name = "student"
        subgraph.tensors, subgraph.operators = self._tensors, self._operators
        subgraph.inputs, subgraph.outputs = (np.array(numbers, dtype=np.int32) for numbers in (inputs, outputs))
        model = schema.ModelT()
        model.version, model.description = SCHEMA_VERSION, "edgeser"
        model.subgraphs, model.buffers, model.metadata = [subgraph], self._buffers, self._metadata
        model.operatorCodes = [_operator_code(code, version) for code, version in self._codes]
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
        return bytes(builder.Output())

    def _add_tensor(
        self, name: str, shape: Sequence[int], dtype: np.dtype[Any], buffer: int, steps: Quantisation | None
    ) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name, np.array(shape, dtype=np.int32), TYPES[dtype]
        tensor.buffer, tensor.hasRank = buffer, True
        if steps is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = np.atleast_1d(steps.scales).astype(np.float32)
            tensor.quantization.zeroPoint = np.full(tensor.quantization.scale.size, steps.zero, np.int64)
            tensor.quantization.quantizedDimension = 0
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def _buffer(self, content: bytes) -> int:
        self._buffers.append(_AlignedBuffer(content))
        return len(self._buffers) - 1


def read_tflite_metadata(data: bytes) -> dict[str, str]:
    """Read the values that :meth:`TfliteFile.metadata` stored in a file; empty where nothing was stored.

    Raises:
        ModelFileError: ``data`` is no TFLite file.
    """
    if data[4:8] != IDENTIFIER:
        raise ModelFileError("this is not a TFLite file", "export the model again")
    model = schema.Model.GetRootAs(data, 0)
    for index in range(model.MetadataLength()):
        entry = model.Metadata(index)
        if entry.Name() == METADATA_NAME.encode():
            content = model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()
            return {str(key): str(value) for key, value in json.loads(content).items()}
    return {}


def _operator_code(code: int, version: int) -> Any:
    entry = schema.OperatorCodeT()
    entry.builtinCode, entry.version = code, version
    entry.deprecatedBuiltinCode = min(code, LAST_ONE_BYTE_CODE)
    return entry
