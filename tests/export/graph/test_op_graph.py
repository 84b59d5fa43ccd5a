"""The op graph: shapes, JSON, weights, and folding."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from edgeser.models import students
from edgeser_export.graph.op_graph import FILE_OPS, Add, BatchNorm, Concat, Conv, Graph, Linear, Pool, Reduce, Relu
from edgeser_export.graph.transform import fold_batchnorm, recogniser
from edgeser_export.utilities.errors import GraphError


def test_shapes_of_the_small_graph(small):
    found = {name: small.shapes[name] for name in ("conv1", "pool1", "both", "pool2", "frequency", "features", "last")}
    assert found == {
        "conv1": (4, 7, 9),
        "pool1": (4, 3, 4),
        "both": (8, 3, 4),
        "pool2": (8, 1, 2),
        "frequency": (8, 2),
        "features": (16,),
        "last": (3,),
    }


def test_parameters_are_named_as_torch_names_them(small):
    assert small.parameters["conv1.weight"] == (4, 2, 5, 5)
    assert "conv1.bias" not in small.parameters
    assert small.parameters["last.weight"] == (3, 5)
    assert small.statistics == {"norm1.running_mean": (4,), "norm1.running_var": (4,)}
    assert small.parameter_count == 4 * 2 * 25 + 8 + 4 * 4 * 9 + 4 + 16 * 5 + 5 + 5 * 3 + 3


def test_multiply_accumulates_count_convolutions_and_dense_layers(small):
    assert small.multiply_accumulates == 200 * 63 + 144 * 12 + 80 + 15


@pytest.mark.parametrize("name", students.STUDENTS)
def test_a_graph_survives_json(name):
    graph = students.build(name, 7)
    assert Graph.from_json(json.loads(json.dumps(graph.to_json()))) == graph


def test_the_small_graph_survives_json(small):
    assert Graph.from_json(json.loads(json.dumps(small.to_json()))) == small


def _edited(graph, path, value):
    plain = copy.deepcopy(graph.to_json())
    *parents, last = path
    entry = plain
    for key in parents:
        entry = entry[key]
    if value is KeyError:
        del entry[last]
    else:
        entry[last] = value
    return plain


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["ops"], None),
        (["ops"], []),
        (["ops"], KeyError),
        (["ops", 0], "conv"),
        (["ops", 0, "op"], "attention"),
        (["ops", 0, "op"], KeyError),
        (["ops", 0, "name"], ""),
        (["ops", 0, "name"], 3),
        (["ops", 0, "name"], KeyError),
        (["ops", 0, "source"], "later"),
        (["ops", 0, "channels"], 0),
        (["ops", 0, "channels"], True),
        (["ops", 0, "channels"], 1 << 40),
        (["ops", 0, "kernel"], 2.0),
        (["ops", 0, "kernel"], 99),
        (["ops", 0, "stride"], -1),
        (["ops", 0, "padding"], -1),
        (["ops", 0, "padding"], 0.0),
        (["ops", 0, "padding"], False),
        (["ops", 0, "bias"], 1),
        (["ops", 0, "groups"], 2),
        (["ops", 3, "how"], "median"),
        (["ops", 3, "size"], 99),
        (["ops", 6, "sources"], ["conv2"]),
        (["ops", 6, "sources"], 5),
        (["ops", 7, "sources"], []),
        (["ops", 7, "sources"], ["sum", 1]),
        (["ops", 9, "axes"], []),
        (["ops", 9, "axes"], [0]),
        (["ops", 9, "axes"], [1, 1]),
        (["ops", 9, "axes"], [3]),
        (["ops", 9, "axes"], 1),
        (["ops", 13, "source"], "frequency"),
        (["input_shape"], [2, 13]),
        (["input_shape"], [2, 13, 0]),
        (["input_shape"], "abc"),
        (["input_shape"], KeyError),
    ],
)
def test_malformed_json_is_a_graph_error(small, path, value):
    with pytest.raises(GraphError) as caught:
        Graph.from_json(_edited(small, path, value))
    assert caught.value.hint


@pytest.mark.parametrize("value", [None, 3, "graph", [], {}])
def test_json_of_another_kind_is_a_graph_error(value):
    with pytest.raises(GraphError, match="not an op graph"):
        Graph.from_json(value)


@pytest.mark.parametrize(
    ("ops", "text"),
    [
        ((), "without operations"),
        ((Relu("a", "x"), Relu("a", "a")), "used twice"),
        ((Relu("x", "x"),), "used twice"),
        ((Relu("a", "b"), Relu("b", "a")), "not computed before"),
        ((Conv("a", "x", 3, kernel=9),), "kernel larger"),
        ((Pool("a", "x", 9, "max"),), "windows larger"),
        ((Concat("a", ()),), "reads nothing"),
        ((Pool("p", "x", 2, "max"), Concat("a", ("x", "p"))), "cannot join"),
        ((Pool("p", "x", 2, "max"), Add("a", ("x", "p"))), "cannot add"),
        ((Reduce("a", "x", (1, 1), "mean"),), "cannot reduce"),
        ((Linear("a", "x", 3),), "needs a vector"),
    ],
)
def test_a_graph_that_cannot_be_is_refused(ops, text):
    with pytest.raises(GraphError, match=text):
        Graph((1, 6, 7), ops)


def test_weights_are_checked(small, weigh):
    weights = weigh(small)
    small.check(weights)
    bad = {
        "is missing": {name: value for name, value in weights.items() if name != "norm1.running_var"},
        "not float32": weights | {"last.bias": weights["last.bias"].astype(np.float64)},
        r"\(3, 4\)": weights | {"last.weight": weights["last.weight"][:, :4]},
        "not finite": weights | {"last.bias": np.array([0, np.nan, 0], dtype=np.float32)},
    }
    for text, broken in bad.items():
        with pytest.raises(GraphError, match=text):
            small.check(broken)


@pytest.mark.parametrize("name", students.STUDENTS)
def test_folding_keeps_what_torch_computes(name, weigh, draw_items, oracle):
    graph = students.build(name, 5, width=0.25, input_shape=(1, 32, 32))
    weights, items = weigh(graph), draw_items(graph)
    folded, folded_weights = fold_batchnorm(graph, weights)
    assert not folded.statistics
    folded.check(folded_weights)
    expected, found = oracle(graph, weights, items), oracle(folded, folded_weights, items)
    # Torch computes both in float64: what is left is the rounding of the folded weights to float32.
    np.testing.assert_allclose(found, expected, atol=2e-6 * max(1.0, np.abs(expected).max()), rtol=0)


def test_folding_takes_the_bias_along(weigh, draw_items, oracle):
    graph = Graph((1, 6, 6), (Conv("c", "x", 3, 3), BatchNorm("n", "c"), Reduce("out", "n", (1, 2), "max")))
    weights, items = weigh(graph), draw_items(graph)
    folded, folded_weights = fold_batchnorm(graph, weights)
    assert folded.ops == (Conv("c", "x", 3, 3), Reduce("out", "c", (1, 2), "max"))
    np.testing.assert_allclose(oracle(folded, folded_weights, items), oracle(graph, weights, items), atol=1e-6)


@pytest.mark.parametrize(
    "ops",
    [
        (BatchNorm("n", "x"),),
        (Relu("r", "x"), BatchNorm("n", "r")),
        (Conv("c", "x", 2, 3), BatchNorm("n", "c"), BatchNorm("m", "n")),
        (Conv("c", "x", 2, 3), BatchNorm("n", "c"), Add("a", ("c", "n"))),
        (Conv("c", "x", 2, 3), BatchNorm("n", "c"), BatchNorm("m", "c"), Add("a", ("m", "n"))),
    ],
)
def test_a_normalisation_without_its_own_convolution_cannot_be_folded(ops, weigh):
    graph = Graph((1, 6, 6), ops)
    with pytest.raises(GraphError, match="convolution of its own"):
        fold_batchnorm(graph, weigh(graph))


def test_a_recogniser_is_a_student_with_both_ends(small, weigh):
    whole = recogniser(small, mean=-31.7, std=19.3, temperature=0.6)
    assert whole.shapes["normalised"] == small.input_shape
    assert (whole.output, whole.shapes["probabilities"]) == ("probabilities", (3,))
    assert whole.parameters == small.parameters
    assert whole.statistics == small.statistics
    whole.check(weigh(small))
    assert Graph.from_json(whole.to_json(), FILE_OPS) == whole
    with pytest.raises(GraphError, match="not an op graph"):
        Graph.from_json(whole.to_json())  # what comes from outside is a student, which can be trained


@pytest.mark.parametrize(
    "wrong",
    [{"std": 0.0}, {"std": -1.0}, {"std": float("nan")}, {"mean": float("inf")}, {"temperature": 0.0},
     {"temperature": float("nan")}, {"temperature": float("inf")}],
    ids=str,
)  # fmt: skip
def test_a_recogniser_of_impossible_numbers_is_refused(small, wrong):
    with pytest.raises(GraphError):
        recogniser(small, **{"mean": -30.0, "std": 20.0, "temperature": 1.0, **wrong})


def test_a_student_that_has_the_name_of_an_end_is_refused():
    graph = Graph((1, 6, 6), (Relu("normalised", "x"), Reduce("r", "normalised", (1, 2), "max"), Linear("l", "r", 2)))
    with pytest.raises(GraphError, match="used twice"):
        recogniser(graph, mean=0, std=1, temperature=1)
