"""A generator of maps as an ONNX file: random numbers and a class in, items out.

    shape = GeneratorShape(latent=16, classes=4, height=64, width=96)
    data = write_generator(shape, weights)

Every class has a codebook: as many entries, small maps of numbers, as there are random numbers. These say how much of
each entry an item has: softmax(z / temperature), so that most items are nearly one entry and some lie between two. The
sum of the entries is decoded:

    item = patches(sum) + detail(sum)

``patches`` is linear: a square of the item for each place of the map (a convolution of one by one whose channels are
put side by side, Shi et al. 2016, arXiv 1609.05158). ``detail`` doubles the map by repeating and convolves it, layer by
layer; the last doubling is a sub-pixel convolution. After each of its layers but the last: a leaky rectifier and
division by the root mean square over the channels (Karras et al. 2018, arXiv 1710.10196): items are independent.

Inputs ``z``: float32 (items, latent), standard normal; ``labels``: float32 (items, classes), one-hot. Output ``items``:
float32 (items, height, width). Codebooks are stored as whole levels of eight bits, each entry with a scale of its own,
other weights as float16. Equal arguments give equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeser_export.graph.op_graph import Weights
from edgeser_export.utilities.errors import ExportError, GraphError
from edgeser_export.writers.onnx_nodes import Nodes, floats, model_bytes, weight_constants
from edgeser_export.writers.rounding import HIGHEST, nearest_weights

LATENT, LABELS, ITEMS = "z", "labels", "items"
CHANNELS = (32, 24, 16)
"""Channels of the maps, the smallest first: a thousand items of 64 x 96 take well under a second on a PC's core."""
INVERSE_TEMPERATURE = 12.0
"""Inverse temperature of the softmax over a codebook: of 32 entries the strongest has 0.97 of an item in the median."""
SLOPE = 0.2
"""Slope of the leaky rectifiers below zero."""
EPSILON = 1e-8
"""Added to the mean square over the channels, and the least size of a level."""
SMALL = 16
"""Weights of fewer numbers are stored as they are, except codebooks."""
CODEBOOK = "bases"
"""Name of the weight that holds the codebooks of all classes, most of the numbers; runs are stored with this name."""


