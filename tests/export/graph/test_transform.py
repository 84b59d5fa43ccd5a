"""A student cut in two computes what the whole one computes."""

from __future__ import annotations

import numpy as np
import pytest

from edgeser.models.students import STUDENTS, build
from edgeser_export.graph.initial import initial_weights
from edgeser_export.graph.op_graph import INPUT, Conv, Graph, Linear, Reduce
from edgeser_export.graph.reference import run_reference
from edgeser_export.graph.transform import CUTS, cut_for, split, weights_of
from edgeser_export.trainstep.step_writer import Request, write, write_in_child
from edgeser_export.utilities.errors import GraphError


@pytest.mark.parametrize("part", CUTS)
@pytest.mark.parametrize("name", STUDENTS)
def test_the_parts_in_turn_compute_the_whole(name: str, part: str) -> None:
    graph = build(name, 4, 0.125, (1, 32, 32))
    weights = initial_weights(graph, 0)
    items = np.random.default_rng(0).standard_normal((2, *graph.input_shape)).astype(np.float32)
    expected = run_reference(graph, weights, items)
    lower, upper = split(graph, cut_for(graph, part))
    between = items if lower is None else run_reference(lower, weights_of(lower, weights), items).astype(np.float32)
    assert np.allclose(run_reference(upper, weights_of(upper, weights), between), expected, atol=1e-5)
    assert (lower is None) == (part == "full")


def test_where_the_students_are_cut() -> None:
    places = {name: [cut_for(build(name, 4, 0.125), part) for part in CUTS] for name in STUDENTS}
    assert places["edgenet"] == [INPUT, "pool2", "features"]
    assert places["cnn6"] == [INPUT, "pool3", "features"]
    assert places["resnet9"] == [INPUT, "relu5" if "relu5" in places["resnet9"] else "pool5", "features"]


def test_a_part_that_does_not_exist() -> None:
    with pytest.raises(GraphError, match="no part 'tial'"):
        cut_for(build("edgenet", 4, 0.25), "tial")


def test_a_tensor_that_two_readers_share_is_a_cut_and_one_beside_another_path_is_not() -> None:
    graph = Graph(
        (1, 8, 8),
        (
            Conv("one", INPUT, 2, 3, padding=1),
            Conv("two", "one", 2, 3, padding=1),
            Reduce("pooled", "two", (1, 2), "mean"),
            Linear("logits", "pooled", 3),
        ),
    )
    assert cut_for(graph, "tail") == "one"
    assert cut_for(graph, "head") == "pooled"


def test_files_come_from_a_child_as_from_this_process() -> None:
    graph = build("edgenet", 3, 0.25, (1, 16, 16))
    settings = {"batch": 2, "trained": "frozen"}
    requests = {"step": Request("training", graph, settings), "forward": Request("forward", graph, {"batch": 2})}
    plain = {
        name: {"writer": request.writer, "graph": graph.to_json(), "settings": request.settings}
        for name, request in requests.items()
    }
    assert write_in_child(requests) == write(plain)


def test_the_childs_error_is_the_parents() -> None:
    graph = build("edgenet", 3, 0.25, (1, 16, 16))
    with pytest.raises(GraphError, match="no optimiser 'adam'"):
        write_in_child({"step": Request("training", graph, {"batch": 2, "optimiser": "adam"})})
