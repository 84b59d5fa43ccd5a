"""The options of distill: made of the settings, short enough to read, and kind to who knows the old ones."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest
from typer.main import get_command

from edgeser.cli.app import app
from edgeser.cli.entry import main
from edgeser.cli.options import texts_in
from edgeser.config.renamed import FLAGS
from edgeser.config.settings import METHODS, SETTINGS
from edgeser.config.values import owner
from edgeser.errors import SettingsError

DISTILL = get_command(app).commands["distill"]


def verbs(command: Any, names: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """All verbs with their names."""
    found = [(names, command)] if names else []
    for name, each in getattr(command, "commands", {}).items():
        found += verbs(each, (*names, name))
    return found


def help_of(*words: str) -> str:
    """The help at 100 columns, as a new process prints it."""
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
    environment.pop("FORCE_COLOR", None)
    done = subprocess.run(
        [sys.executable, "-m", "edgeser", *words, "-h"], capture_output=True, text=True, env=environment, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def given(*words: str) -> dict[str, str]:
    return texts_in(DISTILL.make_context("distill", list(words)))


def test_the_help_of_distill_fits_two_screens_and_shows_every_default() -> None:
    text = help_of("distill")
    assert len(text.splitlines()) <= 70
    plain = re.sub(r"[\s│]+", " ", text)
    for each in SETTINGS.values():
        if each.flag:
            assert f"{each.flag} " in plain
            assert each.help in plain
            assert f"[default: {each.usual}]" in plain or f"[default: ({each.usual})]" in plain
    assert "Example: edgeser distill" in plain
    assert not [flag for flag in FLAGS if f"{flag} " in plain]


@pytest.mark.parametrize(
    ("names", "verb"), verbs(get_command(app)), ids=lambda part: "-".join(part) if isinstance(part, tuple) else ""
)
def test_every_option_of_every_verb_shows_its_default(names: tuple[str, ...], verb: Any) -> None:
    for option in verb.params:
        if option.param_type_name == "option" and not option.is_flag and not option.required:
            assert option.default is not None or isinstance(option.show_default, str), (names, option.name)


def test_the_verbs_stand_in_three_panels() -> None:
    text = help_of()
    titles = [line for line in text.splitlines() if line.startswith("╭")]
    assert [title.split()[1] for title in titles][-3:] == ["Host", "Kits", "Board"]
    assert all(f" {names[0]} " in text for names, _ in verbs(get_command(app)))


def test_options_are_read_as_texts_by_key() -> None:
    assert given("--corpus", "demo", "--ipc", "6", "--from", "mix", "--set", "mtt.sam=0.1", "--set", "batch = 8") == {
        "corpus": "demo",
        "ipc": "6",
        "start": "mix",
        "mtt.sam": "0.1",
        "batch": "8",
    }
    assert given() == {}
    assert given("--width", "1") == {"width": "1"}  # the default too, when it is given


def test_old_options_are_read_as_set() -> None:
    assert given("--expert-span", "6", "--formations=2", "--ipc", "1") == {
        "ipc": "1",
        "expert_span": "6",
        "formations": "2",
    }
    for flag, name in FLAGS.items():
        assert given(flag, "3") == {name: "3"}


def test_set_needs_a_value() -> None:
    with pytest.raises(SettingsError, match="--set steps names no value"):
        given("--set", "steps")


@pytest.mark.parametrize(
    ("words", "problem", "hint"),
    [
        (("--set", "mtt.expert_spam=3"), "there is no setting 'mtt.expert_spam'", "did you mean mtt.expert_span?"),
        (("--set", "gan.ship=items"), "gan.ship is a setting of --method gan", "leave it out, or use --method gan"),
        (("--expert-span", "2"), "mtt.expert_span is a setting of --method mtt", "or use --method mtt"),
        (("--candidates", "3"), "candidates 3 was removed", "leave it out"),
        (("--from", "crowd"), "--from crowd was removed", "leave it out"),
        (("--width", "nan"), "--width is nan", "give a number from 0.01 to 8"),
        (("--set", "experts.width=inf"), "experts.width is inf", "give a number from 0 to 8"),
        (("--method", "mttt"), "--method is 'mttt'", "did you mean 'mtt'?"),
    ],
)
def test_what_is_wrong_is_said_in_two_lines(
    words: tuple[str, ...], problem: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["distill", "--corpus", "demo", "--ipc", "2", *words])
    assert caught.value.code == 2
    first, second = capsys.readouterr().err.splitlines()
    assert problem in first
    assert hint in second


def test_an_old_option_is_told_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    old = ("--expert-span", "2", "--from", "duet", "--experts=1")
    with pytest.raises(SystemExit):
        main(["distill", "--corpus", "demo", "--method", "mtt", "--ipc", "1000", *old])
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert notes == [
        "note: --from duet is now: --from aligned",
        "note: expert_span 2 is now: --set mtt.expert_span=2",
        "note: experts 1 is now: --set experts.count=1",
    ]


@pytest.mark.parametrize("name", METHODS)
def test_a_method_shows_all_that_can_be_set_for_it(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["methods", name, "--json"])
    assert caught.value.code == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["method"], found["summary"]) == (name, METHODS[name])
    keys = [row["key"] for row in found["settings"]]
    assert set(keys) == {
        key for key, each in SETTINGS.items() if owner(key) in ("", name) and not each.flag and key != "folder"
    }
    assert sorted(keys, key=lambda key: owner(key) != name) == keys  # its own come first
    for row in found["settings"]:
        assert (row["default"], row["help"]) == (SETTINGS[row["key"]].default, SETTINGS[row["key"]].help)


def test_methods_are_listed_and_near_misses_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["methods"])
    assert caught.value.code == 0
    table = capsys.readouterr().out
    assert all(name in table and summary in table for name, summary in METHODS.items())
    with pytest.raises(SystemExit) as caught:
        main(["methods", "hearding"])
    assert caught.value.code == 2
    assert "did you mean 'herding'?" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["methods", "mtt"])
    assert "mtt.expert_span" in capsys.readouterr().out


def test_the_help_needs_no_package_of_the_host() -> None:
    program = (
        "import sys\n"
        "for name in ('torch', 'joblib', 'tomli_w', 'sklearn', 'librosa'): sys.modules[name] = None\n"
        "from edgeser.cli.entry import main\n"
        "main(['distill', '--help'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--set" in done.stdout
