from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgeser.models.students import build
from edgeser_export.graph.op_graph import Conv
from edgeser_export.kernels import convolutions as kernels
from edgeser_export.kernels import winograd
from edgeser_export.kernels.convolutions import Geometry
from edgeser_export.trainstep.forward_ops import Flow
from edgeser_export.trainstep.step_graph import training_step
from edgeser_export.writers.onnx_nodes import IR_VERSION, OPSET, Nodes

Arrays = dict[str, NDArray[np.float32]]
STUDENTS = (("edgenet", 1.0), ("cnn6", 0.25), ("resnet9", 0.25), ("vgg15", 0.25))


def geometry_of(
    kernel: int, padding: int, channels: tuple[int, int], size: tuple[int, int], batch: int = 2
) -> Geometry:
    conv = Conv("conv", "x", channels[1], kernel, 1, padding, bias=False)
    output = tuple(length + 2 * padding - kernel + 1 for length in size)
    return Geometry(conv, (batch, channels[0], *size), (batch, channels[1], *output))


def feeds_of(geometry: Geometry, seed: int = 0) -> Arrays:
    """A source as after a ReLU, a gradient, and a weight of the usual size."""
    random, conv = np.random.default_rng(seed), geometry.conv
    weight = random.standard_normal((conv.channels, geometry.source[1], conv.kernel, conv.kernel))
    return {
        "source": np.maximum(random.standard_normal(geometry.source), 0).astype(np.float32),
        "gradient": random.standard_normal(geometry.output).astype(np.float32),
        "weight": (weight / np.sqrt(weight[0].size)).astype(np.float32),
    }


def run(nodes: Nodes, names: tuple[str, ...], feeds: Arrays) -> list[NDArray[np.float32]]:
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape) for name, array in feeds.items()]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
    graph = helper.make_graph(nodes.written, "convolution", inputs, outputs, nodes.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(list(names), feeds))


def by_tiles(geometry: Geometry, feeds: Arrays) -> list[NDArray[np.float32]]:
    """Output, gradient of the weight, gradient of the source."""
    nodes = Nodes()
    output, transformed = winograd.convolution(nodes, geometry, "source", "weight")
    return run(nodes, (output, *winograd.gradients(nodes, geometry, transformed, "weight", "gradient")), feeds)


def directly(geometry: Geometry, feeds: Arrays) -> list[NDArray[np.float32]]:
    nodes, conv = Nodes(), geometry.conv
    window = {"kernel_shape": (conv.kernel,) * 2, "pads": (conv.padding,) * 4}
    output = nodes.add("Conv", "source", "weight", **window)
    slope = kernels.gradient_of_weight(nodes, geometry, "source", "gradient")
    return run(nodes, (output, slope, kernels.gradient_of_input(nodes, geometry, "weight", "gradient")), feeds)


def exactly(geometry: Geometry, feeds: Mapping[str, NDArray[np.float32]]) -> list[NDArray[np.float64]]:
    wide = {name: torch.tensor(array, dtype=torch.float64) for name, array in feeds.items()}
    leaves = [wide[name].requires_grad_(True) for name in ("weight", "source")]
    output = F.conv2d(wide["source"], wide["weight"], padding=geometry.conv.padding)
    slopes = torch.autograd.grad(output, leaves, wide["gradient"])
    return [tensor.detach().numpy() for tensor in (output, *slopes)]


def errors(found: list[NDArray[np.float32]], exact: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Lengths of the differences, of the lengths of what is exact."""
    pairs = zip(found, exact, strict=True)
    return np.array([np.linalg.norm(one - two) / max(np.linalg.norm(two), 1e-6) for one, two in pairs])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    kernel=st.integers(1, 7),
    padding=st.integers(0, 7),
    channels=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    size=st.tuples(st.integers(7, 40), st.integers(7, 60)),
    batch=st.integers(1, 3),
)
@example(kernel=5, padding=2, channels=(3, 4), size=(32, 48), batch=2)  # groups of tiles in both directions
@example(kernel=5, padding=2, channels=(3, 4), size=(31, 47), batch=2)  # tiles do not fill
@example(kernel=3, padding=1, channels=(2, 2), size=(7, 7), batch=1)
@example(kernel=3, padding=5, channels=(2, 2), size=(8, 12), batch=1)  # more padding than kernel
@example(kernel=7, padding=0, channels=(1, 1), size=(7, 7), batch=1)  # one output
def test_tiles_are_the_convolution_and_its_gradients(
    kernel: int, padding: int, channels: tuple[int, int], size: tuple[int, int], batch: int
) -> None:
    geometry = geometry_of(kernel, padding, channels, size, batch)
    feeds = feeds_of(geometry)
    found, exact = by_tiles(geometry, feeds), exactly(geometry, feeds)
    sizes = exactly(geometry, {name: np.abs(array) for name, array in feeds.items()})  # nothing cancels in these
    assert [array.shape for array in found] == [array.shape for array in exact]
    for one, two, size in zip(found, exact, sizes, strict=True):
        assert np.linalg.norm(one - two) < 2e-6 * np.linalg.norm(size)


def tiled() -> list[Geometry]:
    """Every different convolution of the students that goes by tiles, with fewer items."""
    found = {}
    for name, width in STUDENTS:
        graph = build(name, 8, width)
        flow = Flow(Nodes(), graph, 4, batch_statistics=True)
        for op in graph.ops:
            if isinstance(op, Conv) and flow.tiled(op):
                geometry = flow.geometry(op)
                found.setdefault((geometry.source, geometry.output, op.kernel), geometry)
    return list(found.values())


@pytest.mark.parametrize("geometry", tiled(), ids=lambda geometry: f"{geometry.source}-{geometry.conv.kernel}")
def test_float32_errors_are_a_small_factor_of_the_direct_ways(geometry: Geometry) -> None:
    """Both are a few 1e-7; points on the real line would make it 2e-6 to 5e-6."""
    feeds = feeds_of(geometry)
    exact = exactly(geometry, feeds)
    assert (errors(by_tiles(geometry, feeds), exact) < 5 * errors(directly(geometry, feeds), exact)).all()


def test_which_convolutions_go_by_tiles() -> None:
    def suits(name: str, width: float) -> list[bool]:
        graph = build(name, 8, width)
        flow = Flow(Nodes(), graph, 32, batch_statistics=True)
        return [flow.tiled(op) for op in graph.ops if isinstance(op, Conv)]

    assert suits("cnn6", 0.25) == [False, True, True, True]
    assert suits("edgenet", 1.0) == [False, False, True]
    assert not any(suits("cnn6", 0.03))
    strided = Geometry(Conv("conv", "x", 64, 5, 2, 2), (32, 64, 16, 24), (32, 64, 8, 12))
    assert not winograd.suits(strided)


@pytest.mark.parametrize(("trained", "plain"), [("full", True), ("frozen", False)])
def test_steps_without_tiles(trained: str, plain: bool) -> None:
    """Plain steps have none by definition; where statistics are frozen, gradients of 0 must stay 0."""
    graph = build("cnn6", 8, 0.25)
    flow = Flow(Nodes(), graph, 4, batch_statistics=trained == "full", plain=plain)
    assert not any(flow.tiled(op) for op in graph.ops if isinstance(op, Conv))
    kinds = [
        node.op_type for node in onnx.load_from_string(training_step(graph, 4, "adamw", trained, plain)).graph.node
    ]
    assert kinds.count("Conv") >= 4


def test_constants_of_a_step_are_small() -> None:
    assert len(training_step(build("cnn6", 8, 0.25), 32)) < 200_000
