"""The students: their published sizes, and initial weights that are the same everywhere."""

from __future__ import annotations

import hashlib
from math import prod, sqrt

import numpy as np
import pytest

from edgeser.errors import SettingsError
from edgeser.models.students import STUDENTS, build
from edgeser_export.graph.initial import initial_weights
from edgeser_export.graph.op_graph import Conv, Graph, Linear

FOUR_EMOTIONS = {
    ("edgenet", 1.0): (24_180, 4_153_856),
    ("edgenet", 0.25): (1_728, 374_912),
    ("cnn6", 1.0): (4_569_028, 953_812_992),
    ("cnn6", 0.25): (286_708, 61_456_896),
    ("resnet9", 1.0): (6_568_900, 2_268_465_152),
    ("vgg15", 1.0): (14_982_468, 1_872_365_568),
}
"""Parameters and multiply-accumulates for four emotions and one window of 64 x 96."""


@pytest.mark.parametrize(("name", "width"), FOUR_EMOTIONS)
def test_sizes_are_the_ones_in_the_documents(name: str, width: float) -> None:
    graph = build(name, 4, width)
    assert (graph.parameter_count, graph.multiply_accumulates) == FOUR_EMOTIONS[name, width]


def test_cnn6_has_the_size_that_panns_publishes() -> None:
    """Kong et al. 2020: 4,837,455 parameters with 527 classes and a batch normalisation over the 64 mel bands."""
    mel_normalisation = 2 * 64
    assert build("cnn6", 527).parameter_count + mel_normalisation == 4_837_455


@pytest.mark.parametrize("name", STUDENTS)
def test_every_student_ends_in_one_logit_a_class(name: str) -> None:
    for classes in (2, 7):
        graph = build(name, classes, 0.1)
        assert graph.shapes[graph.output] == (classes,)


@pytest.mark.parametrize("name", STUDENTS)
def test_width_scales_every_hidden_layer_and_never_to_nothing(name: str) -> None:
    whole, half, least = (build(name, 4, width) for width in (1.0, 0.5, 0.001))
    for one, other, last in zip(whole.ops, half.ops, least.ops, strict=True):
        if isinstance(one, Conv):
            assert (other.channels, last.channels) == (one.channels / 2, 1)
    assert half.parameter_count < whole.parameter_count / 3


@pytest.mark.parametrize("name", STUDENTS)
def test_a_graph_survives_json(name: str) -> None:
    graph = build(name, 4, 0.25)
    assert Graph.from_json(graph.to_json()) == graph


@pytest.mark.parametrize(("name", "hint"), [("edgnet", "did you mean 'edgenet'?"), ("CNN6x", "did you mean 'cnn6'")])
def test_an_unknown_architecture_is_met_with_a_suggestion(name: str, hint: str) -> None:
    with pytest.raises(SettingsError, match="there is no architecture") as caught:
        build(name, 4)
    assert hint in caught.value.hint


@pytest.mark.parametrize("width", [0, -1, 8.5, float("nan"), float("inf")])
def test_a_width_without_meaning_is_refused(width: float) -> None:
    with pytest.raises(SettingsError, match="width"):
        build("edgenet", 4, width)


def digest(weights: dict[str, np.ndarray]) -> str:
    running = hashlib.sha256()
    for name in sorted(weights):
        running.update(name.encode() + weights[name].tobytes())
    return running.hexdigest()


def test_the_initialisation_of_a_seed_never_changes() -> None:
    """Kits name this initialisation by its seed; another numpy, torch or machine must draw the same numbers."""
    weights = initial_weights(build("edgenet", 4), 0)
    assert digest(weights) == "d93b638d0ff4ed054870baf11002079f5ed04a4f5ee1b92e8344b22a4036e054"


def test_seeds_differ_in_every_drawn_tensor() -> None:
    graph = build("cnn6", 4, 0.1)
    one, other = initial_weights(graph, 0), initial_weights(graph, 1)
    drawn = [op.name for op in graph.ops if isinstance(op, Conv | Linear)]
    assert all(not np.array_equal(one[f"{name}.weight"], other[f"{name}.weight"]) for name in drawn)


@pytest.mark.parametrize("name", STUDENTS)
def test_weights_fill_the_bounds_that_torch_uses(name: str) -> None:
    graph = build(name, 4, 0.25)
    weights = initial_weights(graph, 3)
    graph.check(weights)
    for op in graph.ops:
        if isinstance(op, Conv | Linear):
            bound = 1 / sqrt(prod(weights[f"{op.name}.weight"].shape[1:]))
            values = np.concatenate([weights[key].ravel() for key in weights if key.startswith(f"{op.name}.")])
            assert np.abs(values).max() <= bound
            if values.size > 200:  # the chance that none lies in the outer tenth is below 1e-9
                assert np.abs(values).max() > 0.9 * bound
                assert abs(values.mean()) < 5 * bound / sqrt(3 * values.size)


def test_normalisations_begin_as_the_identity() -> None:
    graph = build("edgenet", 4)
    for name, array in initial_weights(graph, 0).items():
        if name.startswith("norm"):
            assert (array == (1 if name.endswith(("weight", "running_var")) else 0)).all()
