"""The float64 interpreter against torch in float64."""

from __future__ import annotations

import numpy as np
import pytest

from edgeser.models import students
from edgeser_export.graph.reference import run_reference, softmax
from edgeser_export.utilities.errors import GraphError


@pytest.mark.parametrize("name", students.STUDENTS)
def test_the_reference_is_torch_in_float64(name, weigh, draw_items, oracle):
    graph = students.build(name, 5, width=0.25, input_shape=(1, 33, 47))
    weights, items = weigh(graph), draw_items(graph)
    expected = oracle(graph, weights, items)
    # Two float64 sums of at most 1152 products in another order.
    np.testing.assert_allclose(run_reference(graph, weights, items), expected, rtol=1e-10, atol=1e-10)


def test_the_small_graph(small, weigh, draw_items, oracle):
    weights, items = weigh(small), draw_items(small)
    np.testing.assert_allclose(run_reference(small, weights, items), oracle(small, weights, items), atol=1e-12)


def test_normalisation_temperature_and_softmax(whole, weigh, draw_items, oracle):
    weights, items = weigh(whole), draw_items(whole)
    found = run_reference(whole, weights, items)
    np.testing.assert_allclose(found, oracle(whole, weights, items.astype(np.float64)), atol=1e-12)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)


def test_no_items_give_no_logits(small, weigh, draw_items):
    assert run_reference(small, weigh(small), draw_items(small, 0)).shape == (0, 3)


def test_items_of_another_shape_are_refused(small, weigh, draw_items):
    with pytest.raises(GraphError, match=r"\(2, 13, 17\)"):
        run_reference(small, weigh(small), draw_items(small)[..., :-1])


def test_softmax_does_not_overflow():
    found = softmax(np.array([[1000.0, 1000.0], [-1000.0, 0.0]], dtype=np.float32))
    np.testing.assert_allclose(found, [[0.5, 0.5], [0.0, 1.0]], atol=1e-12)
    assert found.dtype == np.float64
