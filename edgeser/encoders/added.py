"""Encoders that a user adds: an ONNX file with a card, read defensively before it goes to any board.

    card = add(Path("wavlm.onnx"), Path("wavlm.toml"))

The card is TOML: name, title, licence, input (mel or pcm), frames, and optionally tap (the tensor to read; the first
output where it is absent) and pooling (moments, mean or none). The file is cut at its tap, pooling is appended, and the
rest runs in onnxruntime as it is. Whisper's own weights are added from a safetensors file; width, heads, hidden and
taps stand in the card, and they become our op graph.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, utils

from edgeser.encoders.store import encoder_folder, write_folder
from edgeser.encoders.whisper import from_safetensors
from edgeser_device.encoder import FRONTEND, MOST_BYTES, Encoder, EncoderCard
from edgeser_device.errors import EncoderError
from edgeser_export.graph.encoder_graph import FRAMES_PER_TOKEN, VECTOR, whisper_graph
from edgeser_export.utilities.errors import GraphError
from edgeser_export.writers.onnx_encoder import write_encoder

OPERATORS = frozenset(
    """
    Abs Add And AveragePool BatchNormalization Cast Ceil Clip Concat Constant ConstantOfShape Conv ConvInteger Cos
    DequantizeLinear Div DynamicQuantizeLinear Equal Erf Exp Expand Flatten Floor Gather Gelu Gemm
    GlobalAveragePool Greater GreaterOrEqual GroupNormalization HardSigmoid HardSwish Identity
    InstanceNormalization LayerNormalization LeakyRelu Less LessOrEqual Log MatMul MatMulInteger Max MaxPool Min
    Mul Neg Not Or PRelu Pad Pow QLinearConv QLinearMatMul QuantizeLinear Range Reciprocal ReduceL2 ReduceMax
    ReduceMean ReduceMin ReduceSum Relu Reshape STFT Shape Sigmoid Sin Slice Softmax Softplus Split Sqrt Squeeze
    Sub Sum Tanh Tile Transpose Unsqueeze Where
    """.split()  # noqa: SIM905  a list of words reads better
)
"""Operators of the default domain that an added file may hold: arithmetic only, nothing with a body of its own."""
POOLINGS = ("moments", "mean", "none")
CARD_KEYS = frozenset(
    ("name", "title", "licence", "source", "input", "frames", "tap", "pooling", "width", "heads", "hidden", "taps")
)


def add(path: Path, card: Path | None = None) -> EncoderCard:
    """Add an encoder from a file to this machine.

    Args:
        path: ONNX, or safetensors of Whisper.
        card: Its card; by default the file beside it that ends in ``.toml``.

    Raises:
        EncoderError: File or card cannot be read, do not fit each other, or hold what is not allowed.
    """
    given = read_given(card or path.with_suffix(".toml"))
    try:
        size = path.stat().st_size
    except OSError as error:
        raise EncoderError(f"{path} cannot be read: {error.strerror}", "check the path") from error
    if size > MOST_BYTES:
        raise EncoderError(f"{path} has {size >> 20} MB", f"an encoder for boards has at most {MOST_BYTES >> 20} MB")
    made = _from_whisper if path.suffix == ".safetensors" else _from_onnx
    data, vector, operations = made(path, given)
    found = EncoderCard(
        name=given["name"],
        title=given.get("title", given["name"]),
        source=given.get("source", path.name),
        licence=given["licence"],
        sha256=sha256(data).hexdigest(),
        input=given.get("input", "mel"),
        frames=given.get("frames", FRONTEND.frames),
        size=vector,
        multiply_accumulates=operations,
    )
    _try(found, data)
    write_folder(encoder_folder(found.name), found, data, {})
    return found


def read_given(path: Path) -> dict[str, Any]:
    """The card that a user wrote.

    Raises:
        EncoderError: It is missing, no TOML, or lacks name or licence.
    """
    try:
        value = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise EncoderError(
            f"the card {path} cannot be read: {error}", "write name, licence, input and frames"
        ) from error
    unknown = set(value) - CARD_KEYS
    if unknown:
        raise EncoderError(f"the card {path} has the field {min(unknown)!r}", f"known: {', '.join(sorted(CARD_KEYS))}")
    name = value.get("name")
    if not isinstance(name, str) or not name.replace("-", "").replace("_", "").isalnum() or len(name) > 64:
        raise EncoderError(f"the card {path} has the name {name!r}", "use letters, digits, - and _")
    if not isinstance(value.get("licence"), str):
        raise EncoderError(f"the card {path} states no licence", 'write: licence = "..."')
    return value


def _from_whisper(path: Path, given: Mapping[str, Any]) -> tuple[bytes, int, int]:
    try:
        taps, frames = tuple(given["taps"]), given.get("frames", FRONTEND.frames)
        graph = whisper_graph(
            mels=FRONTEND.mels,
            frames=frames,
            width=given["width"],
            heads=given["heads"],
            hidden=given["hidden"],
            taps=taps,
        )
        data = write_encoder(graph, from_safetensors(path, taps, frames // FRAMES_PER_TOKEN))
    except (KeyError, TypeError, GraphError) as error:
        raise EncoderError(f"the card does not fit {path}: {error}", "give width, heads, hidden and taps") from error
    return data, graph.shapes[graph.output][0], graph.multiply_accumulates


def _from_onnx(path: Path, given: Mapping[str, Any]) -> tuple[bytes, int, int]:
    model = read_onnx(path)
    tap, pooling = given.get("tap", model.graph.output[0].name), given.get("pooling", "moments")
    if pooling not in POOLINGS:
        raise EncoderError(f"the card has the pooling {pooling!r}", f"choose one of: {', '.join(POOLINGS)}")
    try:
        inferred = onnx.shape_inference.infer_shapes(model)
        cut = utils.Extractor(inferred).extract_model([given_input(model)], [tap])
    except (ValueError, KeyError, onnx.shape_inference.InferenceError) as error:
        raise EncoderError(f"{path} cannot be cut at {tap!r}: {error}", "name a tensor of the file as tap") from error
    _append_pooling(cut, tap, pooling)
    data: bytes = cut.SerializeToString(deterministic=True)
    return data, _vector_size(path, data, given), 0


def given_input(model: onnx.ModelProto) -> str:
    """The one input of a model that is no stored weight.

    Raises:
        EncoderError: There is not exactly one.
    """
    stored = {each.name for each in model.graph.initializer}
    names = [each.name for each in model.graph.input if each.name not in stored]
    if len(names) != 1:
        raise EncoderError(f"the file has {len(names)} inputs: {', '.join(names)}", "an encoder takes one window")
    return str(names[0])


def read_onnx(path: Path) -> onnx.ModelProto:
    """Parse an ONNX file that a stranger made, after looking at what it holds.

    Raises:
        EncoderError: It is no ONNX, names data outside itself, or has an operator that is not on the list.
    """
    try:
        model = onnx.load_from_string(path.read_bytes())
    except Exception as error:  # protobuf's errors are of no public class
        raise EncoderError(f"{path} is no ONNX file", "give the file that onnxruntime reads") from error
    if not model.graph.node or not model.graph.output:
        raise EncoderError(f"{path} is no ONNX file", "give the file that onnxruntime reads")
    outside = [each.name for each in model.graph.initializer if each.data_location == TensorProto.EXTERNAL]
    if outside:
        raise EncoderError(f"{path} keeps {outside[0]!r} in another file", "save it as one file without external data")
    if model.functions or model.graph.sparse_initializer:
        raise EncoderError(f"{path} defines functions or sparse weights", "export it again without them")
    for node in model.graph.node:
        body = any(attribute.type in (attribute.GRAPH, attribute.GRAPHS) for attribute in node.attribute)
        if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS or body:
            where = f"{node.domain}." if node.domain else ""
            raise EncoderError(
                f"{path} has the operator {where}{node.op_type}, which is not on the list", "export it with plain ones"
            )
    return model


def _append_pooling(model: onnx.ModelProto, tap: str, pooling: str) -> None:
    """Replace the output by one vector a window: moments or mean over the second axis of (windows, time, channels)."""
    graph = model.graph
    if pooling == "none":
        graph.node.append(helper.make_node("Flatten", [tap], [VECTOR], name=VECTOR, axis=1))
    else:
        graph.node.append(helper.make_node("ReduceMean", [tap], ["pool:mean"], name="pool:mean", axes=[1], keepdims=1))
        parts = ["pool:mean"]
        if pooling == "moments":
            parts.append("pool:spread")
            graph.node.append(helper.make_node("Sub", [tap, "pool:mean"], ["pool:centred"], name="pool:centred"))
            squares = helper.make_node("Mul", ["pool:centred"] * 2, ["pool:squares"], name="pool:squares")
            mean = helper.make_node("ReduceMean", ["pool:squares"], ["pool:var"], name="pool:var", axes=[1], keepdims=1)
            graph.node.extend(
                [squares, mean, helper.make_node("Sqrt", ["pool:var"], ["pool:spread"], name="pool:spread")]
            )
        graph.node.append(helper.make_node("Concat", parts, ["pool:both"], name="pool:both", axis=2))
        graph.initializer.append(numpy_helper.from_array(np.array([1], dtype=np.int64), "pool:axis"))
        graph.node.append(helper.make_node("Squeeze", ["pool:both", "pool:axis"], [VECTOR], name=VECTOR))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(VECTOR, TensorProto.FLOAT, None))


def _vector_size(path: Path, data: bytes, given: Mapping[str, Any]) -> int:
    try:
        frames, kind = given.get("frames", FRONTEND.frames), given.get("input", "mel")
        card = EncoderCard("trial", "", "", "", sha256(data).hexdigest(), kind, frames, 1)
        return int(Encoder.open(card, data)(np.zeros(frames * FRONTEND.hop, np.float32)).size)
    except EncoderError:
        raise
    except Exception as error:  # the runtime's errors have no common class below Exception
        reason = str(error).strip().splitlines()[0]
        raise EncoderError(f"{path} does not take what its card says: {reason}", "correct input and frames") from error


def _try(card: EncoderCard, data: bytes) -> None:
    """Run an encoder once before it is kept.

    Raises:
        EncoderError: Its vector has another size than the card says, or is not finite.
    """
    noise = np.random.default_rng(0).normal(0, 0.1, card.frames * FRONTEND.hop).astype(np.float32)
    found = Encoder.open(card, data)(noise)
    if found.shape != (1, card.size) or not np.isfinite(found).all():
        raise EncoderError(f"the encoder {card.name} gives {found.shape}, not (1, {card.size})", "correct the card")
