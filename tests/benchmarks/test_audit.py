"""The audit's table: methods share halves, what is kept is not made again, a missed leak is told."""

from __future__ import annotations

import copy
import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from audit import measure, missed_leaks, overrides_of, parser
from audit_tables import page, sheets
from distillation_runs import Request

from edgeser.errors import SettingsError
from edgeser.workers import Workers

SMALL = (
    "width=0.25", "experts.width=0.25", "experts.count=1", "experts.steps=4", "steps=4", "views=4", "batch=16",
    "invert.iterations=2",
)  # fmt: skip


def arguments(out: Path, *words: str) -> Namespace:
    settings = [word for text in SMALL for word in ("--set", text)]
    return parser().parse_args([".", "--corpus", "demo", "--ipc", "1", "--out", str(out), *settings, *words])


def request_of(given: Namespace) -> Request:
    return Request(given.folder, given.out, 1, 1, (), overrides_of(given.set), Workers(1))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("audits")
    given = arguments(out, "--methods", "invert", "--shadows", "4", "--unshadowed", "invert:noise")
    return out, measure(request_of(given), given)


@pytest.mark.slow
def test_methods_share_what_does_not_depend_on_them(made: tuple[Path, dict[str, Any]]) -> None:
    out, result = made
    given = arguments(out, "--methods", "invert:noise", "--shadows", "4")
    again = measure(request_of(given), given)["methods"]["invert:noise"]
    (halves,) = (out / "halves").iterdir()
    experts = [path.read_bytes() for path in sorted(halves.glob("*/label-expert-0.safetensors"))]
    assert len(set(experts)) == len(experts) == 4
    shadows = next((out / "runs").glob("demo-invert-noise-*/audit/shadows-*"))
    assert [path.read_bytes() for path in sorted(shadows.glob("*/trajectories/*"))] == experts
    first = result["methods"]["invert"]
    for name in ("random_bank", "noise"):
        assert again["membership"]["sets"][name] == first["membership"]["sets"][name]
    assert again["membership"]["sets"]["distilled"] != first["membership"]["sets"]["distilled"]


@pytest.mark.slow
def test_what_is_kept_is_not_made_again(made: tuple[Path, dict[str, Any]]) -> None:
    out, result = made
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    given = arguments(out, "--methods", "invert", "--shadows", "4")
    assert measure(request_of(given), given)["methods"]["invert"] == json.loads(json.dumps(result["methods"]["invert"]))
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_tables_have_a_column_a_method(made: tuple[Path, dict[str, Any]]) -> None:
    result = made[1]
    aims, attacks = sheets(result)
    assert [line[0] for line in aims.lines] == ["invert", "invert:noise", "the same, planted leak", "noise"]
    assert attacks.columns[2:4] == ("invert", "invert:noise")
    for sheet in (aims, attacks):
        assert all(len(line) == len(sheet.columns) for line in sheet.lines)
    member = [line for line in attacks.lines if line[0].startswith("member (utterance)") and "AUC" in line[0]]
    assert len(member) == 6, "three threat models, two attacks"
    assert all(line[2] and not line[3] for line in member), "without shadows there is no membership"
    text = page(result)
    assert "--unshadowed invert:noise" in text
    assert text.count("Controls, in the audit of") == 2


@pytest.mark.slow
def test_a_missed_leak_is_told(made: tuple[Path, dict[str, Any]]) -> None:
    methods = copy.deepcopy(made[1]["methods"])
    figure = methods["invert"]["copies"]["spaces"]["patterns"]["sets"]["real_subset"]["source"]
    assert not any("began as, patterns" in line for line in missed_leaks(methods))
    figure.update(low=0.0, value=0.0)
    assert any("began as, patterns" in line for line in missed_leaks(methods))


def test_what_one_audit_could_not_ask_is_said_and_the_others_keep_their_lines() -> None:
    example = json.loads((Path(__file__).parents[1] / "edgeser" / "privacy" / "example.json").read_text())
    without = {**example, "speakers": None, "sex": None, "left_out": ["speakers were not asked about: too few"]}
    methods = {"invert:samples_per_item=8": without, "invert": example}
    result = {"corpus": "demo", "shadows": 4, "settings": {}, "command": "it", "methods": methods}
    (line,) = (line for line in sheets(result)[1].lines if line[0] == "speaker of an item, equal error")
    assert line[2] == ""
    assert line[3]
    text = page(result)
    assert "In the audit of `invert:samples_per_item=8`: speakers were not asked about: too few." in text
    assert "16 of 16 (chance " in text


def test_a_setting_that_does_not_exist() -> None:
    assert overrides_of(["experts.steps=3", "mtt.item_rate=0.5"]) == {"experts.steps": 3, "mtt.item_rate": 0.5}
    for text, problem in (("expert=3", "is no setting"), ("steps=many", "--steps is 'many'")):
        with pytest.raises(SettingsError, match=problem):
            overrides_of([text])
