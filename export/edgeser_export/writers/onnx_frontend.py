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
from onnx import TensorProto, compose

from edgeser_export.graph.op_graph import INPUT, MEL, TOKENS
from edgeser_export.writers.onnx_nodes import INFERENCE_OPSET, Nodes, floats, model_bytes

PCM, PROBABILITIES = "pcm", "probabilities"
"""Names of the file's input and output."""
STUDENT = "student/"
"""What the names of the student's own tensors begin with."""
LOUDNESS_FLOOR = 1e-7
"""Added to the mean square of an encoder's window before its loudness is removed."""
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


@dataclass(frozen=True)
class HeardForEncoder(HeardSound):
    """The numbers of an encoder's front-end; ``floor`` is that of its frames.

    Attributes:
        edge: Zeros before and after the sound.
        shortest: Samples to which a shorter sound is filled up with zeros.
        least_power: Mel power, after loudness was removed, that counts as the least.
        decades: Levels this many decades below a window's loudest count as that.
        token: Frames in a token.
    """

    edge: int
    shortest: int
    least_power: float
    decades: float
    token: int


def with_front_end(student: bytes, sound: HeardSound, metadata: Mapping[str, str]) -> bytes:
    """Put a front-end before a student, and the mean over windows behind it.

    Args:
        student: An ONNX file of this package that reads (items, 1, mels, frames) levels in dB; or, for an encoder's
            front-end, one that reads what :mod:`edgeser_export.writers.onnx_encoder` says.
        sound: The front-end.
        metadata: Stored as the file's ``metadata_props``, sorted by key.

    Returns:
        The content of the file; equal arguments give equal bytes.
    """
    whole = compose.add_prefix(onnx.load_from_string(student), STUDENT)
    graph, nodes = whole.graph, Nodes()
    samples = trimmed(nodes, PCM, sound.trim_db)
    if isinstance(sound, HeardForEncoder):
        encoder_windows(nodes, samples, sound)
    else:
        levels = nodes.add("Mul", log_mels(nodes, _filled(nodes, samples, len(sound.window)), sound), nodes.number(10))
        nodes.add("Unsqueeze", windows_of(nodes, levels, sound), nodes.integers([1]), into=f"{STUDENT}{INPUT}")
    nodes.written += graph.node
    each = graph.output[0]
    nodes.add("ReduceMean", each.name, axes=[0], keepdims=1, into=PROBABILITIES)
    classes = each.type.tensor_type.shape.dim[1].dim_value
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
    """Decimal logarithms of the mel powers of the frames of samples (1, n), (frames, mels)."""
    signal = nodes.add("Unsqueeze", samples, nodes.integers([2]))
    hop, size = (nodes.constant(np.array(value, np.int64)) for value in (sound.hop, len(sound.window)))
    spectrum = nodes.add("STFT", signal, hop, nodes.constant(sound.window.astype(np.float32)), size, onesided=1)
    power = nodes.add("ReduceSum", nodes.add("Mul", spectrum, spectrum), nodes.integers([-1]), keepdims=0)
    filters = nodes.constant(np.ascontiguousarray(sound.filters.T, np.float32))
    bands = nodes.add("Max", nodes.add("MatMul", power, filters), nodes.number(sound.floor))
    return nodes.add("Squeeze", _decades(nodes, bands), nodes.integers([0]))


def windows_of(nodes: Nodes, levels: str, sound: HeardSound) -> str:
    """The windows of levels (n, mels), (windows, mels, frames); fewer frames than a window has are repeated."""
    count, frames = _size(nodes, levels, 0), nodes.integers([sound.frames])
    behind = nodes.add("Max", nodes.add("Sub", count, frames), nodes.integers([0]))
    chosen = nodes.add("Mod", _window_frames(nodes, behind, frames, sound.window_hop), count)
    return nodes.add("Transpose", nodes.add("Gather", levels, chosen, axis=0), perm=[0, 2, 1])


