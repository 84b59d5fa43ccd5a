"""Writing ONNX nodes one after the other: every call adds one and returns the name of the tensor it computes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 18
"""Oldest opset in which every reduction takes its axes as an input; every onnxruntime since 1.14 runs it."""
INFERENCE_OPSET = 17
"""The last opset in which reductions carry their axes as attributes; every onnxruntime since 1.12 runs it."""
IR_VERSION = 8
"""The IR version of both opsets; onnx writes its newest by default, which older runtimes refuse."""


class Nodes:
    """A list of nodes and constants that grows.

    Tensors are named after their op type and position (``Mul.12``), so that the same calls write the same bytes.
    """

    def __init__(self) -> None:
        self.written: list[onnx.NodeProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], onnx.TensorProto] = {}

    @property
    def constants(self) -> list[onnx.TensorProto]:
        """Constants in the order of their first use; equal ones are stored once."""
        return list(self._constants.values())

    def add(self, kind: str, *inputs: str, into: str = "", **attributes: Any) -> str:
        """Add a node of the ONNX operator ``kind`` with one output.

        Args:
            kind: Name of the operator.
            inputs: Tensors; "" stands for an input left out.
            into: Name of the output, where it matters.
            attributes: Attributes of the operator.
        """
        name = into or f"{kind}.{len(self.written)}"
        self.written.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def add_many(self, kind: str, outputs: int, *inputs: str, **attributes: Any) -> tuple[str, ...]:
        """Add a node with several outputs."""
        names = tuple(f"{kind}.{len(self.written)}.{number}" for number in range(outputs))
        self.written.append(helper.make_node(kind, inputs, names, **attributes))
        return names

    def constant(self, value: NDArray[Any]) -> str:
        """A constant of the array's dtype and shape."""
        key = (str(value.dtype), value.shape, value.tobytes())
        if key not in self._constants:
            self._constants[key] = numpy_helper.from_array(value, f"constant.{len(self._constants)}")
        return self._constants[key].name

    def number(self, value: float) -> str:
        """A float32 scalar."""
        return self.constant(np.array(value, np.float32))

    def integers(self, values: Iterable[int]) -> str:
        """An int64 vector: a shape, axes, or pads."""
        return self.constant(np.array(list(values), np.int64))

    def reshape(self, tensor: str, shape: Iterable[int]) -> str:
        """The tensor in another shape; one size may be -1."""
        return self.add("Reshape", tensor, self.integers(shape))

    def sum(self, tensor: str, axes: Iterable[int], keep: bool = False) -> str:
        """Sum over axes."""
        return self.add("ReduceSum", tensor, self.integers(axes), keepdims=int(keep))

    def slice(
        self, tensor: str, axes: Iterable[int], starts: Iterable[int], ends: Iterable[int], steps: Iterable[int]
    ) -> str:
        """A slice, as in numpy."""
        return self.add("Slice", tensor, *[self.integers(values) for values in (starts, ends, axes, steps)])

    def concat(self, parts: Iterable[str], axis: int) -> str:
        """Tensors one after the other; one alone as it is."""
        first, *others = parts
        return self.add("Concat", first, *others, axis=axis) if others else first


def floats(shapes: Iterable[tuple[str, Sequence[int | str]]]) -> list[onnx.ValueInfoProto]:
    """Float32 inputs or outputs of a model, by name and shape; a text names a size that may be any."""
    return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes]


def weight_constants(weights: Mapping[str, NDArray[Any]]) -> list[onnx.TensorProto]:
    """Constants of a model by name."""
    return [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in weights.items()]


def model_bytes(
    title: str,
    nodes: Iterable[onnx.NodeProto],
    inputs: Iterable[onnx.ValueInfoProto],
    outputs: Iterable[onnx.ValueInfoProto],
    constants: Iterable[onnx.TensorProto],
    metadata: Mapping[str, object],
    opset: int = OPSET,
) -> bytes:
    """The content of an ONNX file; equal arguments give equal bytes.

    Args:
        title: Name of the graph.
        nodes: Nodes in the order they run.
        inputs: Tensors that a caller gives.
        outputs: Tensors that a caller gets.
        constants: Tensors with fixed content.
        metadata: Stored as the model's ``metadata_props``, sorted by key.
        opset: Version of the operators.
    """
    body = helper.make_graph(list(nodes), title, list(inputs), list(outputs), list(constants))
    imports = [helper.make_opsetid("", opset)]
    model = helper.make_model(body, producer_name="edgeser", ir_version=IR_VERSION, opset_imports=imports)
    helper.set_model_props(model, {key: str(value) for key, value in sorted(metadata.items())})
    return bytes(model.SerializeToString(deterministic=True))
