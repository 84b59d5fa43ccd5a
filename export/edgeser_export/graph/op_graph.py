"""A student as a short list of operations: the one description that training, ONNX and TFLite are written from.

    graph = Graph(input_shape=(1, 64, 96), ops=(
        Conv("conv1", "x", channels=16, kernel=5, stride=2, padding=2, bias=False),
        BatchNorm("norm1", "conv1"),
        Relu("relu1", "norm1"),
        Reduce("pooled", "relu1", axes=(1, 2), how="mean"),
        Linear("logits", "pooled", features=4),
    ))

Shapes are written without the batch: (channels, height, width), then (channels, width) or (channels,) after a
reduction. Weights are a mapping from name to a float32 array: ``conv1.weight`` (out, in, kernel, kernel),
``norm1.weight``, ``norm1.bias``, ``norm1.running_mean``, ``norm1.running_var`` (channels,), ``logits.weight``
(out, in), ``logits.bias`` (out,). The names and layouts are torch's.

A file for a runtime holds more than a student: :func:`edgeser_export.graph.transform.recogniser` adds the normalisation
before it, and the temperature and the softmax behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from math import inf, prod
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeser_export.utilities.errors import GraphError

Shape: TypeAlias = tuple[int, ...]
Weights: TypeAlias = Mapping[str, NDArray[np.float32]]

INPUT = "x"
"""The name of a graph's input."""
MEL, TOKENS = "mel", "tokens"
"""The names of the inputs of an encoder's file: mels of a window, and the number of its real tokens."""
NORM_EPSILON = 1e-5
"""Added to the variance in every batch normalisation, as in torch."""


@dataclass(frozen=True)
class Unary:
    """An operation that reads one tensor.

    Attributes:
        name: Name of the operation and of the tensor that it computes.
        source: Name of the tensor that it reads.
    """

    name: str
    source: str


@dataclass(frozen=True)
class Conv(Unary):
    """Two-dimensional convolution with a square kernel, zero padding on all sides, no dilation and no groups."""

    channels: int
    kernel: int
    stride: int = 1
    padding: int = 0
    bias: bool = True


@dataclass(frozen=True)
class BatchNorm(Unary):
    """Batch normalisation over batch, height and width."""


@dataclass(frozen=True)
class Relu(Unary):
    """max(x, 0)."""


@dataclass(frozen=True)
class Pool(Unary):
    """Pooling over square windows that do not overlap; rows and columns that do not fill a window are dropped."""

    size: int
    how: Literal["mean", "max"]


@dataclass(frozen=True)
class Reduce(Unary):
    """Mean or maximum over whole axes, which disappear. Axis 0 is the channel and cannot be reduced."""

    axes: tuple[int, ...]
    how: Literal["mean", "max"]


@dataclass(frozen=True)
class Concat:
    """Concatenation along the channels."""

    name: str
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Add:
    """Sum of two tensors of one shape."""

    name: str
    sources: tuple[str, str]


@dataclass(frozen=True)
class Linear(Unary):
    """Dense layer over a vector."""

    features: int
    bias: bool = True


@dataclass(frozen=True)
class TokenLinear(Linear):
    """Dense layer over the channels of each token: (tokens, channels) to (tokens, features)."""


@dataclass(frozen=True)
class Conv1d(Unary):
    """Convolution over time, zero padding at both ends: (channels, time) to (channels, time)."""

    channels: int
    kernel: int
    stride: int = 1
    padding: int = 0


@dataclass(frozen=True)
class Gelu(Unary):
    """x times the normal distribution function of x (Hendrycks and Gimpel 2016, arXiv 1606.08415)."""


@dataclass(frozen=True)
class Tokens(Unary):
    """The same numbers with time first: (channels, time) to (tokens, channels)."""


@dataclass(frozen=True)
class Offset(Unary):
    """A learnt number added to every element, such as the position of each token."""