def encoder_windows(nodes: Nodes, samples: str, sound: HeardForEncoder) -> None:
    """The windows of samples (1, n) as an encoder takes them, and the number of tokens in each, under its names."""
    heard, hop, one = _filled(nodes, samples, sound.shortest), nodes.integers([sound.hop]), nodes.integers([1])
    count = nodes.add("Div", _size(nodes, heard, 1), hop)
    zero = nodes.integers([0])
    edged = nodes.add("Pad", heard, nodes.integers([0, sound.edge, 0, sound.edge]))
    levels = nodes.add("Slice", log_mels(nodes, edged, sound), zero, count, zero)
    hops = nodes.reshape(nodes.add("Slice", heard, zero, nodes.add("Mul", count, hop), one), [-1, sound.hop])
    energies = nodes.sum(nodes.add("Mul", hops, hops), [1])
    token = nodes.integers([sound.token])
    tokens = nodes.add("Div", nodes.add("Min", count, nodes.integers([sound.frames])), token)
    real = nodes.add("Mul", tokens, token)
    chosen = _window_frames(nodes, nodes.add("Sub", count, real), real, sound.window_hop)
    energy = nodes.add("ReduceMean", nodes.add("Gather", energies, chosen, axis=0), axes=[1], keepdims=1)
    loudness = nodes.add("Add", nodes.add("Div", energy, nodes.number(sound.hop)), nodes.number(LOUDNESS_FLOOR))
    below = nodes.add("Unsqueeze", _decades(nodes, loudness), nodes.integers([2]))
    level = nodes.add("Sub", nodes.add("Gather", levels, chosen, axis=0), below)
    level = nodes.add("Max", level, nodes.number(np.log10(sound.least_power)))
    least = nodes.add("Sub", nodes.add("ReduceMax", level, axes=[1, 2], keepdims=1), nodes.number(sound.decades))
    level = nodes.add("Div", nodes.add("Add", nodes.add("Max", level, least), nodes.number(4)), nodes.number(4))
    missing = nodes.add("Sub", nodes.integers([sound.frames]), real)
    full = nodes.add("Pad", level, nodes.concat([nodes.integers([0, 0, 0, 0]), missing, zero], 0))
    nodes.add("Transpose", full, perm=[0, 2, 1], into=f"{STUDENT}{MEL}")
    nodes.add("Expand", tokens, _size(nodes, chosen, 0), into=f"{STUDENT}{TOKENS}")


def _window_frames(nodes: Nodes, behind: str, frames: str, window_hop: int) -> str:
    """The numbers of the frames of each window, (windows, frames), where ``behind`` frames follow the first window."""
    hop, one = nodes.integers([window_hop]), nodes.integers([1])
    zero, step = (nodes.constant(np.array(value, np.int64)) for value in (0, 1))
    number = nodes.add("Squeeze", nodes.add("Add", nodes.add("Div", behind, hop), one))
    starts = nodes.add("Unsqueeze", nodes.add("Mul", nodes.add("Range", zero, number, step), hop), one)
    return nodes.add("Add", starts, nodes.add("Range", zero, nodes.add("Squeeze", frames), step))


def _filled(nodes: Nodes, samples: str, least: int) -> str:
    """Samples (1, n), with zeros behind where they are fewer than ``least``."""
    missing = nodes.add("Sub", nodes.integers([least]), _size(nodes, samples, 1))
    more = nodes.add("Max", missing, nodes.integers([0]))
    return nodes.add("Pad", samples, nodes.concat([nodes.integers([0, 0, 0]), more], 0))


def _decades(nodes: Nodes, value: str) -> str:
    return nodes.add("Mul", nodes.add("Log", value), nodes.number(1 / np.log(10)))


def _size(nodes: Nodes, tensor: str, axis: int) -> str:
    return nodes.add("Shape", tensor, start=axis, end=axis + 1)
