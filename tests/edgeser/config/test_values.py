"""Settings from files and from the command line: which comes first, what is refused, what is written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeser.config.field import Setting
from edgeser.config.settings import METHODS, SETTINGS, Settings
from edgeser.config.values import (
    changed,
    differences,
    given_in,
    owner,
    read_run_settings,
    read_settings,
    settings_of,
    to_toml,
    value_of,
    values_of,
)
from edgeser.errors import SettingsError

GOOD = Settings(corpus="demo", ipc=6)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@pytest.fixture
def write_config(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "config.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_options_come_before_the_file_and_the_file_before_defaults(write_config) -> None:
    config = write_config('corpus = "emodb"\nmethod = "mtt"\nipc = 3\nsteps = 50\n[mtt]\nexpert_span = 3\nsam = 1\n')
    found, notes = read_settings(config, {"ipc": "4", "seed": "9", "mtt.expert_span": "2"})
    assert (found.corpus, found.steps, found.ipc, found.seed) == ("emodb", 50, 4, 9)
    assert (found.mtt.expert_span, found.mtt.sam, found.mtt.student_steps) == (2, 1.0, 10)
    assert found.arch == "edgenet"
    assert notes == []


@pytest.mark.parametrize(
    ("given", "expected"), [({"ipc": "2"}, (2, 0.0)), ({"share": "0.1"}, (0, 0.1)), ({}, (0, 0.5))]
)
def test_a_budget_that_is_given_replaces_either_kind_in_the_file(write_config, given, expected) -> None:
    found, _ = read_settings(write_config('corpus = "demo"\nshare = 0.5\n'), given)
    assert (found.ipc, found.share) == expected


def test_a_corpus_must_be_named() -> None:
    with pytest.raises(SettingsError, match="no corpus") as caught:
        read_settings(None, {"ipc": "6"})
    assert "edgeser data list" in caught.value.hint


@pytest.mark.parametrize("key", [key for key in SETTINGS if owner(key)])
def test_a_setting_of_another_method_is_refused_with_the_method_it_belongs_to(key: str) -> None:
    other = "mtt" if owner(key) != "mtt" else "invert"
    with pytest.raises(SettingsError, match=f"{re.escape(key)} is a setting of --method {owner(key)}") as caught:
        settings_of({"ipc": 6, "method": other, key: SETTINGS[key].default})
    assert f"--method {owner(key)}" in caught.value.hint
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("mtt.expert_spam", "did you mean mtt.expert_span?"),
        ("expert_spam", "did you mean mtt.expert_span?"),
        ("vews", "did you mean views?"),
        ("experts.step", "did you mean experts.steps?"),
        ("q", "edgeser methods NAME shows the settings"),
        ("qqqq.q", "edgeser methods NAME shows the settings"),
    ],
)
def test_a_setting_that_does_not_exist_gets_the_nearest_one(write_config, key: str, hint: str) -> None:
    for config, texts in ((None, {key: "1"}), (write_config(f'corpus = "demo"\n{key} = 1\n'), {})):
        with pytest.raises(SettingsError, match=f"there is no setting {re.escape(repr(key))}") as caught:
            read_settings(config, {"ipc": "6", "corpus": "demo", "method": "mtt", **texts})
        assert caught.value.hint == hint


def test_a_file_that_is_no_toml_is_explained(write_config, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is not TOML") as caught:
        read_settings(write_config("ipc = \n"), {})
    assert "ipc = 6" in caught.value.hint
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    for name, problem in (
        ("binary.toml", "is not TOML"),
        ("absent.toml", r"absent\.toml cannot be read"),
        (".", "read"),
    ):
        with pytest.raises(SettingsError, match=problem):
            read_settings(tmp_path / name, {})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('steps = "600"', "--steps is '600'"),
        ("steps = [1]", r"--steps is \[1\]"),
        ("arch = 3", "--arch is 3"),
        ("[mtt]\nexpert_span = true", "mtt.expert_span is True"),
        ("[mtt.expert_span]\nx = 1", "mtt.expert_span is"),
        ("[ipc]\nx = 1", "there is no setting 'ipc.x'"),
        ("mtt = 4", "there is no setting 'mtt'"),
    ],
)
def test_a_value_of_another_type_in_a_file_is_named(write_config, text: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        read_settings(write_config(f'corpus = "demo"\nmethod = "mtt"\nshare = 0.1\n{text}\n'), {})


def test_an_old_file_is_read_with_notes(write_config) -> None:
    config = write_config('corpus = "demo"\nmethod = "mtt"\nipc = 1\nexpert_span = 3\nformations = 2\niterations = 0\n')
    found, notes = read_settings(config, {"label_width": "0.5"})
    assert (found.mtt.expert_span, found.samples_per_item, found.experts.width) == (3, 2, 0.5)
    assert found.mtt.iterations == 100  # 0 was the method's own number
    assert notes == [
        "expert_span 3 is now: --set mtt.expert_span=3",
        "formations 2 is now: --set samples_per_item=2",
        "label_width 0.5 is now: --set experts.width=0.5",
    ]


def test_folders_are_relative_to_what_names_them(write_config, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir("/")
    config = write_config('corpus = "folder"\nfolder = "here"\nipc = 2\n')
    assert read_settings(config, {})[0].folder == str(tmp_path / "here")
    assert read_settings(config, {"folder": "there"})[0].folder == "/there"
    assert read_settings(None, {"corpus": "folder", "ipc": "1", "folder": "~/a"})[0].folder == str(
        Path("~/a").expanduser()
    )


def allowed(each: Setting) -> st.SearchStrategy[Any]:
    if each.choices:
        return st.sampled_from([*each.choices, each.default])
    if each.key == "privacy":
        return st.sampled_from(["none", "aggregate", "dp:8"])
    if each.kind == "str":
        return WORDS
    if each.kind == "int":
        return st.integers(int(each.low), int(each.high))
    return st.floats(each.low, each.high)


@st.composite
def any_settings(draw: st.DrawFn) -> Settings:
    method = draw(st.sampled_from(list(METHODS)))
    keys = [
        key for key in SETTINGS if owner(key) in ("", method) and key not in ("method", "ipc", "share", "leave_out")
    ]
    chosen = draw(st.lists(st.sampled_from(keys), unique=True))
    budget = draw(
        st.one_of(st.integers(1, 10_000).map(lambda n: {"ipc": n}), st.floats(1e-6, 1).map(lambda x: {"share": x}))
    )
    return settings_of({"method": method, **budget, **{key: draw(allowed(SETTINGS[key])) for key in chosen}})


@given(resolved=any_settings(), asked=any_settings())
def test_settings_survive_the_file_of_a_run(
    tmp_path_factory: pytest.TempPathFactory, resolved: Settings, asked: Settings
):
    path = tmp_path_factory.mktemp("run") / "config.toml"
    path.write_text(to_toml(resolved, asked), encoding="utf-8", newline="")
    assert read_run_settings(path) == (resolved, asked)


@given(any_settings())
def test_what_is_typed_again_is_the_same(settings: Settings) -> None:
    texts = {key: str(value) for key, value in given_in(settings).items()}
    again, notes = read_settings(None, {**texts, "folder": "", "corpus": "x"})
    assert again == changed(settings, {"folder": "", "corpus": "x"})
    assert notes == []


@given(any_settings())
def test_values_are_those_of_all_runs_and_of_the_method(settings: Settings) -> None:
    values = values_of(settings)
    assert settings_of(values) == settings
    assert {owner(key) for key in values} <= {"", settings.method}
    assert all(value_of(settings, key) == value for key, value in values.items())


def test_an_older_run_is_read(write_config) -> None:
    older = write_config(
        'corpus = "demo"\nfolder = ""\nsplit = ""\nmethod = "invert"\nwidth = 0.5\nipc = 2\nshare = 0.0\n'
        'formations = 0\nseed = 3\nstart_from = "duet"\ninit_epoch = 0\nlabels = "bank"\nviews = 0\ntemperature = 2.0\n'
        'experts = 2\nlabel_arch = "edgenet"\nlabel_width = 0.0\nexpert_steps = 24\nsteps = 600\nbatch = 32\n'
        "peak_rate = 0.01\nweight_decay = 0.1\ncheck_every = 0\npatience = 3\ncandidates = 1\ntrajectories = 2\n"
        "expert_span = 4\nearliest_start = 0\nfirst_window = 4\nstart_window = 20\nwindow_growth = 2.0\n"
        "trajectory_rate = 0.02\ntrajectory_momentum = 0.9\nflatness = 0.0\niterations = 40\nstudent_steps = 10\n"
        "student_batch = 64\nitem_rate = 0.05\nstatistics_weight = 0.3\nlabel_weight = 0.1\nunroll_window = 25\n"
        "step_size = 0.0\nlabel_rate = 0.0\ngate = 1.0\nitem_average = 0.0\nlatent = 0\npretraining = 0.75\n"
        "generator_rate = 0.003\ncritic_rate = 0.001\ncritic_steps = 2\npenalty_weight = 10.0\n"
        "adversarial_weight = 0.02\nfeature_weight = 1.0\nprobability_weight = 0.3\ndiversity_weight = 0.3\n"
        'polish = 0\narch = "edgenet"\nratio = "balanced"\nship = "items"\nmemory = "fast"\ndp = 0.0\n'
    )
    resolved, asked = read_run_settings(older)
    assert resolved == asked
    expected = {
        "ipc": 2,
        "width": 0.5,
        "seed": 3,
        "start": "aligned",
        "experts.count": 2,
        "experts.steps": 24,
        "steps": 600,
    }
    assert given_in(resolved) == {"corpus": "demo", **expected, "invert.iterations": 40}


def test_differences_are_told_with_both_values() -> None:
    assert differences(GOOD, GOOD) == []
    assert differences(GOOD, changed(GOOD, {"seed": 3, "arch": "cnn6", "folder": "/x", "invert.iterations": 4})) == [
        "arch: 'edgenet' in the run, 'cnn6' now",
        "seed: 0 in the run, 3 now",
        "invert.iterations: 0 in the run, 4 now",
    ]
    (method, *rest) = differences(GOOD, changed(GOOD, {"method": "random"}))
    assert method == "method: 'invert' in the run, 'random' now"
    assert all(line.startswith("invert.") for line in rest)