@dataclass(frozen=True)
class LayerNorm(Unary):
    """Normalisation of each token to mean 0 and variance 1, then a learnt scale and shift for each channel."""


@dataclass(frozen=True)
class Attention:
    """Scaled dot-product attention of queries, keys and values (tokens, channels), over real tokens only."""

    name: str
    sources: tuple[str, str, str]
    heads: int


@dataclass(frozen=True)
class Moments(Unary):
    """Mean, then standard deviation (divided by n - 1), over the real tokens: (tokens, channels) to (2 channels,)."""


@dataclass(frozen=True)
class Normalise(Unary):
    """(x - mean) / std; both numbers are rounded to float32, and ``std`` is above 0."""

    mean: float
    std: float


@dataclass(frozen=True)
class Softmax(Unary):
    """Probabilities: the softmax of a vector divided by ``temperature``, which is above 0."""

    temperature: float


Op: TypeAlias = (
    Conv | BatchNorm | Relu | Pool | Reduce | Concat | Add | Linear | Normalise | Softmax
    | TokenLinear | Conv1d | Gelu | Tokens | Offset | LayerNorm | Attention | Moments
)  # fmt: skip
OPS: Mapping[str, type[Op]] = {
    "conv": Conv,
    "batchnorm": BatchNorm,
    "relu": Relu,
    "pool": Pool,
    "reduce": Reduce,
    "concat": Concat,
    "add": Add,
    "linear": Linear,
}
"""Operations that a student may be made of, by their names in JSON."""
FILE_OPS: Mapping[str, type[Op]] = {
    **OPS,
    "normalise": Normalise,
    "softmax": Softmax,
    "token_linear": TokenLinear,
    "conv1d": Conv1d,
    "gelu": Gelu,
    "tokens": Tokens,
    "offset": Offset,
    "layernorm": LayerNorm,
    "attention": Attention,
    "moments": Moments,
}
"""Operations that a file may be made of: those of students and encoders, and what surrounds a student."""
KINDS: Mapping[type[Op], str] = {op: kind for kind, op in FILE_OPS.items()}
_SIZES = ("channels", "kernel", "stride", "padding", "size", "features", "heads")


def sources(op: Op) -> tuple[str, ...]:
    """Names of the tensors that ``op`` reads."""
    return op.sources if isinstance(op, Concat | Add | Attention) else (op.source,)


