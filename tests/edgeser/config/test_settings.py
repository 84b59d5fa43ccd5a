"""Every setting: what is allowed, what is refused, and that all of it stands at one place."""

from __future__ import annotations

import math
import re
from dataclasses import fields, replace
from typing import Any

import pytest

from edgeser.config.field import Setting
from edgeser.config.settings import METHODS, SETTINGS, Mtt, Settings
from edgeser.config.values import changed, owner
from edgeser.errors import SettingsError
from edgeser.models.students import STUDENTS

GOOD = Settings(corpus="demo", ipc=6)
NUMBERS = [each for each in SETTINGS.values() if each.kind != "str" and not each.choices and each.key != "share"]
CHOSEN = [each for each in SETTINGS.values() if each.choices]


def by_key(each: Setting) -> str:
    return each.key


def whole(each: Setting, value: float) -> Any:
    return int(value) if each.kind == "int" else value


@pytest.mark.parametrize("each", NUMBERS, ids=by_key)
def test_every_bound_holds_on_both_sides(each: Setting) -> None:
    start = replace(GOOD, ipc=0, share=0.5) if each.key == "ipc" else GOOD
    for inside in (each.low, each.high):
        if each.key == "ipc" and inside:
            start = GOOD
        changed(start, {each.key: whole(each, inside)})
    for outside in (each.low - 1, each.high + 1):
        with pytest.raises(SettingsError, match=f"^{re.escape(each.name)} is") as caught:
            changed(start, {each.key: whole(each, outside)})
        assert f"from {each.allowed}" in caught.value.hint


@pytest.mark.parametrize("each", CHOSEN, ids=by_key)
def test_what_has_few_values_has_no_other(each: Setting) -> None:
    for value in (*each.choices, each.default):
        changed(GOOD, {each.key: value})
    other = "xyz" if each.kind == "str" else whole(each, 77)
    with pytest.raises(SettingsError, match=f"^{re.escape(each.name)} is") as caught:
        changed(GOOD, {each.key: other})
    assert "choose one of: " in caught.value.hint


@pytest.mark.parametrize("share", [-0.1, 1.01, math.nan, math.inf])
def test_a_share_is_between_nothing_and_everything(share: float) -> None:
    with pytest.raises(SettingsError, match="--share is"):
        Settings(corpus="demo", share=share)


@pytest.mark.parametrize("each", [each for each in NUMBERS if each.kind == "float"], ids=by_key)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_number_is_without_end(each: Setting, value: float) -> None:
    with pytest.raises(SettingsError, match=f"^{re.escape(each.name)} is"):
        changed(GOOD, {each.key: value})
    assert str(each.parse(str(value))) == str(value)  # and is refused as above


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("steps", 1.5, "a whole number from 0 to 1000000"),
        ("steps", "600", "a whole number from 0 to 1000000"),
        ("steps", True, "a whole number from 0 to 1000000"),
        ("arch", 6, "a word"),
        ("width", "wide", "a number from 0.01 to 8"),
        ("peak_rate", False, "a number from 1e-06 to 10"),
        ("mtt.expert_span", 2.0, "a whole number from 1 to 1000"),
        ("samples_per_item", "two", "a whole number"),
    ],
)
def test_a_value_of_another_type_is_named(key: str, value: object, wanted: str) -> None:
    with pytest.raises(SettingsError, match=f"^{re.escape(SETTINGS[key].name)} is {re.escape(repr(value))}$") as caught:
        changed(GOOD, {key: value})
    assert caught.value.hint == f"give {wanted}"


@pytest.mark.parametrize("text", ["", "six", "1.5", "6 7", "0x6", "1e3"])
def test_a_text_that_is_no_whole_number(text: str) -> None:
    parsed = SETTINGS["ipc"].parse(text)
    with pytest.raises(SettingsError, match=f"^--ipc is {re.escape(repr(text))}$") as caught:
        SETTINGS["ipc"].check(parsed)
    assert caught.value.hint == "give a whole number from 0 to 10000"


def test_a_whole_number_will_do_where_a_fraction_is_asked_for() -> None:
    assert Settings(corpus="demo", ipc=6, width=1).width == 1
    assert SETTINGS["width"].parse("2") == 2.0


def test_the_values_of_a_group_are_checked_with_the_others() -> None:
    with pytest.raises(SettingsError, match=r"^mtt\.expert_span is 0$"):
        replace(GOOD, mtt=Mtt(expert_span=0))


def test_near_misses_of_words_are_suggested() -> None:
    with pytest.raises(SettingsError, match="--method is 'hearding'") as caught:
        replace(GOOD, method="hearding")
    assert caught.value.hint == "did you mean 'herding'?"


@pytest.mark.parametrize("budget", [{}, {"ipc": 0}, {"ipc": 0, "share": 0.0}])
def test_no_budget_is_an_error(budget: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="no budget") as caught:
        Settings(corpus="demo", **budget)
    assert "--ipc 6" in caught.value.hint


def test_two_budgets_are_an_error() -> None:
    with pytest.raises(SettingsError, match="--ipc and --share are both given"):
        Settings(corpus="demo", ipc=2, share=0.1)


def test_each_setting_has_its_default_its_bounds_and_its_meaning_at_one_place() -> None:
    for each in SETTINGS.values():
        each.check(each.default)
        if each.kind != "str" and not each.choices:
            assert math.isfinite(each.low)
            assert math.isfinite(each.high)
        assert each.help[0].isupper()
        assert each.help.endswith(".")
        assert "\n" not in each.help
        assert len(each.help) < 120
        assert "[" not in each.help  # rich would read it as markup
        assert bool(each.decides) == (each.default in (0, "")) or not each.decides


def test_the_groups_are_those_of_the_methods_of_the_experts_and_of_releases() -> None:
    groups = {field.name for field in fields(Settings) if not field.metadata}
    assert groups == {key.partition(".")[0] for key in SETTINGS if "." in key}
    assert groups - set(METHODS) == {"experts", "release"}
    assert {owner(key) for key in SETTINGS} == {"", *(groups - {"experts", "release"})}


def test_the_help_names_every_architecture() -> None:
    assert all(name in SETTINGS["arch"].help for name in STUDENTS)


def test_methods_that_choose_clips_make_no_iterations() -> None:
    assert (replace(GOOD, method="random").iterations, replace(GOOD, method="mtt").iterations) == (0, 100)