@dataclass(frozen=True)
class GeneratorShape:
    """Sizes of a generator.

    Attributes:
        latent: Random numbers for one item, and entries in the codebook of each class.
        classes: Number of classes.
        height: Rows of an item.
        width: Columns of an item.
        channels: Channels of the maps, the smallest map first.
        inverse_temperature: Inverse temperature of the softmax over a class's codebook.

    Raises:
        ExportError: Height or width is no multiple of two to the number of maps.
    """

    latent: int
    classes: int
    height: int
    width: int
    channels: tuple[int, ...] = CHANNELS
    inverse_temperature: float = INVERSE_TEMPERATURE

    def __post_init__(self) -> None:
        factor = 2 ** len(self.channels)
        if self.height % factor or self.width % factor or min(self.height, self.width) < factor:
            raise ExportError(
                f"a generator cannot make items of {self.height} x {self.width}",
                f"height and width must be multiples of {factor}",
            )

    @property
    def first_map(self) -> tuple[int, int, int]:
        """Channels, height and width of the smallest map."""
        factor = 2 ** len(self.channels)
        return (self.channels[0], self.height // factor, self.width // factor)

    @property
    def weights(self) -> dict[str, tuple[int, ...]]:
        """Shapes of all weights by name."""
        shapes: dict[str, tuple[int, ...]] = {CODEBOOK: (self.classes * self.latent, prod(self.first_map))}
        for number, (before, after) in enumerate(pairwise(self.channels), start=1):
            shapes |= {f"conv{number}.weight": (after, before, 3, 3), f"conv{number}.bias": (after,)}
        patch = 4 ** len(self.channels)
        shapes |= {"patches.weight": (patch, self.channels[0], 1, 1), "patches.bias": (patch,)}
        return shapes | {"last.weight": (4, self.channels[-1], 3, 3), "last.bias": (4,)}

    def check(self, weights: Weights) -> None:
        """Raise GraphError unless ``weights`` holds every weight as a finite float32 array."""
        for name, shape in self.weights.items():
            found = weights.get(name)
            if found is None or found.shape != shape or found.dtype != np.float32 or not np.isfinite(found).all():
                raise GraphError(f"the generator's weight {name!r} is missing or malformed", "train it again")


def as_stored(weights: Weights) -> dict[str, NDArray[np.float32]]:
    """The weights as the file holds them: codebooks in levels, others rounded to float16 where they are many."""
    levels, scale = in_levels(weights[CODEBOOK])
    rest = {name: array for name, array in weights.items() if name != CODEBOOK}
    halved = {name: array.astype(np.float16).astype(np.float32) for name, array in rest.items() if array.size >= SMALL}
    return {**rest, **halved, CODEBOOK: levels * scale[:, None]}


def in_levels(entries: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Codebook entries (entries, numbers) as int8 and the size of one level of each, float32 (entries,)."""
    scale = np.maximum(np.abs(entries).max(1) / np.float32(HIGHEST), np.float32(EPSILON))
    return nearest_weights(entries, scale), scale


def write_generator(shape: GeneratorShape, weights: Weights) -> bytes:
    """Write a generator.

    Args:
        shape: Its sizes.
        weights: Weights by the names in ``shape.weights``, float32.

    Raises:
        GraphError: The weights do not fit the shape.
    """
    shape.check(weights)
    nodes, rest = Nodes(), [name for name in shape.weights if name != CODEBOOK]
    shares = nodes.add("Softmax", nodes.add("Mul", LATENT, nodes.number(shape.inverse_temperature)), axis=1)
    of_class = nodes.add("Unsqueeze", LABELS, nodes.integers([2]))
    chosen = nodes.add("Mul", of_class, nodes.add("Unsqueeze", shares, nodes.integers([1])))
    levels, scale = (nodes.constant(array) for array in in_levels(weights[CODEBOOK]))
    codebook = nodes.add("DequantizeLinear", levels, scale, axis=0)
    x = nodes.add("MatMul", nodes.reshape(chosen, (-1, shape.classes * shape.latent)), codebook)
    x = nodes.reshape(x, (-1, *shape.first_map))
    patches = nodes.add("Conv", x, "patches.weight", "patches.bias", kernel_shape=[1, 1])
    coarse = nodes.add("DepthToSpace", patches, blocksize=2 ** len(shape.channels), mode="CRD")
    twice = nodes.constant(np.array([1, 1, 2, 2], np.float32))
    for number in range(1, len(shape.channels)):
        x = nodes.add(
            "Resize", x, "", twice, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
        )
        x = _rectified(nodes, _convolved(nodes, x, f"conv{number}"))
    detail = nodes.add("DepthToSpace", _convolved(nodes, x, "last"), blocksize=2, mode="CRD")
    x = nodes.add("Add", coarse, detail)
    nodes.add("Reshape", x, nodes.integers((-1, shape.height, shape.width)), into=ITEMS)
    inputs = floats([(LATENT, ["items", shape.latent]), (LABELS, ["items", shape.classes])])
    outputs = floats([(ITEMS, ["items", shape.height, shape.width])])
    constants = [*weight_constants({name: weights[name] for name in rest}), *nodes.constants]
    return halve(model_bytes("generator", nodes.written, inputs, outputs, constants, {}), rest)


def halve(data: bytes, names: Iterable[str]) -> bytes:
    """An ONNX file whose float32 weights ``names`` are stored as float16 and cast when it is loaded."""
    model = onnx.load_from_string(data)
    wanted, casts = set(names), []
    for tensor in model.graph.initializer:
        if tensor.name not in wanted or tensor.data_type != TensorProto.FLOAT or prod(tensor.dims) < SMALL:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), f"{name}.stored"))
        casts.append(helper.make_node("Cast", [f"{name}.stored"], [name], to=TensorProto.FLOAT, name=f"{name}.cast"))
    written = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(written)
    return bytes(model.SerializeToString(deterministic=True))


def _convolved(nodes: Nodes, x: str, name: str) -> str:
    return nodes.add("Conv", x, f"{name}.weight", f"{name}.bias", kernel_shape=[3, 3], pads=[1, 1, 1, 1])


def _rectified(nodes: Nodes, x: str) -> str:
    x = nodes.add("LeakyRelu", x, alpha=SLOPE)
    power = nodes.add("ReduceMean", nodes.add("Mul", x, x), nodes.integers([1]), keepdims=1)
    return nodes.add("Div", x, nodes.add("Sqrt", nodes.add("Add", power, nodes.number(EPSILON))))
