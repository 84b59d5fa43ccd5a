"""The TFLite writer: what the interpreter and torch say of its files, and what is in them."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from edgeser.models import students
from edgeser_export.graph.initial import initial_weights
from edgeser_export.graph.op_graph import Add, Conv, Graph, Linear, Reduce, Relu
from edgeser_export.graph.transform import recogniser
from edgeser_export.runtimes import load
from edgeser_export.utilities.errors import ModelFileError
from edgeser_export.writers.tflite_files import merged_relus, pads_as_same, read_tflite_metadata, write_tflite
from edgeser_export.writers.tflite_flatbuffer import ALIGNMENT

# Float32 sums in another order: the largest seen over the students is 1.1e-6 of the largest logit.
SHARE = 5e-6


def _operators(data):
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    model = schema.ModelT.InitFromPackedBuf(data)
    return [names[model.operatorCodes[entry.opcodeIndex].builtinCode] for entry in model.subgraphs[0].operators]


@pytest.mark.parametrize("name", students.STUDENTS)
def test_the_interpreter_computes_what_torch_computes(name, weigh, draw_items, oracle):
    graph = students.build(name, 6, width=0.25)
    weights, items = weigh(graph), draw_items(graph)
    expected = oracle(graph, weights, items)
    logits = load(write_tflite(graph, weights))(items)
    np.testing.assert_allclose(logits, expected, atol=SHARE * max(1.0, np.abs(expected).max()), rtol=0)


def test_every_operation(whole, weigh, draw_items, oracle):
    weights, items = weigh(whole), draw_items(whole, 5)
    np.testing.assert_allclose(load(write_tflite(whole, weights))(items), oracle(whole, weights, items), atol=2e-6)


def test_inputs_and_outputs(whole, weigh):
    interpreter = Interpreter(model_content=write_tflite(whole, weigh(whole)))
    (entry,) = interpreter.get_input_details()
    assert (entry["name"], entry["shape"].tolist(), entry["dtype"]) == ("x", [1, 13, 18, 2], np.float32)
    outputs = [(out["name"], out["shape"].tolist()) for out in interpreter.get_output_details()]
    assert outputs == [("probabilities", [1, 3])]


def test_relus_are_fused_where_nothing_else_reads(small, whole, weigh):
    assert merged_relus(small) == {"hidden": "relu3"}  # before folding; conv2 is read by an addition too
    assert _operators(write_tflite(whole, weigh(whole))) == [
        "SUB",
        "DIV",
        "PAD",  # 18 columns at stride 2: SAME would put one column before the first, not two
        "CONV_2D",
        "AVERAGE_POOL_2D",
        "CONV_2D",
        "RELU",
        "ADD",
        "CONCATENATION",
        "MAX_POOL_2D",
        "MEAN",
        "MEAN",
        "REDUCE_MAX",
        "CONCATENATION",
        "FULLY_CONNECTED",
        "FULLY_CONNECTED",
        "SOFTMAX",
    ]


def test_a_relu_may_be_the_output_and_sit_on_an_addition(weigh, draw_items, oracle):
    ops = (
        Reduce("a", "x", (1, 2), "max"),
        Reduce("b", "x", (1, 2), "mean"),
        Add("sum", ("a", "b")),
        Relu("out", "sum"),
    )
    graph = Graph((3, 4, 5), ops)
    items = draw_items(graph)
    data = write_tflite(graph, weigh(graph))
    assert "RELU" not in _operators(data)
    np.testing.assert_allclose(load(data)(items), oracle(graph, {}, items), atol=1e-6)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "same"),
    [
        (10, 3, 1, 1, True),
        (10, 5, 1, 2, True),
        (10, 5, 1, 1, False),  # fewer windows
        (10, 2, 1, 1, False),  # more windows
        (9, 5, 2, 2, True),  # an odd size: SAME is two-sided
        (10, 5, 2, 2, False),  # an even size: SAME puts one row before and two behind
        (10, 3, 2, 1, False),
    ],
)
def test_same_padding_only_where_it_is_the_same(size, kernel, stride, padding, same, weigh, draw_items, oracle):
    conv = Conv("c", "x", 2, kernel, stride, padding)
    assert pads_as_same(conv, (1, size, size)) is same
    graph = Graph((1, size, size), (conv, Reduce("m", "c", (1, 2), "max"), Linear("l", "m", 2, bias=False)))
    weights, items = weigh(graph), draw_items(graph)
    data = write_tflite(graph, weights)
    assert ("PAD" in _operators(data)) is not same
    np.testing.assert_allclose(load(data)(items), oracle(graph, weights, items), atol=1e-6)


def test_buffers_are_aligned(small, weigh):
    data = write_tflite(small, weigh(small), {"odd length": "?"})
    model = schema.Model.GetRootAs(data, 0)
    buffers = [model.Buffers(index) for index in range(model.BuffersLength())]
    filled = [buffer for buffer in buffers if buffer.DataLength()]
    starts = [buffer._tab.Vector(buffer._tab.Offset(4)) for buffer in filled]
    assert len(starts) > 10
    assert [start % ALIGNMENT for start in starts] == [0] * len(starts)


def test_metadata_reads_back(small, weigh):
    metadata = {"labels": '["ärger", "calm"]', "a": ""}
    data = write_tflite(small, weigh(small), metadata)
    assert read_tflite_metadata(data) == metadata
    assert read_tflite_metadata(write_tflite(small, weigh(small))) == {}
    with pytest.raises(ModelFileError, match="not a TFLite file"):
        read_tflite_metadata(b"ONNX and other things")


def test_equal_arguments_give_equal_bytes(small, weigh):
    weights = weigh(small)
    backwards = dict(reversed(weights.items()))
    assert write_tflite(small, weights, {"a": "1", "b": "2"}) == write_tflite(small, backwards, {"b": "2", "a": "1"})


def test_the_bytes_are_the_same_on_every_machine():
    # The initial weights come from raw words of PCG64 by exact scaling, so the file depends on nothing but the writer.
    # A new version of flatbuffers or of the schema may lay the file out in another way: then, and only then, pin anew.
    graph = recogniser(students.build("edgenet", 4, width=0.25), mean=-28, std=20, temperature=0.5)
    data = write_tflite(graph, initial_weights(graph, 3), {"labels": "[]"})
    assert len(data) % ALIGNMENT == 0
    assert hashlib.sha256(data).hexdigest() == "611e441b9d619e75ff79a754c98cbb6dbf4c08bfb0e54a402a2adfd0583f0ed0"
