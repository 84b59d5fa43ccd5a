"""Graphs with weights, and torch as the oracle that knows nothing of our writers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeser_export.graph.initial import initial_weights
from edgeser_export.graph.op_graph import (
    Add,
    BatchNorm,
    Concat,
    Conv,
    Graph,
    Linear,
    Normalise,
    Pool,
    Reduce,
    Relu,
    Softmax,
    sources,
)
from edgeser_export.graph.transform import recogniser

Weights = dict[str, NDArray[np.float32]]


def random_weights(graph: Graph, seed: int = 0) -> Weights:
    """Weights as after training: every statistic, scale, shift and bias differs from its start."""
    random = np.random.default_rng(seed)
    weights = initial_weights(graph, seed)
    for name, value in weights.items():
        if name.endswith("running_var"):
            weights[name] = random.uniform(0.2, 2.0, value.shape).astype(np.float32)
        elif value.ndim == 1:
            weights[name] = (value + random.normal(0, 0.3, value.shape)).astype(np.float32)
    return weights


def random_items(graph: Graph, count: int = 3, seed: int = 0) -> NDArray[np.float32]:
    """Numbers as the graph's first operations expect them: of variance 1, or levels that become such."""
    items = np.random.default_rng(seed).normal(size=(count, *graph.input_shape)).astype(np.float32)
    if isinstance(first := graph.ops[0], Normalise):
        return items * np.float32(first.std) + np.float32(first.mean)
    return items


def _torch_around(op: Normalise | Softmax, x: Any) -> Any:
    """What stands before and behind a student in a file; its numbers are rounded to float32."""
    if isinstance(op, Normalise):
        return (x - float(np.float32(op.mean))) / float(np.float32(op.std))
    return (x / float(np.float32(op.temperature))).softmax(dim=1)


def torch_logits(  # noqa: C901  one case an operation
    graph: Graph, weights: Weights, items: NDArray[np.floating[Any]], dtype: str = "float64"
) -> Any:
    """What torch's own operators compute, in ``dtype``."""
    import torch
    import torch.nn.functional as F

    wide = {name: torch.from_numpy(value).to(getattr(torch, dtype)) for name, value in weights.items()}
    tensors = {"x": torch.from_numpy(items).to(getattr(torch, dtype))}
    for op in graph.ops:
        first, *others = [tensors[source] for source in sources(op)]
        weight, bias = wide.get(f"{op.name}.weight"), wide.get(f"{op.name}.bias")
        match op:
            case Conv():
                value = F.conv2d(first, weight, bias, stride=op.stride, padding=op.padding)
            case BatchNorm():
                mean, variance = wide[f"{op.name}.running_mean"], wide[f"{op.name}.running_var"]
                value = F.batch_norm(first, mean, variance, weight, bias)
            case Relu():
                value = F.relu(first)
            case Pool():
                value = (F.avg_pool2d if op.how == "mean" else F.max_pool2d)(first, op.size)
            case Reduce():
                axes = [axis + 1 for axis in op.axes]
                value = first.mean(axes) if op.how == "mean" else first.amax(axes)
            case Concat():
                value = torch.cat([first, *others], dim=1)
            case Add():
                value = first + others[0]
            case Linear():
                value = F.linear(first, weight, bias)
            case Normalise() | Softmax():
                value = _torch_around(op, first)
        tensors[op.name] = value
    return tensors[graph.output].numpy()


@pytest.fixture(scope="session")
def oracle() -> Callable[..., Any]:
    return torch_logits


@pytest.fixture(scope="session")
def weigh() -> Callable[..., Weights]:
    return random_weights


@pytest.fixture(scope="session")
def draw_items() -> Callable[..., NDArray[np.float32]]:
    return random_items


@pytest.fixture(scope="session")
def whole(small: Graph) -> Graph:
    """The small graph as a file holds it: levels in dB go in, probabilities come out."""
    return recogniser(small, mean=-31.7, std=19.3, temperature=0.6)


@pytest.fixture(scope="session")
def small() -> Graph:
    """Every operation once, a stride of two on even and odd sizes, pools that drop rows, and a ReLU that must stay."""
    return Graph(
        (2, 13, 18),
        (
            Conv("conv1", "x", 4, kernel=5, stride=2, padding=2, bias=False),
            BatchNorm("norm1", "conv1"),
            Relu("relu1", "norm1"),
            Pool("pool1", "relu1", 2, "mean"),
            Conv("conv2", "pool1", 4, kernel=3, padding=1),
            Relu("relu2", "conv2"),
            Add("sum", ("conv2", "relu2")),
            Concat("both", ("sum", "pool1")),
            Pool("pool2", "both", 2, "max"),
            Reduce("frequency", "pool2", (1,), "mean"),
            Reduce("mean", "frequency", (1,), "mean"),
            Reduce("max", "frequency", (1,), "max"),
            Concat("features", ("mean", "max")),
            Linear("hidden", "features", 5),
            Relu("relu3", "hidden"),
            Linear("last", "relu3", 3),
        ),
    )
