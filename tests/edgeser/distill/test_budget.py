"""What the budget, the corpus and the method decide, and what stays as it was given."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edgeser.config.settings import METHODS as NAMES
from edgeser.config.settings import Settings
from edgeser.config.values import changed, settings_of
from edgeser.distill.budget import in_words, resolve, with_start
from edgeser.distill.registry import METHODS, find_method

GOOD = Settings(corpus="demo", ipc=6)


def test_every_method_that_can_be_chosen_has_its_functions() -> None:
    assert set(METHODS) == set(NAMES)
    assert all(find_method(name) is METHODS[name] for name in NAMES)
    assert {name for name in NAMES if hasattr(GOOD, name)} == {name for name in NAMES if METHODS[name].improve}


@pytest.mark.parametrize(
    ("values", "rarest", "samples"),
    [
        ({}, 90, 8),
        ({"ipc": 3}, 90, 8),
        ({"ipc": 4}, 90, 2),
        ({"samples_per_item": 4}, 90, 4),
        ({"ipc": 40}, 41, 2),  # mixtures can be more than clips
        ({"ipc": 40, "start": "real", "method": "invert"}, 79, 1),
        ({"method": "random"}, 16, 8),
        ({"method": "random"}, 15, 4),
        ({"ipc": 60, "method": "herding"}, 119, 1),
        ({"method": "gan"}, 90, 2),
        ({"method": "gan", "gan.ship": "generator"}, 90, 1),
    ],
)
def test_items_hold_as_many_log_mels_as_there_can_be(values: dict[str, Any], rarest: int, samples: int) -> None:
    assert resolve(settings_of({"ipc": 2, **values}), 1000, 10, rarest).samples_per_item == samples


def test_values_that_are_given_stay_whatever_the_method() -> None:
    found = resolve(settings_of({"ipc": 1, "invert.iterations": 7, "invert.item_rate": 0.5}), 1000, 10, 90)
    assert (found.method, found.iterations, found.invert.item_rate) == ("invert", 7, 0.5)
    named = resolve(settings_of({"method": "unroll", "ipc": 1, "unroll.iterations": 7}), 1000, 10, 90)
    assert (named.method, named.iterations, named.steps) == ("unroll", 7, 100)
    given = {"views": 5, "experts.width": 0.5, "experts.steps": 7, "steps": 9, "start": "noise", "samples_per_item": 2}
    kept = changed(GOOD, {**given, "invert.iterations": 3})
    assert resolve(kept, 1000, 8, 90) == kept


@pytest.mark.parametrize("method", NAMES)
@pytest.mark.parametrize("budget", [{"ipc": 1}, {"share": 0.3}])
def test_what_is_decided_once_is_not_decided_again(method: str, budget: dict[str, Any]) -> None:
    once = resolve(settings_of({"method": method, **budget}), 500, 8, 60)
    assert resolve(once, 128, 7, 3) == once
    assert once.ipc
    assert once.share == 0


@pytest.mark.parametrize(
    ("values", "start"),
    [
        ({}, "mix"),
        ({"ipc": 3}, "mix"),
        ({"ipc": 4}, "aligned"),
        ({"ipc": 10, "start": "mix"}, "mix"),
        ({"start": "aligned"}, "aligned"),
        ({"ipc": 10, "method": "mtt"}, "aligned"),
        ({"ipc": 10, "method": "random"}, ""),
        ({"ipc": 10, "method": "gan"}, ""),
    ],
)
def test_many_items_begin_as_fewer_voices(values: dict[str, Any], start: str) -> None:
    assert resolve(settings_of({"ipc": 2, **values}), 1000, 10, 90).start == start


@pytest.mark.parametrize(
    ("values", "iterations"),
    [
        ({}, 40),
        ({"start": "aligned"}, 40),
        ({"start": "noise"}, 300),
        ({"start": "noise", "invert.iterations": 5}, 5),
        ({"start": "noise", "method": "match"}, 200),
        ({"method": "random"}, 0),
    ],
)
def test_noise_is_a_long_way_from_what_experts_know(values: dict[str, Any], iterations: int) -> None:
    assert resolve(settings_of({"ipc": 1, **values}), 1000, 10, 90).iterations == iterations


@pytest.mark.parametrize(
    ("before", "iterations", "after", "expected"),
    [
        ("mix", 40, "noise", 300),
        ("noise", 300, "mix", 40),
        ("mix", 7, "noise", 7),
        ("mix", 40, "aligned", 40),
        ("noise", 300, "noise", 300),
    ],
)
def test_another_start_has_its_own_iterations(before: str, iterations: int, after: str, expected: int) -> None:
    settings = settings_of({"ipc": 1, "start": before, "invert.iterations": iterations})
    found = with_start(settings, after)
    assert (found.start, found.iterations) == (after, expected)
    assert changed(found, {"start": before, "invert.iterations": iterations}) == settings


@pytest.mark.parametrize(
    ("share", "items", "ipc"),
    [(0.056, 1000, 7), (0.0001, 1000, 1), (1.0, 1000, 125), (0.044, 1000, 6), (0.043, 1000, 5)],
)
def test_a_share_is_rounded_to_the_nearest_and_never_to_nothing(share: float, items: int, ipc: int) -> None:
    assert resolve(Settings(corpus="demo", share=share), items, 8, 60).ipc == ipc


@pytest.mark.parametrize(("ipc", "views"), [(1, 256), (2, 128), (3, 85), (6, 64), (37, 64), (100, 24), (5000, 1)])
def test_few_items_have_more_views_each(ipc: int, views: int) -> None:
    def found(samples: int, **values: int) -> int:
        given = Settings(corpus="demo", ipc=ipc, samples_per_item=samples, **values)  # type: ignore[arg-type]
        return resolve(given, 1000, 8, 90).views

    assert found(1) == views
    assert found(8) == max(views, 2048 // (8 * ipc))
    assert found(8, views=7) == 7


@pytest.mark.parametrize(("clips", "experts"), [(128, (1.0, 600)), (399, (1.0, 600)), (400, (2.0, 1500))])
def test_experts_fit_the_corpus(clips: int, experts: tuple[float, int]) -> None:
    found = resolve(GOOD, clips, 8, 16).experts
    assert (found.width, found.steps) == experts


def test_what_was_decided_is_said_in_one_line() -> None:
    line = in_words(Settings(corpus="demo", share=0.1), resolve(Settings(corpus="demo", share=0.1), 1000, 10, 90))
    assert line == (
        "budget decides: ipc 10, start aligned, views 64, steps 600, samples_per_item 2, experts.width 2, "
        "experts.steps 1500, invert.iterations 40"
    )
    fixed = resolve(replace(GOOD, seed=3), 1000, 10, 90)
    assert in_words(fixed, fixed).endswith("nothing, all is given")
