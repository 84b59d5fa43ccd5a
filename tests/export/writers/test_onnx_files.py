"""The ONNX writer: what the checker, onnxruntime and torch say of its files."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from edgeser.models import students
from edgeser_export.graph.op_graph import Conv, Graph, Linear, Reduce, Relu
from edgeser_export.utilities.errors import GraphError
from edgeser_export.writers.onnx_files import write_onnx
from edgeser_export.writers.onnx_nodes import INFERENCE_OPSET, IR_VERSION

# Float32 sums in another order: the largest seen over the students is 1.1e-6 of the largest logit.
SHARE = 5e-6


def _session(data):
    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", students.STUDENTS)
def test_onnxruntime_computes_what_torch_computes(name, weigh, draw_items, oracle):
    graph = students.build(name, 6, width=0.25)
    weights, items = weigh(graph), draw_items(graph)
    expected = oracle(graph, weights, items)
    (logits,) = _session(write_onnx(graph, weights)).run(["logits"], {"x": items})
    bound = SHARE * max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(logits, expected, atol=bound, rtol=0)


def test_every_operation(whole, weigh, draw_items, oracle):
    weights, items = weigh(whole), draw_items(whole, 5)
    (probabilities,) = _session(write_onnx(whole, weights)).run(None, {"x": items})
    np.testing.assert_allclose(probabilities, oracle(whole, weights, items), atol=2e-6)


def test_the_checker_accepts_the_file_and_its_shapes(whole, weigh):
    model = onnx.load_from_string(write_onnx(whole, weigh(whole)))
    onnx.checker.check_model(model, full_check=True)
    assert (model.opset_import[0].version, model.ir_version) == (INFERENCE_OPSET, IR_VERSION)
    assert not any(node.op_type == "BatchNormalization" for node in model.graph.node)


def test_any_number_of_items(whole, weigh, draw_items):
    session = _session(write_onnx(whole, weigh(whole)))
    (entry,) = session.get_inputs()
    assert (entry.name, entry.shape) == ("x", ["items", 2, 13, 18])
    assert [(out.name, out.shape) for out in session.get_outputs()] == [("probabilities", ["items", 3])]
    for count in (1, 7):
        assert session.run(None, {"x": draw_items(whole, count)})[0].shape == (count, 3)


def test_metadata_reads_back(small, weigh):
    metadata = {"labels": '["ärger", "calm"]', "a": ""}
    session = _session(write_onnx(small, weigh(small), metadata))
    assert session.get_modelmeta().custom_metadata_map == metadata


def test_equal_arguments_give_equal_bytes(small, weigh):
    weights = weigh(small)
    backwards = dict(reversed(weights.items()))
    assert write_onnx(small, weights, {"a": "1", "b": "2"}) == write_onnx(small, backwards, {"b": "2", "a": "1"})


def test_an_output_that_is_no_vector_is_refused(weigh):
    graph = Graph((1, 6, 6), (Conv("c", "x", 2, 3),))
    with pytest.raises(GraphError, match="vector of logits"):
        write_onnx(graph, weigh(graph))


def test_an_input_that_is_no_map_is_refused(weigh):
    graph = Graph((6,), (Linear("a", "x", 2),))
    with pytest.raises(GraphError, match="channels, height, width"):
        write_onnx(graph, weigh(graph))


def test_names_of_the_file_are_taken(weigh):
    ops = (Relu("out.weight", "x"), Reduce("pooled", "out.weight", (1, 2), "max"), Linear("out", "pooled", 2))
    graph = Graph((1, 6, 6), ops)
    with pytest.raises(GraphError, match="would be named"):
        write_onnx(graph, weigh(graph))