@dataclass(frozen=True)
class Graph:
    """Operations in the order they run; the last one is the output: a student's logits, a recogniser's probabilities.

    Attributes:
        input_shape: Shape of one item, (channels, height, width).
        ops: Every name is new, and only earlier names are read.

    Raises:
        GraphError: Names clash or are unknown, or shapes do not fit.
    """

    input_shape: Shape
    ops: tuple[Op, ...]

    def __post_init__(self) -> None:
        self.shapes  # noqa: B018  computing the shapes is the check

    @property
    def output(self) -> str:
        """Name of the last tensor."""
        return self.ops[-1].name

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """Shape of every tensor, without the batch."""
        if not self.ops:
            raise GraphError("a graph without operations", "add at least one operation")
        shapes: dict[str, Shape] = {INPUT: tuple(self.input_shape)}
        for op in self.ops:
            _require(op, bool(sources(op)), "reads nothing")
            if op.name in shapes:
                raise GraphError(f"the name {op.name!r} is used twice", "give every operation its own name")
            unknown = [source for source in sources(op) if source not in shapes]
            if unknown:
                raise GraphError(
                    f"{op.name!r} reads {unknown[0]!r}, which is not computed before it", "reorder the ops"
                )
            shapes[op.name] = _shape(op, [shapes[source] for source in sources(op)])
        return shapes

    @cached_property
    def parameters(self) -> Mapping[str, Shape]:
        """Shapes of what training changes, in the order of the ops."""
        return {name: shape for op in self.ops for name, shape in _parameters(op, self._input_of(op)).items()}

    @cached_property
    def statistics(self) -> Mapping[str, Shape]:
        """Shapes of the running statistics of the batch normalisations, in the order of the ops."""
        return {
            f"{op.name}.{part}": self._input_of(op)[:1]
            for op in self.ops
            if isinstance(op, BatchNorm)
            for part in ("running_mean", "running_var")
        }

    @property
    def parameter_count(self) -> int:
        """The number of trained weights."""
        return sum(prod(shape) for shape in self.parameters.values())

    @property
    def multiply_accumulates(self) -> int:
        """Multiply-accumulate operations of the convolutions and dense layers for one item."""
        total = 0
        for op in self.ops:
            if isinstance(op, Conv | Conv1d):
                total += prod(self.parameters[f"{op.name}.weight"]) * prod(self.shapes[op.name][1:])
            elif isinstance(op, Linear):
                total += prod(self.parameters[f"{op.name}.weight"]) * prod(self.shapes[op.name][:-1])
            elif isinstance(op, Attention):
                tokens, channels = self.shapes[op.name]
                total += 2 * tokens * tokens * channels
        return total

    def to_json(self) -> dict[str, Any]:
        """The graph as plain JSON values."""
        return {
            "input_shape": list(self.input_shape),
            "ops": [{"op": KINDS[type(op)], **_plain(asdict(op))} for op in self.ops],
        }

    @classmethod
    def from_json(cls, value: Any, known: Mapping[str, type[Op]] = OPS) -> Graph:
        """The inverse of :meth:`to_json`, for graphs of the ``known`` operations.

        Raises:
            GraphError: Unknown operations, missing or superfluous fields, or fields of another type.
        """
        try:
            ops = tuple(_op_from_json(entry, known) for entry in value["ops"])
            return cls(input_shape=tuple(_size(size) for size in value["input_shape"]), ops=ops)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, GraphError):
                raise
            raise GraphError(f"not an op graph: {error}", "pack the kit again with this version of edgeser") from error

    def check(self, weights: Weights) -> None:
        """Raise GraphError unless ``weights`` holds every parameter and statistic as a finite float32 array."""
        for name, shape in {**self.parameters, **self.statistics}.items():
            if name not in weights:
                raise GraphError(f"the weight {name!r} is missing", "train the student again")
            found = weights[name]
            if found.shape != shape or found.dtype != np.float32:
                raise GraphError(
                    f"the weight {name!r} is {found.dtype} {found.shape}, not float32 {shape}",
                    "train the student again",
                )
            if not np.isfinite(found).all():
                raise GraphError(f"the weight {name!r} is not finite", "train with a smaller learning rate")

    def _input_of(self, op: Op) -> Shape:
        return self.shapes[sources(op)[0]]


def reading(op: Op, renamed: Mapping[str, str]) -> Op:
    """The operation, reading other tensors: ``renamed`` gives their new names."""
    values = {field.name: getattr(op, field.name) for field in fields(op)}
    if isinstance(op, Concat | Add | Attention):
        values["sources"] = tuple(renamed.get(source, source) for source in op.sources)
    else:
        values["source"] = renamed.get(op.source, op.source)
    return type(op)(**values)


def _parameters(op: Op, source: Shape) -> dict[str, Shape]:
    match op:
        case Conv():
            weight: Shape = (op.channels, source[0], op.kernel, op.kernel)
        case Conv1d():
            weight = (op.channels, source[0], op.kernel)
        case Linear():
            weight = (op.features, source[-1])
        case BatchNorm():
            weight = source[:1]
        case LayerNorm():
            weight = source[-1:]
        case Offset():
            return {f"{op.name}.weight": source}
        case _:
            return {}
    bias = {f"{op.name}.bias": weight[:1]} if getattr(op, "bias", True) else {}
    return {f"{op.name}.weight": weight, **bias}


