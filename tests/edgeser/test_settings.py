"""Settings: where they come from, which are refused, and what is said about it."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeser.errors import SettingsError
from edgeser.settings import BOUNDS, CHOICES, Settings, differences, read_toml, resolve, with_budget, with_views

GOOD = Settings(corpus="demo", ipc=6)


@pytest.fixture
def write_config(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "config.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_flags_come_before_the_file_and_the_file_before_defaults(write_config) -> None:
    config = write_config('corpus = "emodb"\nipc = 3\nsteps = 50\n')
    found = resolve(config, {"ipc": 4, "corpus": None, "steps": None, "seed": 9})
    assert (found.corpus, found.steps, found.ipc, found.seed) == ("emodb", 50, 4, 9)
    assert found.arch == Settings(corpus="demo", ipc=1).arch


@pytest.mark.parametrize(("flags", "expected"), [({"ipc": 2}, (2, 0.0)), ({"share": 0.1}, (0, 0.1)), ({}, (0, 0.5))])
def test_a_budget_flag_replaces_either_kind_of_budget_in_the_file(write_config, flags, expected) -> None:
    found = resolve(write_config('corpus = "demo"\nshare = 0.5\n'), flags)
    assert (found.ipc, found.share) == expected


@pytest.mark.parametrize("budget", [{}, {"ipc": 0}, {"ipc": 0, "share": 0.0}])
def test_no_budget_is_an_error(budget: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="no budget") as caught:
        resolve(None, {"corpus": "demo", **budget})
    assert "--ipc 6" in caught.value.hint


def test_two_budgets_are_an_error() -> None:
    with pytest.raises(SettingsError, match="--ipc and --share are both given"):
        resolve(None, {"corpus": "demo", "ipc": 2, "share": 0.1})


def test_a_corpus_must_be_named() -> None:
    with pytest.raises(SettingsError, match="no corpus") as caught:
        resolve(None, {"ipc": 6})
    assert "edgeser data list" in caught.value.hint


@pytest.mark.parametrize("name", [name for name in BOUNDS if name not in ("ipc", "share")])
def test_every_bound_holds_on_both_sides(name: str) -> None:
    low, high = BOUNDS[name]
    whole = isinstance(getattr(GOOD, name), int)
    for inside in (low, high):
        assert getattr(replace(GOOD, **{name: int(inside) if whole else inside}), name) == inside
    for outside in (low - 1, high + 1):
        with pytest.raises(SettingsError, match=f"--{name.replace('_', '-')} is") as caught:
            replace(GOOD, **{name: int(outside) if whole else outside})
        assert f"from {low:g} to {high:g}" in caught.value.hint


OTHER = {"trajectory_momentum": 0.45, "formations": 5}


@pytest.mark.parametrize(("name", "values"), list(CHOICES.items()))
def test_a_number_of_few_values_has_no_other(name: str, values: tuple[float, ...]) -> None:
    assert getattr(GOOD, name) in values
    for value in values:
        assert getattr(replace(GOOD, **{name: value}), name) == value
    with pytest.raises(SettingsError, match=f"--{name.replace('_', '-')} is") as caught:
        replace(GOOD, **{name: OTHER[name]})
    assert f"give one of: {values[0]:g}" in caught.value.hint


@pytest.mark.parametrize(("name", "value"), [("ipc", -1), ("ipc", 10_001)])
def test_a_budget_of_items_has_bounds(name: str, value: int) -> None:
    with pytest.raises(SettingsError, match="--ipc is"):
        Settings(corpus="demo", ipc=value)


@pytest.mark.parametrize("share", [-0.1, 1.01, float("nan"), float("inf")])
def test_a_share_is_between_nothing_and_everything(share: float) -> None:
    with pytest.raises(SettingsError, match="--share is"):
        Settings(corpus="demo", share=share)


def test_every_number_has_bounds() -> None:
    numbers = {field.name for field in fields(Settings) if field.type in ("int", "float")}
    assert numbers == set(BOUNDS)


@pytest.mark.parametrize(
    ("name", "value"),
    [("steps", 1.5), ("steps", "600"), ("steps", True), ("arch", 6), ("width", "wide"), ("peak_rate", False)],
)
def test_a_value_of_another_type_is_named(name: str, value: object) -> None:
    with pytest.raises(SettingsError, match=f"{name} is {value!r}, not of type"):
        Settings(**{"corpus": "demo", "ipc": 6, name: value})


def test_a_whole_number_will_do_where_a_fraction_is_asked_for() -> None:
    assert Settings(corpus="demo", ipc=6, width=1).width == 1


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ("itterations = 5\n", "'itterations' that does not exist", "did you mean 'iterations'?"),
        ("qqqq = 5\n", "'qqqq' that does not exist", "choose one of: corpus"),
        ("[mtt]\niterations = 5\n", "'mtt' that does not exist", ""),
        ("ipc = \n", "is not TOML", "ipc = 6"),
    ],
)
def test_a_file_with_a_mistake_is_explained(write_config, text: str, what: str, hint: str) -> None:
    with pytest.raises(SettingsError, match=what) as caught:
        read_toml(write_config(text))
    assert hint in caught.value.hint


def test_a_missing_or_binary_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent\.toml cannot be read"):
        read_toml(tmp_path / "absent.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="is not TOML"):
        read_toml(tmp_path / "binary.toml")
    with pytest.raises(SettingsError, match="cannot be read"):
        read_toml(tmp_path)


@given(
    folder=st.text(st.characters(blacklist_categories=["Cs"]), max_size=20),
    rate=st.floats(1e-6, 10),
    share=st.floats(1e-4, 1),
    views=st.integers(1, 4096),
)
def test_settings_survive_their_file(
    tmp_path_factory: pytest.TempPathFactory, folder: str, rate: float, share: float, views: int
) -> None:
    settings = Settings(corpus="demo", share=share, folder=folder, item_rate=rate, views=views)
    assert Settings(**tomllib.loads(settings.to_toml())) == settings


def test_differences_are_told_with_both_values() -> None:
    assert differences(GOOD, GOOD) == []
    assert differences(GOOD, replace(GOOD, seed=3, arch="cnn6")) == [
        "arch: 'edgenet' in the run, 'cnn6' now",
        "seed: 0 in the run, 3 now",
    ]


@pytest.mark.parametrize(
    ("share", "items", "ipc"),
    [(0.056, 1000, 7), (0.0001, 1000, 1), (1.0, 1000, 125), (0.044, 1000, 6), (0.043, 1000, 5)],
)
def test_a_share_is_rounded_to_the_nearest_and_never_to_nothing(share: float, items: int, ipc: int) -> None:
    found = with_budget(Settings(corpus="demo", share=share), items, 8)
    assert (found.ipc, found.share) == (ipc, 0.0)


@pytest.mark.parametrize(("ipc", "views"), [(1, 256), (2, 128), (3, 85), (6, 64), (37, 64), (100, 24), (5000, 1)])
def test_few_items_have_more_views_each(ipc: int, views: int) -> None:
    assert with_views(replace(GOOD, ipc=ipc, formations=1), 8).views == views
    assert with_views(replace(GOOD, ipc=ipc, formations=8), 8).views == max(views, 2048 // (8 * ipc))
    assert with_views(replace(GOOD, ipc=ipc, formations=8, views=7), 8).views == 7


@pytest.mark.parametrize(("clips", "experts"), [(128, (1.0, 600)), (399, (1.0, 600)), (400, (2.0, 1500))])
def test_experts_fit_the_corpus(clips: int, experts: tuple[float, int]) -> None:
    found = with_budget(GOOD, clips, 8)
    assert (found.label_width, found.expert_steps) == experts


def test_what_is_given_is_left_alone() -> None:
    given = replace(GOOD, views=5, label_width=0.5, expert_steps=7)
    assert with_budget(given, 1000, 8) == given
    assert asdict(with_budget(Settings(corpus="demo", share=0.1, seed=4), 80, 8))["seed"] == 4


def test_settings_that_did_nothing_and_are_gone_are_read_over(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('corpus = "demo"\nipc = 2\ncandidates = 1\npolish = 0\n')
    assert resolve(path, {}) == Settings(corpus="demo", ipc=2)
    path.write_text('corpus = "demo"\nipc = 2\ncandidates = 4\n')
    with pytest.raises(SettingsError, match="'candidates' that does not exist"):
        resolve(path, {})
