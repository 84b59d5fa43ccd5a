"""Speech encoders as op graphs, alone or with a head behind them: mels of a window in, a vector or probabilities out.

graph = whisper_graph(mels=80, frames=300, width=384, heads=6, hidden=1536, taps=(1, 2))
graph, weights = joined(graph, weights, for_inference(head, head_weights), mean, factor)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from edgeser_export.graph.op_graph import (
    INPUT,
    Add,
    Attention,
    Concat,
    Conv,
    Conv1d,
    Gelu,
    Graph,
    LayerNorm,
    Linear,
    Moments,
    Normalise,
    Offset,
    Op,
    Reduce,
    Relu,
    Softmax,
    TokenLinear,
    Tokens,
    Weights,
    sources,
)
from edgeser_export.graph.reference import compute
from edgeser_export.graph.transform import InferenceGraph
from edgeser_export.utilities.errors import GraphError

VECTOR = "vector"
"""The name of a file's output where no head is behind the encoder."""
FRAMES_PER_TOKEN = 2
"""The second convolution has a stride of two."""
MASKED = -1e9
"""The score that attention adds where there is no token: its softmax is 0 there in float32."""
CENTRED = "centred"
"""The name of the vector from which the training clips' mean was taken."""


def whisper_graph(*, mels: int, frames: int, width: int, heads: int, hidden: int, taps: Sequence[int]) -> Graph:
    """The op graph of Whisper's encoder (Radford et al. 2022, arXiv 2212.04356) up to its last tap.

    A tap after block b is what the next layer normalisation gives: the input of block b + 1.

    Args:
        mels: Mel bands.
        frames: Frames of a window, an even number.
        width: Channels of a token.
        heads: Heads of attention; they divide ``width``.
        hidden: Channels inside a block's dense part.
        taps: Blocks after which moments are taken, the first block being 1, in rising order.

    Raises:
        GraphError: The sizes do not fit together.
    """
    if frames % FRAMES_PER_TOKEN or not taps or list(taps) != sorted(set(taps)) or min(taps) < 1:
        raise GraphError(f"an encoder of {frames} frames with taps {tuple(taps)}", "use even frames and rising taps")
    ops: list[Op] = [
        Conv1d("conv1", INPUT, width, 3, padding=1),
        Gelu("conv1.gelu", "conv1"),
        Conv1d("conv2", "conv1.gelu", width, 3, stride=FRAMES_PER_TOKEN, padding=1),
        Gelu("conv2.gelu", "conv2"),
        Tokens("tokens", "conv2.gelu"),
        Offset("position", "tokens"),
    ]
    before, moments = "position", []
    for number in range(1, max(taps) + 1):
        block = f"block{number}"
        ops += _block(block, before, width, heads, hidden)
        before = f"{block}.sum"
        if number in taps:
            ops += [LayerNorm(f"{block}.tap", before), Moments(f"{block}.moments", f"{block}.tap")]
            moments.append(f"{block}.moments")
    if len(moments) > 1:
        ops.append(Concat(VECTOR, tuple(moments)))
    return Graph((mels, frames), tuple(ops))


def _block(name: str, source: str, width: int, heads: int, hidden: int) -> Iterator[Op]:
    yield LayerNorm(f"{name}.norm1", source)
    for part in ("query", "key", "value"):
        yield TokenLinear(f"{name}.{part}", f"{name}.norm1", width)
    yield Attention(f"{name}.attention", (f"{name}.query", f"{name}.key", f"{name}.value"), heads)
    yield TokenLinear(f"{name}.out", f"{name}.attention", width)
    yield Add(f"{name}.attended", (source, f"{name}.out"))
    yield LayerNorm(f"{name}.norm2", f"{name}.attended")
    yield TokenLinear(f"{name}.up", f"{name}.norm2", hidden)
    yield Gelu(f"{name}.gelu", f"{name}.up")
    yield TokenLinear(f"{name}.down", f"{name}.gelu", width)
    yield Add(f"{name}.sum", (f"{name}.attended", f"{name}.down"))


def encode_reference(graph: Graph, weights: Weights, mel: NDArray[np.float32]) -> NDArray[np.float64]:
    """The vector of one window in float64, computed without padding: what the written file is compared with.

    Args:
        graph: An encoder.
        weights: Its parameters.
        mel: Real frames only, (mels, an even number of frames), at most as many as the graph has.

    Returns:
        float64 (size,).

    Raises:
        GraphError: The weights do not fit the graph, or there are too many frames.
    """
    graph.check(weights)
    if mel.shape[0] != graph.input_shape[0] or not 0 < mel.shape[1] <= graph.input_shape[1]:
        raise GraphError(f"a window of the shape {mel.shape}, not {graph.input_shape}", "compute the mels again")
    wide = {name: weights[name].astype(np.float64) for name in graph.parameters}
    tensors = {INPUT: mel.astype(np.float64)}
    for op in graph.ops:
        tensors[op.name] = compute(op, [tensors[source] for source in sources(op)], wide)
    return tensors[graph.output]


def joined(
    encoder: Graph,
    weights: Weights,
    head: InferenceGraph,
    mean: NDArray[np.float32],
    factor: NDArray[np.float64],
) -> tuple[Graph, dict[str, NDArray[np.float32]]]:
    """Put a head behind an encoder.

    The mean is subtracted by an operation of its own, so that no large numbers cancel in the dense layer; the division
    by the spread becomes part of that layer's weights.

    Args:
        encoder: The op graph of an encoder, with a vector as its output.
        weights: Its parameters.
        head: A student of vectors with its softmax, without batch normalisation.
        mean: The mean of the vectors, float32 (size,).
        factor: The vectors' factors after the mean was subtracted, (size,); 0 where a dimension is not read.

    Returns:
        The graph and its weights.

    Raises:
        GraphError: The head holds other operations than dense layers, or does not read this encoder's vectors.
    """
    size = encoder.shapes[encoder.output]
    if head.graph.input_shape != (*size, 1, 1):
        raise GraphError(f"a head of {head.graph.input_shape} behind vectors of {size}", "train it from the same kit")
    found = {**weights, f"{CENTRED}.weight": -mean}
    names = {INPUT: CENTRED}
    ops: list[Op] = [*encoder.ops, Offset(CENTRED, encoder.output)]
    for op in head.graph.ops:
        source = names[sources(op)[0]]
        names[op.name] = f"head.{op.name}" if not isinstance(op, Softmax) else op.name
        match op:
            case Conv() | Linear():
                weight = head.weights[f"{op.name}.weight"]
                flat = weight.reshape(len(weight), -1)
                if source == CENTRED:
                    flat = (flat * factor).astype(np.float32)
                bias = head.weights.get(f"{op.name}.bias", np.zeros(len(flat), np.float32))
                ops.append(Linear(names[op.name], source, len(flat)))
                found |= {f"{names[op.name]}.weight": flat, f"{names[op.name]}.bias": bias}
            case Relu() if source != CENTRED:
                ops.append(Relu(names[op.name], source))
            case Softmax():
                ops.append(Softmax(op.name, source, op.temperature))
            case Reduce() | Normalise(mean=0, std=1):
                names[op.name] = source  # a mean or a maximum over one place is that place
            case _:
                raise GraphError(f"the head has the operation {op.name!r}", "heads are made of dense layers")
    return Graph(encoder.input_shape, tuple(ops)), found
