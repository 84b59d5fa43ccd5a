"""Old names: what they mean now, what is said about them, and what is gone."""

from __future__ import annotations

from typing import Any

import pytest

from edgeser.config.renamed import CALLED_OTHERWISE, FLAGS, modern, spelled
from edgeser.config.settings import SETTINGS
from edgeser.errors import SettingsError


def read(values: dict[str, Any], method: str) -> tuple[dict[str, Any], list[str]]:
    """What is made of the values of a run of this method."""
    found, notes = modern({"method": method, **values})
    return {key: value for key, value in found.items() if key != "method"}, notes


@pytest.mark.parametrize(
    ("name", "value", "method", "key"),
    [
        ("formations", 2, "mtt", "samples_per_item"),
        ("expert_span", 6, "mtt", "mtt.expert_span"),
        ("flatness", 0.1, "mtt", "mtt.sam"),
        ("latent", 8, "gan", "gan.codebook"),
        ("experts", 2, "gan", "experts.count"),
        ("iterations", 5, "gan", "gan.iterations"),
        ("iterations", 5, "invert", "invert.iterations"),
        ("item_rate", 0.5, "unroll", "unroll.item_rate"),
        ("memory", "lean", "unroll", "unroll.memory"),
        ("memory", "lean", "mtt", "mtt.memory"),
    ],
)
def test_an_old_name_is_read_and_the_new_one_is_told(name: str, value: Any, method: str, key: str) -> None:
    found, notes = read({name: value}, method)
    assert found == {key: value}
    assert notes == [f"{name} {value} is now: --set {key}={value}"]


def test_an_old_word_is_read_and_the_new_one_is_told() -> None:
    assert read({"start": "duet"}, "invert") == ({"start": "aligned"}, ["--from duet is now: --from aligned"])
    assert read({"start_from": "duet"}, "invert")[0] == {"start": "aligned"}


def test_new_names_and_names_that_never_were_are_left_as_they_are() -> None:
    values = {"ipc": 2, "mtt.expert_span": 3, "batch": 8, "itterations": 5}
    assert read(values, "mtt") == (values, [])


@pytest.mark.parametrize(
    ("name", "value"),
    [("candidates", 3), ("candidates", "3"), ("polish", 5), ("start_from", "crowd"), ("start", "crowd")],
)
def test_what_is_gone_is_refused_in_one_line(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match="was removed: no measurement showed that it helps") as caught:
        read({name: value}, "gan")
    assert "\n" not in caught.value.message


def test_what_is_gone_and_did_nothing_is_left_out() -> None:
    assert read({"candidates": 1, "polish": 0}, "gan") == ({}, [])


def test_what_older_runs_hold_of_other_methods_is_left_out() -> None:
    held = {"iterations": 0, "item_rate": 0.0, "gate": 1.0, "memory": "fast", "latent": 0, "ship": "items", "dp": 0.0}
    assert read(held, "random") == ({}, [])
    assert read({"gate": 2.0}, "random")[0] == {"mtt.loss_threshold": 2.0}  # and is refused as another method's


def test_every_old_name_leads_to_a_setting() -> None:
    assert set(CALLED_OTHERWISE.values()) <= set(SETTINGS)
    assert not set(CALLED_OTHERWISE) & set(SETTINGS)
    shown = {each.flag for each in SETTINGS.values()}
    assert not shown & set(FLAGS)
    assert {"--expert-span", "--formations", "--iterations", "--dp", "--batch", "--candidates"} <= set(FLAGS)
    assert not {"--start-from", "--folder"} & set(FLAGS)


def test_a_setting_is_spelled_as_it_is_typed() -> None:
    assert spelled("ipc", 6) == "--ipc 6"
    assert spelled("start", "noise") == "--from noise"
    assert spelled("mtt.sam", 0.1) == "--set mtt.sam=0.1"
