"""Encoders from outside: what runs is kept, what is too large, hidden or not on the list is refused in one line."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeser.encoders.added import add
from edgeser.encoders.store import open_encoder
from edgeser_device.encoder import Encoder
from edgeser_device.errors import EncoderError

CARD = 'name = "mine"\nlicence = "CC0"\ninput = "pcm"\nframes = 20\n'
SAMPLES = 20 * 160


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGESER_CACHE", str(tmp_path / "cache"))


def pcm_model(*extra, external=False):
    """Samples to (1, time, channels) by a matrix, with an output after it that nobody asks for."""
    weight = numpy_helper.from_array(np.random.default_rng(0).normal(size=(160, 6)).astype("f4"), "weight")
    if external:
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value="elsewhere.bin")
        weight.ClearField("raw_data")
    nodes = [
        helper.make_node("Reshape", ["pcm", "shape"], ["frames"]),
        helper.make_node("MatMul", ["frames", "weight"], ["hidden"]),
        *extra,
        helper.make_node("Tanh", ["hidden"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "outside",
        [helper.make_tensor_value_info("pcm", TensorProto.FLOAT, [1, SAMPLES])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 20, 6])],
        [weight, numpy_helper.from_array(np.array([1, 20, 160], dtype="i8"), "shape")],
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def written(folder, model, card=CARD):
    path = folder / "outside.onnx"
    path.write_bytes(model.SerializeToString())
    path.with_suffix(".toml").write_text(card)
    return path


@pytest.mark.parametrize(("tap", "change"), [("hidden", lambda x: x), ("out", np.tanh)])
@pytest.mark.parametrize(("pooling", "size"), [("moments", 12), ("mean", 6), ("none", 120)])
def test_a_file_is_cut_and_pooled(tmp_path, tap, change, pooling, size) -> None:
    model = pcm_model()
    card = add(written(tmp_path, model, f'{CARD}tap = "{tap}"\npooling = "{pooling}"\n'))
    assert card.size == size
    encoder = Encoder.open(*open_encoder("mine"))
    sound = np.random.default_rng(1).normal(size=SAMPLES).astype("f4")
    hidden = change(sound.reshape(20, 160) @ numpy_helper.to_array(model.graph.initializer[0]))
    wanted = {
        "moments": np.concatenate([hidden.mean(0), hidden.std(0)]),
        "mean": hidden.mean(0),
        "none": hidden.reshape(-1),
    }
    np.testing.assert_allclose(encoder(sound)[0], wanted[pooling], rtol=1e-4, atol=1e-4)


def test_what_comes_after_the_tap_is_gone(tmp_path) -> None:
    add(written(tmp_path, pcm_model(), f'{CARD}tap = "hidden"\n'))
    kinds = [node.op_type for node in onnx.load_from_string(open_encoder("mine")[1]).graph.node]
    assert "Tanh" not in kinds


def loop_body():
    return helper.make_graph([], "body", [], [])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: pcm_model(external=True), "another file"),
        (lambda: pcm_model(helper.make_node("Loop", ["", ""], ["looped"], body=loop_body())), "Loop"),
        (lambda: pcm_model(helper.make_node("Evil", ["hidden"], ["x"], domain="org.example")), "org.example.Evil"),
        (lambda: pcm_model(helper.make_node("SequenceEmpty", [], ["x"])), "SequenceEmpty"),
    ],
)
def test_what_is_not_on_the_list_is_refused(tmp_path, make, words) -> None:
    with pytest.raises(EncoderError, match=words):
        add(written(tmp_path, make()))
    with pytest.raises(EncoderError):
        open_encoder("mine")


@pytest.mark.parametrize(
    ("card", "words"),
    [
        ("licence = 'x'\n", "name"),
        ("name = 'a/b'\nlicence = 'x'\n", "name"),
        ("name = 'a'\n", "licence"),
        (f"{CARD}colour = 'red'\n", "colour"),
        (f"{CARD}tap = 'nowhere'\n", "nowhere"),
        (f"{CARD}pooling = 'max'\n", "pooling"),
        (CARD.replace("20", "30"), "does not take"),
        ("name = ", "cannot be read"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(tmp_path, card, words) -> None:
    with pytest.raises(EncoderError, match=words):
        add(written(tmp_path, pcm_model(), card))


def test_junk_is_no_encoder(tmp_path) -> None:
    (tmp_path / "outside.onnx").write_bytes(b"\x08\x08junk")
    (tmp_path / "outside.toml").write_text(CARD)
    with pytest.raises(EncoderError, match="no ONNX"):
        add(tmp_path / "outside.onnx")


def test_onnxruntime_itself_agrees_that_the_kept_file_is_whole(tmp_path) -> None:
    add(written(tmp_path, pcm_model()))
    session = onnxruntime.InferenceSession(open_encoder("mine")[1])
    assert [each.name for each in session.get_outputs()] == ["vector"]
