"""Operations to differentiate twice: against torch's own, and against finite differences."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional

from edgeser.models import network, second_order
from edgeser.models.network import TORCH, Norm, Operations, Tensors, forward, to_tensors
from edgeser.models.second_order import TWICE
from edgeser.models.students import build
from edgeser_export.graph.initial import initial_weights
from edgeser_export.graph.op_graph import Graph

EXACT = 1e-10
"""Relative, in float64: the same sums in another order."""
SINGLE = 1e-4
"""Relative, in float32, for one step: rounding, a little more after two derivatives."""


def drawn(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, dtype=dtype, generator=generator).requires_grad_(True)


GEOMETRIES = [
    # batch, channels, height, width, outputs, kernel, stride, padding
    (3, 1, 6, 8, 4, 5, 2, 2),
    (2, 1, 7, 5, 3, 3, 1, 1),
    (2, 1, 5, 6, 2, 3, 2, 0),
    (2, 3, 6, 5, 2, 3, 1, 1),
    (2, 2, 7, 6, 3, 3, 2, 1),
    (2, 4, 3, 3, 2, 1, 1, 0),
]


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("with_bias", [False, True])
def test_a_convolution_is_torchs_with_exact_derivatives(geometry: tuple[int, ...], with_bias: bool) -> None:
    batch, channels, height, width, outputs, kernel, stride, padding = geometry
    x, weight = drawn(batch, channels, height, width), drawn(outputs, channels, kernel, kernel)
    inputs = (x, weight, drawn(outputs)) if with_bias else (x, weight)

    def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return second_order.convolve(x, weight, bias, stride, padding)

    torch.testing.assert_close(convolve(*inputs), functional.conv2d(*inputs, stride=stride, padding=padding))
    assert gradcheck(convolve, inputs)
    assert gradgradcheck(convolve, inputs)


def test_a_batch_normalisation_is_torchs_with_exact_derivatives() -> None:
    x, scale, shift = drawn(3, 2, 4, 5), drawn(2), drawn(2)

    def norm(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        return second_order.batch_norm({"n.weight": scale, "n.bias": shift})("n", x)

    expected = network.batch_norm({"n.weight": scale, "n.bias": shift})("n", x)
    torch.testing.assert_close(norm(x, scale, shift), expected)
    assert gradcheck(norm, (x, scale, shift))
    assert gradgradcheck(norm, (x, scale, shift))


def test_a_normalisation_without_scale_has_derivatives_too() -> None:
    """A scale of zero is no special case: nothing is divided by it."""
    x, shift = drawn(3, 2, 4, 5), drawn(2)
    scale = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    assert gradgradcheck(lambda *values: second_order._BatchNorm.apply(*values), (x, scale, shift))


@pytest.mark.parametrize("ordered", [torch.contiguous_format, torch.channels_last])
def test_relu_and_mean_pool_are_torchs_with_exact_derivatives(ordered: torch.memory_format) -> None:
    x = drawn(2, 3, 4, 6).detach().contiguous(memory_format=ordered).requires_grad_(True)
    for ours, theirs in (
        (TWICE.relu, functional.relu),
        (lambda x: TWICE.mean_pool(x, 2), lambda x: TORCH.mean_pool(x, 2)),
    ):
        torch.testing.assert_close(ours(x), theirs(x))
        assert gradcheck(ours, (x,))
        assert gradgradcheck(ours, (x,))


def products(
    graph: Graph, operations: Operations, norm_of: Callable[[Tensors], Norm], dtype: torch.dtype
) -> list[Tensor]:
    """The logits' gradient by the weights, and a product of that gradient's Jacobian by weights and input."""
    weights = {name: value.to(dtype) for name, value in to_tensors(initial_weights(graph, 0)).items()}
    weights = {name: weights[name].requires_grad_(True) for name in graph.parameters}
    x = drawn(4, *graph.input_shape, dtype=dtype)
    loss = forward(graph, weights, x, norm_of(weights), operations=operations).square().sum()
    gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
    cotangents = [torch.cos(torch.arange(value.numel(), dtype=dtype)).view(value.shape) for value in gradients]
    second = torch.autograd.grad(gradients, [*weights.values(), x], cotangents)
    return [*(gradient.detach() for gradient in gradients), *second]


@pytest.mark.parametrize("name", ["edgenet", "cnn6", "resnet9"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, EXACT), (torch.float32, None)])
def test_whole_students_have_the_same_derivatives(name: str, dtype: torch.dtype, tolerance: float | None) -> None:
    graph = build(name, 3, 0.1, (1, 32, 32))
    ours = products(graph, TWICE, second_order.batch_norm, dtype)
    exact = products(graph, TORCH, network.batch_norm, torch.float64)
    theirs = products(graph, TORCH, network.batch_norm, dtype)
    for one, other, truth in zip(ours, theirs, exact, strict=True):
        size = truth.norm()
        apart = float((one.double() - truth).norm() / size)
        allowed = tolerance or max(SINGLE, 10 * float((other.double() - truth).norm() / size))
        assert apart <= allowed


def test_a_layer_of_one_channel_may_stand_anywhere() -> None:
    """At the smallest width every convolution has one input channel, and its input a gradient to be differentiated."""
    graph = build("edgenet", 2, 0.01, (1, 16, 16))
    assert {graph.parameters[f"conv{number}.weight"][1] for number in (1, 2, 3)} == {1}
    ours = products(graph, TWICE, second_order.batch_norm, torch.float64)
    theirs = products(graph, TORCH, network.batch_norm, torch.float64)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


def test_what_is_kept_for_the_second_derivative_stays_as_it_was() -> None:
    """Neither inputs nor weights are changed in place."""
    graph = build("edgenet", 3, 0.1, (1, 32, 32))
    weights: Tensors = {
        name: value.requires_grad_(True) for name, value in to_tensors(initial_weights(graph, 0)).items()
    }
    before = {name: value.detach().clone() for name, value in weights.items()}
    x = drawn(4, *graph.input_shape, dtype=torch.float32)
    copy = x.detach().clone()
    loss = forward(graph, weights, x, second_order.batch_norm(weights), operations=TWICE).square().sum()
    parameters = [weights[name] for name in graph.parameters]
    gradients = torch.autograd.grad(loss, parameters, create_graph=True)
    torch.autograd.grad([gradient.sum() for gradient in gradients], [*parameters, x])
    assert torch.equal(x, copy)
    assert all(torch.equal(weights[name], before[name]) for name in before)
