"""The functional network against modules that were written down a second time, numpy, and onnxruntime."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from edgeser.models.network import batch_norm, forward, measured_norm, running_norm, to_arrays, to_tensors
from edgeser.models.students import STUDENTS, build
from edgeser.models.training import with_statistics
from edgeser_export.graph.initial import initial_weights
from edgeser_export.graph.reference import run_reference
from edgeser_export.writers.onnx_files import write_onnx

CLOSE = 2e-5
"""Largest difference of float32 logits of order one that were summed in another order."""


def block(channels: int, after: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, after, kernel, stride, kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(after, momentum=None), nn.ReLU()]


class EdgeNet(nn.Module):
    """Written from the description, with torch's own modules."""

    def __init__(self, classes: int, width: float) -> None:
        super().__init__()
        a, b, c = (round(width * channels) for channels in (16, 32, 64))
        self.body = nn.Sequential(
            *block(1, a, 5, 2), nn.AvgPool2d(2), *block(a, b, 3), nn.AvgPool2d(2), *block(b, c, 3)
        )
        self.logits = nn.Linear(2 * c, classes)

    def forward(self, x: Tensor) -> Tensor:
        over_time = self.body(x).mean(dim=2)
        return self.logits(torch.cat([over_time.mean(dim=2), over_time.max(dim=2).values], dim=1))


class Cnn6(nn.Module):
    """CNN-6 of PANNs without its spectrogram augmentation and dropout."""

    def __init__(self, classes: int, width: float) -> None:
        super().__init__()
        plan = [1, *(round(width * channels) for channels in (64, 128, 256, 512))]
        blocks = [[*block(before, after, 5), nn.AvgPool2d(2)] for before, after in pairwise(plan)]
        self.body = nn.Sequential(*(module for each in blocks for module in each))
        self.hidden = nn.Linear(plan[-1], round(width * 512))
        self.logits = nn.Linear(round(width * 512), classes)

    def forward(self, x: Tensor) -> Tensor:
        over_time = self.body(x).mean(dim=2)
        return self.logits(torch.relu(self.hidden(over_time.amax(2) + over_time.mean(2))))


TWINS = {"edgenet": EdgeNet, "cnn6": Cnn6}


def twin_of(name: str, width: float, weights: dict[str, np.ndarray]) -> nn.Module:
    """The module with the same weights: both lists of parameters run in the order of the layers."""
    module = TWINS[name](4, width)
    parameters = [weights[key] for key in weights if not key.endswith(("running_mean", "running_var"))]
    with torch.no_grad():
        for mine, given in zip(module.parameters(), parameters, strict=True):
            mine.copy_(torch.from_numpy(given))
    return module


def batch_of(seed: int, count: int = 6) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((count, 1, 64, 96)).astype(np.float32))


def lively(name: str, width: float) -> tuple[object, dict[str, np.ndarray]]:
    """A student whose normalisations are not the identity."""
    graph, random = build(name, 4, width), np.random.default_rng(1)
    weights = initial_weights(graph, 5)
    for key in weights:
        if key.startswith("norm"):
            weights[key] = random.uniform(0.5, 1.5, weights[key].shape).astype(np.float32)
    return graph, weights


@pytest.mark.parametrize("name", TWINS)
def test_training_mode_is_that_of_torch_modules(name: str) -> None:
    graph, weights = lively(name, 0.25)
    twin, x = twin_of(name, 0.25, weights).train(), batch_of(0)
    tensors = to_tensors(weights)
    torch.testing.assert_close(forward(graph, tensors, x, batch_norm(tensors)), twin(x), atol=CLOSE, rtol=0)


@pytest.mark.parametrize("name", TWINS)
def test_gradients_are_those_of_torch_modules(name: str) -> None:
    graph, weights = lively(name, 0.25)
    twin, x = twin_of(name, 0.25, weights).train(), batch_of(0)
    tensors = {key: value.requires_grad_(True) for key, value in to_tensors(weights).items() if key in graph.parameters}
    mine = torch.autograd.grad(forward(graph, tensors, x, batch_norm(tensors)).square().sum(), list(tensors.values()))
    theirs = torch.autograd.grad(twin(x).square().sum(), list(twin.parameters()))
    for one, other in zip(mine, theirs, strict=True):
        assert (one - other).norm() <= 1e-4 * max(1.0, float(other.norm()))


@pytest.mark.parametrize("name", TWINS)
def test_running_statistics_are_those_of_batchnorm_without_momentum(name: str) -> None:
    graph, weights = lively(name, 0.25)
    twin, batches = twin_of(name, 0.25, weights).train(), [batch_of(seed) for seed in range(3)]
    parameters = {key: value for key, value in to_tensors(weights).items() if key in graph.parameters}
    found = with_statistics(graph, parameters, batches)
    for x in batches:
        twin(x)
    norms = [module for module in twin.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) * 2 == len(graph.statistics)
    for op, norm in zip([key[:-13] for key in graph.statistics if key.endswith("running_mean")], norms, strict=True):
        np.testing.assert_allclose(found[f"{op}.running_mean"], norm.running_mean.numpy(), atol=1e-5)
        np.testing.assert_allclose(found[f"{op}.running_var"], norm.running_var.numpy(), rtol=1e-4)
    tensors, x = to_tensors(found), batch_of(7)
    with torch.no_grad():
        logits = forward(graph, tensors, x, running_norm(tensors))
        torch.testing.assert_close(logits, twin.eval()(x), atol=CLOSE, rtol=CLOSE)


@pytest.mark.parametrize("name", STUDENTS)
def test_inference_is_that_of_numpy_and_of_onnxruntime(name: str) -> None:
    graph, weights = lively(name, 0.125)
    x, tensors = batch_of(3, count=2), to_tensors(weights)
    logits = forward(graph, tensors, x, running_norm(tensors)).numpy()
    scale = max(1.0, float(np.abs(logits).max()))
    assert np.abs(logits - run_reference(graph, weights, x.numpy())).max() < CLOSE * scale
    session = onnxruntime.InferenceSession(write_onnx(graph, weights), providers=["CPUExecutionProvider"])
    assert np.abs(logits - session.run(["logits"], {"x": x.numpy()})[0]).max() < CLOSE * scale


def test_measuring_changes_no_logit() -> None:
    graph, weights = lively("edgenet", 0.25)
    tensors, x, seen = to_tensors(weights), batch_of(2), {}
    measured = forward(graph, tensors, x, measured_norm(tensors, seen))
    assert torch.equal(measured, forward(graph, tensors, x, batch_norm(tensors)))
    assert set(seen) == set(graph.statistics)


def test_every_tensor_has_the_shape_that_the_graph_promises() -> None:
    graph, weights = lively("resnet9", 0.125)
    tensors = to_tensors(weights)
    for op in graph.ops:
        value = forward(graph, tensors, batch_of(0, count=3), running_norm(tensors), op.name)
        assert value.shape == (3, *graph.shapes[op.name])


def test_conversion_copies_and_keeps_every_bit() -> None:
    _, weights = lively("edgenet", 0.25)
    tensors = to_tensors(weights)
    back = to_arrays(tensors)
    tensors["conv1.weight"].zero_()
    for name, array in weights.items():
        assert np.array_equal(back[name], array)
        assert back[name].flags.c_contiguous