def _shape(op: Op, inputs: list[Shape]) -> Shape:
    first = inputs[0]
    match op:
        case Conv():
            _require(op, len(first) == 3, "needs (channels, height, width)")
            sizes = [(size + 2 * op.padding - op.kernel) // op.stride + 1 for size in first[1:]]
            _require(op, min(sizes) > 0, f"has a kernel larger than its input {first}")
            return (op.channels, *sizes)
        case Pool():
            _require(op, len(first) == 3, "needs (channels, height, width)")
            _require(op, op.how in ("mean", "max"), f"pools by {op.how!r}, not mean or max")
            _require(op, min(first[1:]) >= op.size, f"has windows larger than its input {first}")
            return (first[0], *[size // op.size for size in first[1:]])
        case Reduce():
            _require(op, op.how in ("mean", "max"), f"reduces by {op.how!r}, not mean or max")
            inner = all(0 < axis < len(first) for axis in op.axes) and len(set(op.axes)) == len(op.axes)
            _require(op, bool(op.axes) and inner, f"cannot reduce the axes {op.axes} of {first}")
            return tuple(size for axis, size in enumerate(first) if axis not in op.axes)
        case Concat():
            _require(op, all(shape[1:] == first[1:] for shape in inputs), f"cannot join shapes {inputs}")
            return (sum(shape[0] for shape in inputs), *first[1:])
        case Add():
            _require(op, len(inputs) == 2 and inputs[1] == first, f"cannot add shapes {inputs}")
            return first
        case TokenLinear():
            _require(op, len(first) == 2, f"needs (tokens, channels), not {first}")
            return (first[0], op.features)
        case Linear():
            _require(op, len(first) == 1, f"needs a vector, not {first}")
            return (op.features,)
        case Normalise():
            _require(op, abs(op.mean) < inf and 0 < op.std < inf, f"normalises by {op.mean} and {op.std}")
            return first
        case Softmax():
            _require(op, len(first) == 1, f"needs a vector, not {first}")
            _require(op, 0 < op.temperature < inf, f"has the temperature {op.temperature}")
            return first
        case _:
            return _shape_of_tokens(op, first, inputs)


def _shape_of_tokens(op: Op, first: Shape, inputs: list[Shape]) -> Shape:
    match op:
        case Conv1d():
            _require(op, len(first) == 2, "needs (channels, time)")
            time = (first[1] + 2 * op.padding - op.kernel) // op.stride + 1
            _require(op, time > 0, f"has a kernel longer than its input {first}")
            return (op.channels, time)
        case Tokens():
            _require(op, len(first) == 2, "needs (channels, time)")
            return first[::-1]
        case Attention():
            same = len(inputs) == 3 and all(shape == first for shape in inputs) and len(first) == 2
            _require(op, same and first[1] % op.heads == 0, f"cannot attend with {op.heads} heads over {inputs}")
            return first
        case Moments():
            _require(op, len(first) == 2, "needs (tokens, channels)")
            return (2 * first[1],)
        case _:
            return first


def _require(op: Op, holds: bool, what: str) -> None:
    if not holds:
        raise GraphError(f"the operation {op.name!r} {what}", "correct the architecture")


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _op_from_json(entry: Mapping[str, Any], known: Mapping[str, type[Op]]) -> Op:
    values = dict(entry)
    op = known[values.pop("op")]
    for name, value in values.items():
        if name in ("sources", "axes"):
            values[name] = tuple((_text if name == "sources" else _size)(item) for item in value)
        elif name in ("name", "source", "how"):
            _text(value)
        elif name == "bias":
            _require_type(value, bool)
        elif name in _SIZES:
            _size(value, least=0 if name == "padding" else 1)
    return op(**values)


def _require_type(value: Any, kind: type) -> None:
    if type(value) is not kind:
        raise TypeError(f"{value!r} is no {kind.__name__}")


def _size(value: Any, least: int = 1) -> int:
    _require_type(value, int)
    if not least <= value <= 1 << 20:
        raise ValueError(f"{value!r} is not a size")
    return int(value)


def _text(value: Any) -> str:
    _require_type(value, str)
    if not value:
        raise ValueError("a name is empty")
    return str(value)
