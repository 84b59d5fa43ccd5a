"""A student's ONNX file with all of ``predict`` before and behind it: samples in, probabilities out.

    data = with_front_end(student, HeardSound(window, filters, hop=512, ...), {"labels": "a,b"})

Input ``pcm``: float32 (1, samples), one channel of the front-end's rate, full scale 1.0, at least one sample. Output
``probabilities``: float32 (1, classes). Silent edges are trimmed, levels of log-mels computed, windows cut, or a short
clip repeated to fill one, and the probabilities of the windows averaged. Opset 17, whose operator STFT runtimes have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from edgeser_export.graph.op_graph import INPUT
from edgeser_export.writers.onnx_nodes import INFERENCE_OPSET, Nodes, floats, model_bytes

PCM, PROBABILITIES = "pcm", "probabilities"
"""Names of the file's input and output."""
EACH = "probabilities.windows"
"""The tensor with the student's answer for each window."""
TRIM_LENGTH, TRIM_HOP, TRIM_FLOOR = 2048, 512, 1e-10
"""The frames by which silent edges are found, and the power that counts as silence."""


@dataclass(frozen=True)
class HeardSound:
    """The numbers of a log-mel front-end.

    Attributes:
        window: The window of a frame, (n_fft,).
        filters: The mel filters, (mels, n_fft // 2 + 1).
        hop: Samples from one frame to the next.
        floor: Power below which everything counts as this power.
        frames: Frames in one window that the student reads.
        window_hop: Frames from one window to the next.
        trim_db: Edges this far under the loudest part are cut, in dB.
    """

    window: NDArray[np.floating]
    filters: NDArray[np.floating]
    hop: int
    floor: float
    frames: int
    window_hop: int
    trim_db: float


def with_front_end(student: bytes, sound: HeardSound, metadata: Mapping[str, str]) -> bytes:
    """Put a front-end before a student, and the mean over windows behind it.

    Args:
        student: An ONNX file of this package that reads (items, 1, mels, frames) levels in dB.
        sound: The front-end.
        metadata: Stored as the file's ``metadata_props``, sorted by key.

    Returns:
        The content of the file; equal arguments give equal bytes.
    """
    graph, nodes = onnx.load_from_string(student).graph, Nodes()
    levels = log_mels(nodes, trimmed(nodes, PCM, sound.trim_db), sound)
    nodes.add("Unsqueeze", windows_of(nodes, levels, sound), nodes.integers([1]), into=INPUT)
    nodes.written += graph.node
    nodes.written[-1].output[0] = EACH
    nodes.add("ReduceMean", EACH, axes=[0], keepdims=1, into=PROBABILITIES)
    classes = graph.output[0].type.tensor_type.shape.dim[1].dim_value
    inputs, outputs = floats([(PCM, (1, "samples"))]), floats([(PROBABILITIES, (1, classes))])
    constants = [*graph.initializer, *nodes.constants]
    return model_bytes("recogniser", nodes.written, inputs, outputs, constants, metadata, INFERENCE_OPSET)


def trimmed(nodes: Nodes, pcm: str, trim_db: float) -> str:
    """Samples (1, n) without their silent edges, (1, m), by the rule of librosa.effects.trim."""
    edges = nodes.integers([0, TRIM_LENGTH // 2, 0, TRIM_LENGTH // 2])
    squares = nodes.add("Unsqueeze", nodes.add("Pad", nodes.add("Mul", pcm, pcm), edges), nodes.integers([1]))
    power = nodes.add("AveragePool", squares, kernel_shape=[TRIM_LENGTH], strides=[TRIM_HOP])
    counted = nodes.add("Max", nodes.reshape(power, [-1]), nodes.number(TRIM_FLOOR))
    least = nodes.add("Mul", nodes.add("ReduceMax", counted, keepdims=1), nodes.number(10 ** (-trim_db / 10)))
    loud = nodes.add("Cast", nodes.add("Greater", counted, least), to=TensorProto.INT32)
    first = nodes.add("ArgMax", loud, axis=0, keepdims=1)
    last = nodes.add("ArgMax", loud, axis=0, keepdims=1, select_last_index=1)
    hop, behind = nodes.integers([TRIM_HOP]), nodes.add("Add", last, nodes.integers([1]))
    start, end = nodes.add("Mul", first, hop), nodes.add("Mul", behind, hop)
    return nodes.add("Slice", pcm, start, end, nodes.integers([1]))


def log_mels(nodes: Nodes, samples: str, sound: HeardSound) -> str:
    """Levels in dB of the frames of samples (1, n), (frames, mels); fewer samples than a frame has are padded."""
    length, last = len(sound.window), nodes.integers([-1])
    missing = nodes.add("Sub", nodes.integers([length]), _size(nodes, samples, 1))
    pads = nodes.concat([nodes.integers([0, 0, 0]), nodes.add("Max", missing, nodes.integers([0]))], 0)
    signal = nodes.add("Unsqueeze", nodes.add("Pad", samples, pads), nodes.integers([2]))
    hop, size = (nodes.constant(np.array(value, np.int64)) for value in (sound.hop, length))
    spectrum = nodes.add("STFT", signal, hop, nodes.constant(sound.window.astype(np.float32)), size, onesided=1)
    power = nodes.add("ReduceSum", nodes.add("Mul", spectrum, spectrum), last, keepdims=0)
    filters = nodes.constant(np.ascontiguousarray(sound.filters.T, np.float32))
    bands = nodes.add("Max", nodes.add("MatMul", power, filters), nodes.number(sound.floor))
    levels = nodes.add("Mul", nodes.add("Log", bands), nodes.number(10 / np.log(10)))
    return nodes.add("Squeeze", levels, nodes.integers([0]))


def windows_of(nodes: Nodes, levels: str, sound: HeardSound) -> str:
    """The windows of levels (n, mels), (windows, mels, frames); fewer frames than a window has are repeated."""
    count, hop, one = _size(nodes, levels, 0), nodes.integers([sound.window_hop]), nodes.integers([1])
    more = nodes.add("Max", nodes.add("Sub", count, nodes.integers([sound.frames])), nodes.integers([0]))
    number = nodes.add("Squeeze", nodes.add("Add", nodes.add("Div", more, hop), one))
    zero, step = (nodes.constant(np.array(value, np.int64)) for value in (0, 1))
    starts = nodes.add("Unsqueeze", nodes.add("Mul", nodes.add("Range", zero, number, step), hop), one)
    frames = nodes.constant(np.arange(sound.frames, dtype=np.int64)[None])
    chosen = nodes.add("Mod", nodes.add("Add", starts, frames), count)
    return nodes.add("Transpose", nodes.add("Gather", levels, chosen, axis=0), perm=[0, 2, 1])


def _size(nodes: Nodes, tensor: str, axis: int) -> str:
    return nodes.add("Shape", tensor, start=axis, end=axis + 1)
