"""Every attack finds the leak that is planted and nothing in noise; one that cannot is noticed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeser.config.settings import Settings
from edgeser.config.values import changed
from edgeser.distill.pipeline import distill
from edgeser.privacy import audit as whole
from edgeser.privacy import shadows, speakers
from edgeser.privacy.attack_lines import (
    CONTROL,
    LEAK,
    THREAT_WORDS,
    Line,
    attack_lines,
    control_lines,
    control_words,
    figure_words,
)
from edgeser.privacy.audit import AuditPlan, audit
from edgeser.run import Run
from edgeser.workers import Workers

ALONE = Workers(1)
BY_ACCIDENT = 0.1
"""Share of the figures of noise that may be above chance: 1 in 40 are expected, and they are not independent."""


def missed(found: dict[str, Any]) -> list[str]:
    """The attacks that do not find the planted leak."""
    return [f"{line['attack']} ({line['threat_model']})" for line in control_lines(found) if not line["finds_the_leak"]]


@pytest.fixture(scope="module")
def own_run(tiny: Settings, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of the demo corpus; its students know little by heart, so of models test_shadows tells."""
    settings = changed(
        tiny, {"method": "invert", "ipc": 4, "experts.steps": 60, "steps": 80, "invert.iterations": 3, "views": 8}
    )
    folder = tmp_path_factory.mktemp("controls") / "run"
    return distill(settings, folder, ALONE, resume=False, warn=lambda _: None)


@pytest.fixture(scope="module")
def found(own_run: Run) -> dict[str, Any]:
    return audit(own_run, AuditPlan(4), ALONE)


@pytest.mark.slow
def test_every_attack_finds_the_planted_leak(found: dict[str, Any]) -> None:
    assert [attack for attack in missed(found) if not attack.endswith("(model)")] == []
    assert {line["threat_model"] for line in control_lines(found)} == set(THREAT_WORDS)
    attacks = {line["attack"] for line in control_lines(found)}
    for words in ("member (utterance)", "log-mel", "patterns", "features", "speaker of a", "sex of an item"):
        assert any(words in attack for attack in attacks), words


@pytest.mark.slow
def test_noise_is_at_chance(found: dict[str, Any]) -> None:
    said = [line for line in control_lines(found) if line["finds_noise"]]
    assert len(said) <= BY_ACCIDENT * len(control_lines(found)), said
    assert f"{len(said)} of" in control_words(found["controls"])
    for threat in THREAT_WORDS:
        area = found["membership"]["sets"][CONTROL][threat]["utterance"]["likelihood_ratio"]["auc"]
        assert area["low"] <= 0.5 <= area["high"], threat


def constant_distances(first: np.ndarray, second: np.ndarray, *_: object) -> np.ndarray:
    return np.ones((len(first), len(second)))


@pytest.fixture
def copy(own_run: Run, tmp_path: Path) -> Run:
    return Run(Path(shutil.copytree(own_run.folder, tmp_path / "run", ignore=shutil.ignore_patterns("audit"))))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "name", "broken", "words"),
    [
        (whole, "shifted_distances", constant_distances, "log-mel"),
        (whole, "pattern_distances", constant_distances, "patterns"),
        (whole, "plain_distances", constant_distances, "features"),
        (speakers, "voice_features", lambda log_mels: np.zeros((len(log_mels), 4)), "speaker of a"),
    ],
)
def test_an_attack_that_sees_nothing_is_noticed(
    module: object,
    name: str,
    broken: Callable[..., np.ndarray],
    words: str,
    copy: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(whole, "write_sounds", lambda *_: [])
    monkeypatch.setattr(module, name, broken)
    assert any(words in attack for attack in missed(audit(copy, AuditPlan(0), ALONE)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "broken", "threat"),
    [
        ("pattern_distances", constant_distances, "set"),
        ("log_odds", lambda _graph, _student, task: np.zeros(len(task.clips), dtype=np.float32), "model"),
    ],
)
def test_a_membership_attack_that_sees_nothing_is_noticed(
    name: str, broken: Callable[..., np.ndarray], threat: str, copy: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole, "write_sounds", lambda *_: [])
    monkeypatch.setattr(shadows, "train_on_set", lambda *_: {})
    monkeypatch.setattr(shadows, "log_odds", lambda _graph, _student, task: task.labels.astype(np.float32))
    monkeypatch.setattr(shadows, name, broken)
    attacks = missed(audit(copy, AuditPlan(4), ALONE))
    assert any(attack.startswith("member (utterance)") and attack.endswith(f"({threat})") for attack in attacks)


@pytest.mark.parametrize(
    ("figure", "worse", "tells"),
    [
        ({"value": 0.7, "low": 0.6, "high": 0.8}, "more", True),
        ({"value": 0.55, "low": 0.45, "high": 0.6}, "more", False),
        ({"value": 0.3, "low": 0.2, "high": 0.4}, "less", True),
        ({"value": 0.3, "low": 0.2, "high": 0.4}, "more", False),
        ({"value": 0.7}, "more", None),
        ({"value": 0.7, "low": 0.6, "high": 0.8}, "", None),
        (None, "more", None),
    ],
)
def test_a_line_tells_where_its_interval_is_beyond_chance(
    figure: dict[str, float] | None, worse: str, tells: bool | None
) -> None:
    assert Line("an attack", "set", {LEAK: figure}, 0.5, worse).tells(LEAK) is tells


def test_a_figure_may_have_a_chance_of_its_own() -> None:
    found = {"count": 5, "of": 40, "value": 0.125, "low": 0.04, "high": 0.27}
    line = Line("an attack", "set", {LEAK: {**found, "chance": 0.06}, CONTROL: {**found, "chance": 0.03}}, None, "more")
    assert (line.tells(LEAK), line.tells(CONTROL)) == (False, True)
    assert figure_words(line.figures[LEAK] or {}) == "5 of 40 (chance 6.0 %)"


@pytest.mark.slow
def test_the_lines_are_of_all_sets(found: dict[str, Any]) -> None:
    for line in attack_lines(found):
        assert set(line.figures) >= {"distilled", "random_bank", LEAK, CONTROL}, line.attack
