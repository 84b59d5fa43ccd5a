"""An independent interpreter of op graphs in torch, with autograd and torch's own optimisers: the oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from edgeser_export.graph.op_graph import (
    INPUT,
    NORM_EPSILON,
    Add,
    BatchNorm,
    Concat,
    Conv,
    Graph,
    Linear,
    Op,
    Pool,
    Reduce,
    Relu,
    sources,
)

Arrays = dict[str, NDArray[np.float64]]
Batch = tuple[NDArray[np.float32], NDArray[np.float32]]


def tensors(weights: Mapping[str, NDArray[np.float32]], dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: torch.tensor(value, dtype=dtype) for name, value in weights.items()}


def logits(graph: Graph, weights: Mapping[str, Tensor], x: Tensor, batch_statistics: bool) -> Tensor:
    values = {INPUT: x}
    for op in graph.ops:
        values[op.name] = _apply(op, weights, [values[source] for source in sources(op)], batch_statistics)
    return values[graph.output]


def _apply(op: Op, weights: Mapping[str, Tensor], inputs: list[Tensor], batch_statistics: bool) -> Tensor:
    first = inputs[0]
    match op:
        case Conv():
            return F.conv2d(first, weights[f"{op.name}.weight"], weights.get(f"{op.name}.bias"), op.stride, op.padding)
        case BatchNorm():
            mean, variance, scale, shift = (
                weights.get(f"{op.name}.{part}") for part in ("running_mean", "running_var", "weight", "bias")
            )
            if batch_statistics:
                mean = variance = None
            return F.batch_norm(first, mean, variance, scale, shift, training=batch_statistics, eps=NORM_EPSILON)
        case Relu():
            return F.relu(first)
        case Pool():
            return (F.avg_pool2d if op.how == "mean" else F.max_pool2d)(first, op.size)
        case Reduce():
            axes = [axis + 1 for axis in op.axes]
            return first.mean(axes) if op.how == "mean" else first.amax(axes)
        case Concat():
            return torch.cat(inputs, 1)
        case Add():
            return inputs[0] + inputs[1]
        case Linear():
            return F.linear(first, weights[f"{op.name}.weight"], weights.get(f"{op.name}.bias"))


def soft_cross_entropy(output: Tensor, labels: Tensor) -> Tensor:
    return -(labels * F.log_softmax(output, 1)).sum(1).mean()


@dataclass(frozen=True)
class Recipe:
    """How a training goes on: a row of the optimisers, which parameters, and its numbers."""

    optimiser: str
    names: tuple[str, ...]
    batch_statistics: bool
    learning_rate: float
    weight_decay: float

    def over(self, leaves: Sequence[Tensor]) -> torch.optim.Optimizer:
        if self.optimiser == "adamw":
            return torch.optim.AdamW(leaves, lr=self.learning_rate, weight_decay=self.weight_decay)
        momentum = 0.9 if self.optimiser == "sgd" else 0.0
        return torch.optim.SGD(leaves, lr=self.learning_rate, weight_decay=self.weight_decay, momentum=momentum)


def train(
    graph: Graph,
    weights: Mapping[str, NDArray[np.float32]],
    batches: Sequence[Batch],
    recipe: Recipe,
    dtype: torch.dtype,
) -> tuple[Arrays, list[float]]:
    """Parameters after one step a batch, and the losses."""
    held = tensors(weights, dtype)
    stepper = recipe.over([held[name].requires_grad_(True) for name in recipe.names])
    losses = [_step(graph, held, batch, recipe, stepper) for batch in batches]
    return {name: held[name].detach().double().numpy() for name in recipe.names}, losses


def step_from(
    graph: Graph, feeds: Mapping[str, NDArray[np.float32]], batch: Batch, recipe: Recipe, number: int
) -> Arrays:
    """Parameters after the step of that number in float64, from parameters and optimiser's state in ``feeds``."""
    held = tensors(feeds, torch.float64)
    stepper = recipe.over([held[name].requires_grad_(True) for name in recipe.names])
    for name in recipe.names:
        if recipe.optimiser == "adamw":
            moments = {"exp_avg": held[f"first.{name}"], "exp_avg_sq": held[f"second.{name}"]}
            stepper.state[held[name]] = {"step": torch.tensor(float(number - 1)), **moments}
        elif number > 1 and recipe.optimiser == "sgd":
            stepper.state[held[name]] = {"momentum_buffer": held[f"velocity.{name}"]}
    _step(graph, held, batch, recipe, stepper)
    return {name: held[name].detach().numpy() for name in recipe.names}


def _step(
    graph: Graph, held: Mapping[str, Tensor], batch: Batch, recipe: Recipe, stepper: torch.optim.Optimizer
) -> float:
    dtype = held[recipe.names[0]].dtype
    stepper.zero_grad()
    output = logits(graph, held, torch.tensor(batch[0], dtype=dtype), recipe.batch_statistics)
    loss = soft_cross_entropy(output, torch.tensor(batch[1], dtype=dtype))
    loss.backward()
    stepper.step()
    return loss.item()


def gradients(
    graph: Graph, weights: Mapping[str, NDArray[np.float32]], batch: Batch, batch_statistics: bool, dtype: torch.dtype
) -> Arrays:
    """Gradients of the loss by every parameter."""
    held = tensors(weights, dtype)
    leaves = {name: held[name].requires_grad_(True) for name in graph.parameters}
    output = logits(graph, held, torch.tensor(batch[0], dtype=dtype), batch_statistics)
    loss = soft_cross_entropy(output, torch.tensor(batch[1], dtype=dtype))
    found = torch.autograd.grad(loss, list(leaves.values()))
    return {name: value.double().numpy() for name, value in zip(leaves, found, strict=True)}


def cumulative_statistics(
    graph: Graph, weights: Mapping[str, NDArray[np.float32]], batches: Sequence[NDArray[np.float32]]
) -> Arrays:
    """What torch.nn.BatchNorm2d(momentum=None) keeps after seeing the batches."""
    held = tensors(weights, torch.float64)
    norms = {
        op.name: torch.nn.BatchNorm2d(graph.shapes[op.name][0], momentum=None, dtype=torch.float64)
        for op in graph.ops
        if isinstance(op, BatchNorm)
    }
    for name, norm in norms.items():
        norm.weight.data, norm.bias.data = held[f"{name}.weight"], held[f"{name}.bias"]
    for x in batches:
        values = {INPUT: torch.tensor(x, dtype=torch.float64)}
        for op in graph.ops:
            inputs = [values[source] for source in sources(op)]
            values[op.name] = norms[op.name](inputs[0]) if op.name in norms else _apply(op, held, inputs, True)
    parts = ("running_mean", "running_var")
    return {f"{name}.{part}": getattr(norm, part).numpy() for name, norm in norms.items() for part in parts}
