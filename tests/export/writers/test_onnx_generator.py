"""The generator as ONNX against the same computation in numpy, and what its file weighs."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from edgeser_export.graph.op_graph import Weights
from edgeser_export.utilities.errors import ExportError, GraphError
from edgeser_export.writers.onnx_generator import (
    EPSILON,
    SLOPE,
    GeneratorShape,
    as_stored,
    halve,
    in_levels,
    write_generator,
)

SMALL = GeneratorShape(latent=3, classes=2, height=16, width=32, channels=(6, 5, 4))
TOLERANCE = 2e-5
"""Float32 sums of a few hundred numbers near one, in another order."""


def weights_of(shape: GeneratorShape, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {name: (0.3 * random.standard_normal(size)).astype(np.float32) for name, size in shape.weights.items()}


def by_hand(shape: GeneratorShape, weights: Weights, z: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """One item, float64, written out: (height, width)."""

    def rectified(x: np.ndarray) -> np.ndarray:
        x = np.where(x > 0, x, SLOPE * x)
        return x / np.sqrt((x**2).mean(0) + EPSILON)

    def convolved(x: np.ndarray, name: str) -> np.ndarray:
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
        kernel = weights[f"{name}.weight"]
        out = np.zeros((len(kernel), *x.shape[1:]))
        for down in range(3):
            for right in range(3):
                part = padded[:, down : down + x.shape[1], right : right + x.shape[2]]
                out += np.einsum("oc,chw->ohw", kernel[:, :, down, right], part)
        return out + weights[f"{name}.bias"][:, None, None]

    shares = np.exp(shape.inverse_temperature * z) / np.exp(shape.inverse_temperature * z).sum()
    own = weights["bases"].reshape(shape.classes, shape.latent, -1)[labels.argmax()]
    x = (shares @ own).reshape(shape.first_map)
    side = 2 ** len(shape.channels)
    squares = np.einsum("oc,chw->hwo", weights["patches.weight"][:, :, 0, 0], x) + weights["patches.bias"]
    coarse = squares.reshape(*x.shape[1:], side, side).transpose(0, 2, 1, 3).reshape(shape.height, shape.width)
    for number in range(1, len(shape.channels)):
        x = rectified(convolved(x.repeat(2, 1).repeat(2, 2), f"conv{number}"))
    four = convolved(x, "last")
    out = np.empty((2 * x.shape[1], 2 * x.shape[2]))
    for place in range(4):
        out[place // 2 :: 2, place % 2 :: 2] = four[place]
    return coarse + out


def run(data: bytes, z: np.ndarray, labels: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return session.run(["items"], {"z": z, "labels": labels})[0]


@pytest.mark.parametrize("shape", [SMALL, GeneratorShape(5, 3, 64, 96)], ids=["three maps", "log-mels"])
def test_the_file_computes_what_numpy_does(shape: GeneratorShape) -> None:
    random = np.random.default_rng(1)
    weights = weights_of(shape)
    data = write_generator(shape, weights)
    onnx.checker.check_model(onnx.load_from_string(data))
    z = random.standard_normal((3, shape.latent)).astype(np.float32)
    labels = np.eye(shape.classes, dtype=np.float32)[[0, 1, 1]]
    found, stored = run(data, z, labels), as_stored(weights)
    for item, numbers, label in zip(found, z, labels, strict=True):
        expected = by_hand(shape, stored, numbers, label)
        assert np.abs(item - expected).max() <= TOLERANCE * max(1.0, np.abs(expected).max())


def test_it_weighs_less_than_a_megabyte_and_is_the_same_every_time() -> None:
    shape = GeneratorShape(latent=32, classes=8, height=64, width=96)
    data = write_generator(shape, weights_of(shape))
    assert len(data) < 850_000
    assert data == write_generator(shape, weights_of(shape))


def test_items_do_not_depend_on_the_batch_they_are_in() -> None:
    random = np.random.default_rng(2)
    data = write_generator(SMALL, weights_of(SMALL))
    z = random.standard_normal((4, SMALL.latent)).astype(np.float32)
    labels = np.eye(2, dtype=np.float32)[[0, 1, 0, 1]]
    together, alone = run(data, z, labels), run(data, z[2:3], labels[2:3])
    assert np.allclose(together[2], alone[0], atol=TOLERANCE)


@pytest.mark.parametrize("change", ["missing", "shape", "nan"])
def test_weights_that_do_not_fit_are_refused(change: str) -> None:
    weights = weights_of(SMALL)
    if change == "missing":
        del weights["last.bias"]
    elif change == "shape":
        weights["last.bias"] = np.zeros(3, np.float32)
    else:
        weights["last.bias"][0] = np.nan
    with pytest.raises(GraphError, match=r"last\.bias"):
        write_generator(SMALL, weights)


def test_without_a_difference_between_the_numbers_an_item_is_made_of_all_bases_of_its_class() -> None:
    weights = weights_of(SMALL)
    same = weights["bases"].reshape(SMALL.classes, SMALL.latent, -1).mean(1).repeat(SMALL.latent, axis=0)
    labels, z = np.eye(2, dtype=np.float32), np.zeros((2, SMALL.latent), np.float32)
    found = run(write_generator(SMALL, weights), z, labels)
    sums = run(write_generator(SMALL, {**weights, "bases": same}), np.float32([[9, -9, 0], [0, 3, 1]]), labels)
    assert np.allclose(found, sums, atol=0.1)  # a mean of rounded bases is not the rounded mean
    assert not np.allclose(found[0], found[1], atol=0.5)


def test_sizes_that_cannot_be_halved_are_refused() -> None:
    with pytest.raises(ExportError, match="64 x 90"):
        GeneratorShape(latent=4, classes=2, height=64, width=90)


def test_bases_are_levels_of_eight_bits_what_is_small_is_kept_and_the_rest_is_halved() -> None:
    shape = SMALL
    data = write_generator(shape, weights_of(shape))
    initializers = onnx.load_from_string(data).graph.initializer
    stored = {tensor.name: tensor.data_type for tensor in initializers}
    eight = [tuple(tensor.dims) for tensor in initializers if tensor.data_type == onnx.TensorProto.INT8]
    assert eight == [shape.weights["bases"]]
    assert stored["conv1.weight.stored"] == onnx.TensorProto.FLOAT16
    assert stored["last.bias"] == onnx.TensorProto.FLOAT
    assert np.array_equal(as_stored(weights_of(shape))["last.bias"], weights_of(shape)["last.bias"])
    assert halve(data, []) == data


def test_levels_are_as_near_as_eight_bits_allow_also_where_all_numbers_are_zero() -> None:
    bases = np.float32([[0.0, 0.0], [1.0, -0.25], [-127.0, 63.6]])
    levels, scale = in_levels(bases)
    assert levels.tolist() == [[0, 0], [127, -32], [-127, 64]]
    assert np.abs(levels * scale[:, None] - bases).max() <= scale.max() / 2


def test_most_items_are_nearly_one_basis() -> None:
    shape = GeneratorShape(latent=32, classes=8, height=64, width=96)
    z = np.random.default_rng(0).standard_normal((1000, shape.latent))
    grown = np.exp(shape.inverse_temperature * z)
    assert np.median(grown.max(1) / grown.sum(1)) > 0.95
