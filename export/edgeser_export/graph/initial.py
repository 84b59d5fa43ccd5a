"""Weights before training: the same for a graph and a seed on every machine, so that a seed can stand for them.

weights = initial_weights(graph, seed=0)
"""

from __future__ import annotations

from math import prod, sqrt

import numpy as np
from numpy.typing import NDArray

from edgeser_export.graph.op_graph import Conv, Graph, Linear


def initial_weights(graph: Graph, seed: int) -> dict[str, NDArray[np.float32]]:
    """Weights before training, the same for a seed on every machine and version.

    Convolutions and dense layers are uniform in +-1/sqrt(fan in), as torch's defaults are; scales and running
    variances are one, shifts and running means zero. Only raw words of PCG64 are used, whose stream numpy fixes.
    """
    words = np.random.PCG64(np.random.SeedSequence([seed, 0x1417]))
    weights: dict[str, NDArray[np.float32]] = {}
    bounds = {op.name: _bound(graph, op) for op in graph.ops if isinstance(op, Conv | Linear)}
    for name, shape in graph.parameters.items():
        layer, part = name.rsplit(".", 1)
        if layer in bounds:
            unit = (words.random_raw(prod(shape)) >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)
            weights[name] = ((2 * unit - 1) * np.float32(bounds[layer])).reshape(shape).astype(np.float32)
        else:
            weights[name] = np.full(shape, part == "weight", dtype=np.float32)
    for name, shape in graph.statistics.items():
        weights[name] = np.full(shape, name.endswith("running_var"), dtype=np.float32)
    return weights


def _bound(graph: Graph, op: Conv | Linear) -> float:
    return 1 / sqrt(prod(graph.parameters[f"{op.name}.weight"][1:]))
