"""The students: small networks over one log-mel spectrogram or one vector, each a function that returns an op graph.

    graph = build("edgenet", classes=8)
    print(graph.parameter_count, graph.multiply_accumulates)

Adding an architecture is one function and one row of ``STUDENTS`` or ``VECTOR_STUDENTS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edgeser.errors import SettingsError
from edgeser_export.graph.op_graph import INPUT, Add, BatchNorm, Concat, Conv, Graph, Linear, Op, Pool, Reduce, Relu
from edgeser_export.utilities.errors import choice_hint
from edgeser_export.utilities.outside import read_number

Block = tuple[Op, ...]
Architecture = Callable[[int, float], tuple[Op, ...]]
LOG_MEL = (1, 64, 96)
"""Default input: one channel, 64 mel bands, 96 frames."""


@dataclass(frozen=True)
class Student:
    """One row of the table of students.

    Attributes:
        summary: One line for help texts.
        operations: (classes, width) -> operations; width scales the number of channels.
    """

    summary: str
    operations: Architecture


def edgenet(classes: int, width: float = 1.0) -> tuple[Op, ...]:
    """Three convolutions, mean over frequency, mean and maximum over time: about 25 thousand parameters at width 1."""
    a, b, c = (_channels(16 * 2**level, width) for level in range(3))
    return (
        *_conv_norm_relu("1", INPUT, a, kernel=5, stride=2),
        Pool("pool1", "relu1", 2, "mean"),
        *_conv_norm_relu("2", "pool1", b, kernel=3),
        Pool("pool2", "relu2", 2, "mean"),
        *_conv_norm_relu("3", "pool2", c, kernel=3),
        Reduce("frequency", "relu3", (1,), "mean"),
        Reduce("mean", "frequency", (1,), "mean"),
        Reduce("max", "frequency", (1,), "max"),
        Concat("features", ("mean", "max")),
        Linear("logits", "features", classes),
    )


def cnn6(classes: int, width: float = 1.0) -> tuple[Op, ...]:
    """CNN-6 of PANNs (Kong et al. 2020, arXiv 1912.10211, table 1): four 5x5 convolutions, each pooled by two."""
    ops: list[Op] = []
    source = INPUT
    for level in range(4):
        ops += _conv_norm_relu(f"{level + 1}", source, _channels(64 * 2**level, width), kernel=5)
        ops.append(Pool(f"pool{level + 1}", f"relu{level + 1}", 2, "mean"))
        source = f"pool{level + 1}"
    return (
        *ops,
        Reduce("frequency", source, (1,), "mean"),
        Reduce("mean", "frequency", (1,), "mean"),
        Reduce("max", "frequency", (1,), "max"),
        Add("sum", ("mean", "max")),
        Linear("hidden", "sum", _channels(512, width)),
        Relu("features", "hidden"),
        Linear("logits", "features", classes),
    )


def resnet9(classes: int, width: float = 1.0) -> tuple[Op, ...]:
    """The usual CIFAR ResNet-9 (Page 2018, "How to train your ResNet") on one channel, maximum over the map."""
    a, b, c, d = (_channels(64 * 2**level, width) for level in range(4))
    return (
        *_conv_norm_relu("1", INPUT, a, kernel=3),
        *_conv_norm_relu("2", "relu1", b, kernel=3),
        Pool("pool2", "relu2", 2, "max"),
        *_residual("3", "pool2", b),
        *_conv_norm_relu("4", "sum3", c, kernel=3),
        Pool("pool4", "relu4", 2, "max"),
        *_conv_norm_relu("5", "pool4", d, kernel=3),
        Pool("pool5", "relu5", 2, "max"),
        *_residual("6", "pool5", d),
        Reduce("features", "sum6", (1, 2), "max"),
        Linear("logits", "features", classes),
    )


def vgg15(classes: int, width: float = 1.0) -> tuple[Op, ...]:
    """VGG with batch normalisation (Simonyan and Zisserman 2015, arXiv 1409.1556): 13 convolutions, two dense."""
    plan = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
    ops: list[Op] = []
    source, number = INPUT, 0
    for level, (channels, repeats) in enumerate(plan, start=1):
        for _ in range(repeats):
            number += 1
            ops += _conv_norm_relu(f"{number}", source, _channels(channels, width), kernel=3)
            source = f"relu{number}"
        ops.append(Pool(f"pool{level}", source, 2, "max"))
        source = f"pool{level}"
    return (
        *ops,
        Reduce("pooled", source, (1, 2), "mean"),
        Linear("hidden", "pooled", _channels(512, width)),
        Relu("features", "hidden"),
        Linear("logits", "features", classes),
    )


def mlp(classes: int, width: float = 1.0) -> tuple[Op, ...]:
    """A dense network with one hidden layer of 64, as convolutions of one by one over a map of one by one."""
    return (
        Conv("hidden", INPUT, _channels(64, width), kernel=1, bias=False),
        BatchNorm("norm", "hidden"),
        Relu("relu", "norm"),
        Reduce("features", "relu", (1, 2), "mean"),
        Linear("logits", "features", classes),
    )


def dense(classes: int, width: float = 1.0) -> tuple[Op, ...]:
    """As :func:`mlp` without batch normalisation, whose statistics over a handful of vectors are mostly chance."""
    return (
        Conv("hidden", INPUT, _channels(64, width), kernel=1, bias=True),
        Relu("relu", "hidden"),
        Reduce("features", "relu", (1, 2), "mean"),
        Linear("logits", "features", classes),
    )


def linear(classes: int, width: float = 1.0) -> tuple[Op, ...]:  # noqa: ARG001  nothing is hidden
    """Logistic regression: one dense layer over a vector, whatever the width."""
    return (Reduce("features", INPUT, (1, 2), "mean"), Linear("logits", "features", classes))


STUDENTS: Mapping[str, Student] = MappingProxyType(
    {
        "edgenet": Student("ours, about 25 k parameters at width 1", edgenet),
        "cnn6": Student("CNN-6 of PANNs", cnn6),
        "resnet9": Student("the usual ResNet-9 of CIFAR", resnet9),
        "vgg15": Student("VGG with 13 convolutions and two dense layers", vgg15),
    }
)
"""Students that read log-mels."""
VECTOR_STUDENTS: Mapping[str, Student] = MappingProxyType(
    {
        "mlp": Student("one hidden layer of 64", mlp),
        "dense": Student("the same without batch normalisation", dense),
        "linear": Student("logistic regression", linear),
    }
)
"""Students that read vectors."""


def parse_student(text: str, width: float = 1.0) -> tuple[str, float]:
    """Architecture and width of NAME or NAME:WIDTH, ``width`` where none is named; :func:`build` checks both.

    Raises:
        SettingsError: The text after the colon is no number.
    """
    name, _, factor = text.partition(":")
    try:
        return name, read_number(factor) if factor else width
    except ValueError as error:
        raise SettingsError(f"{text!r} names no width", "write a number after the colon: cnn6:0.25") from error


def students_for(input_shape: tuple[int, ...]) -> Mapping[str, Student]:
    """The students that read such an input; vectors have one column."""
    return STUDENTS if input_shape[2] > 1 else VECTOR_STUDENTS


def build(name: str, classes: int, width: float = 1.0, input_shape: tuple[int, ...] = LOG_MEL) -> Graph:
    """The op graph of a student.

    Args:
        name: A row of ``STUDENTS`` or ``VECTOR_STUDENTS``.
        classes: Number of emotions, at least 2.
        width: Factor on every number of channels, above 0.
        input_shape: (channels, mel bands, frames), or (numbers, 1, 1) of vectors.

    Raises:
        SettingsError: Unknown architecture, one that does not read such an input, or a width that is not positive.
    """
    students = students_for(input_shape)
    if name not in students:
        reads = "log-mels" if students is STUDENTS else "vectors"
        raise SettingsError(f"there is no architecture {name!r} for {reads}", choice_hint(name, students))
    if not 0 < width <= 8:
        raise SettingsError(
            f"the width {width:g} is not between 0 and 8", "1 is the published size, 0.25 suits a board"
        )
    return Graph(input_shape, students[name].operations(classes, width))


def _channels(published: int, width: float) -> int:
    return max(1, round(published * width))


def _conv_norm_relu(suffix: str, source: str, channels: int, kernel: int, stride: int = 1) -> Block:
    return (
        Conv(f"conv{suffix}", source, channels, kernel, stride, padding=kernel // 2, bias=False),
        BatchNorm(f"norm{suffix}", f"conv{suffix}"),
        Relu(f"relu{suffix}", f"norm{suffix}"),
    )


def _residual(suffix: str, source: str, channels: int) -> Block:
    return (
        *_conv_norm_relu(f"{suffix}a", source, channels, kernel=3),
        *_conv_norm_relu(f"{suffix}b", f"relu{suffix}a", channels, kernel=3),
        Add(f"sum{suffix}", (source, f"relu{suffix}b")),
    )
