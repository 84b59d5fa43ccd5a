"""The whole audit of a small run: every key that is described, every bad input, and what the table says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import soundfile

from edgeser.config.settings import Settings
from edgeser.config.values import changed, settings_of, to_toml
from edgeser.distill.pipeline import distill
from edgeser.errors import AuditError, RunError, SettingsError
from edgeser.privacy import audit as whole
from edgeser.privacy.attack_lines import audit_table
from edgeser.privacy.audit import AuditPlan, audit, prepare_audit
from edgeser.privacy.cost import foretell
from edgeser.report.evidence import read_audit
from edgeser.run import Run
from edgeser.workers import Workers

EXAMPLE = Path(__file__).parent / "example.json"


@pytest.fixture(scope="module")
def own_run(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(Path(shutil.copytree(tiny_run.folder, tmp_path_factory.mktemp("audited") / "run")))


@pytest.fixture(scope="module")
def found(own_run: Run) -> dict[str, Any]:
    """An audit with shadows, and with a set beside the run's own."""
    return audit(own_run, AuditPlan(4, starts=("real",)), Workers(1))


def keys(value: Any, place: str = "") -> set[str]:
    """The places of all keys; of a list those of its first entry; names of sets are one."""
    if isinstance(value, list):
        return keys(value[0], f"{place}[]") if value else set()
    if not isinstance(value, dict):
        return set()
    here = set()
    for key, inner in value.items():
        name = "SET" if place.endswith(("sets",)) else key
        here |= {f"{place}.{name}"} | keys(inner, f"{place}.{name}")
    return here


@pytest.mark.slow
def test_the_example_has_the_keys_that_an_audit_has(found: dict[str, Any]) -> None:
    example = json.loads(EXAMPLE.read_text())
    varying = (".machine", ".tpr_at")  # counts of this run are too small for rates
    ours, theirs = (
        {key for key in keys(value) if not any(word in key for word in varying)} for value in (found, example)
    )
    assert ours == theirs


@pytest.mark.slow
def test_what_is_written_is_what_is_returned(found: dict[str, Any], own_run: Run) -> None:
    assert json.loads((own_run.folder / "audit.json").read_text()) == found
    assert set(found["sets"]) == {"distilled", "random_bank", "real_subset", "noise", "from_real"}
    assert found["membership"]["shadows"] == 4
    assert set(found["membership"]["sets"]) == set(found["sets"])
    assert found["run"]["items"] == len(found["nearest"]) == 8


@pytest.mark.slow
def test_the_planted_leak_is_found_and_noise_is_not(found: dict[str, Any]) -> None:
    leak, control = (found["membership"]["sets"][name]["set"]["utterance"] for name in ("real_subset", "noise"))
    assert leak["likelihood_ratio"]["auc"]["value"] > 0.95
    assert leak["threshold"]["auc"]["value"] > 0.95
    assert control["likelihood_ratio"]["auc"]["low"] <= 0.5 <= control["likelihood_ratio"]["auc"]["high"]
    for space in found["copies"]["spaces"].values():
        subset, noise = space["sets"]["real_subset"], space["sets"]["noise"]
        assert subset["below_least"]["value"] == subset["relative"]["below_least"]["value"] == 1.0
        assert noise["relative"]["below_least"]["value"] == 0.0
    speakers = found["speakers"]["sets"]
    assert speakers["real_subset"]["applied"]["top_1"]["value"] > 0.8
    assert speakers["noise"]["applied"]["top_1"]["low"] <= 1 / found["speakers"]["speakers"]


@pytest.mark.slow
def test_sounds_and_picture_are_there(found: dict[str, Any], own_run: Run) -> None:
    assert (own_run.folder / found["inversion"]["picture"]).read_bytes().startswith(b"\x89PNG")
    assert len(found["inversion"]["sounds"]) == 8
    for line in found["inversion"]["sounds"]:
        for kind in ("sound", "nearest"):
            sound, rate = soundfile.read(own_run.folder / line[kind])
            assert rate == 16_000
            assert 2.5 < len(sound) / rate < 3.5


@pytest.mark.slow
def test_the_table_has_a_line_an_attack_and_a_column_a_set(found: dict[str, Any]) -> None:
    table = audit_table(found)
    assert table.titles[2:] == [*found["sets"], "chance"]
    attacks = {line["attack"] for line in found["summary"]}
    assert any(attack.startswith("member (utterance)") for attack in attacks)
    wanted = {"set", "attack", "threat_model", "figure", "chance", "worse", "words"}
    assert all(set(line) == wanted for line in found["summary"])
    assert len(table.rows) >= len(attacks)


@pytest.mark.slow
def test_shadows_that_are_there_are_used_only_if_asked_for(found: dict[str, Any], own_run: Run) -> None:
    assert found
    with pytest.raises(AuditError, match="holds shadows of an earlier audit") as caught:
        audit(own_run, AuditPlan(4), Workers(1))
    assert "--resume" in caught.value.hint
    cost = foretell(own_run, AuditPlan(6, resume=True), Workers(2))
    assert cost["missing"] == 6 - 4
    assert cost["jobs"] == 2
    assert cost["total_seconds"] == pytest.approx(cost["shadow_seconds"], abs=0.2)


def test_shadows_of_another_version_are_not_used(tiny_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = []
    for version in (whole.UNNAMED, whole.UNNAMED, "9.8.7", "9.8.8"):
        monkeypatch.setattr(whole, "__version__", version)
        folders.append(prepare_audit(tiny_run, AuditPlan(4), Workers(1))[1].folder)
    assert folders[0] == folders[1]
    assert len(set(folders)) == 3


@pytest.mark.parametrize("shadows", [1, 2, 3, 7])
def test_shadows_come_in_pairs(shadows: int) -> None:
    with pytest.raises(SettingsError, match="shadows come in pairs"):
        AuditPlan(shadows)


def test_a_start_that_does_not_exist() -> None:
    with pytest.raises(SettingsError, match="--from is 'mx'") as caught:
        AuditPlan(4, starts=("mx",))
    assert "mix" in caught.value.hint


def test_a_run_whose_recordings_are_gone_says_which_command_helps(tiny_run: Run, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_run.folder, tmp_path / "run"))
    settings = replace(tiny_run.settings(), corpus="emodb", folder=str(tmp_path / "gone"))
    (folder / "config.toml").write_text(to_toml(settings, settings))
    with pytest.raises(AuditError, match="cannot be computed again") as caught:
        audit(Run(folder), AuditPlan(0), Workers(1))
    assert f"edgeser audit {folder} --folder DIR" in caught.value.hint
    assert "\n" not in caught.value.message


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not there"):
        audit(Run(tmp_path / "none"), AuditPlan(0), Workers(1))


def test_methods_that_choose_clips_have_no_other_start(tmp_path: Path) -> None:
    chosen = settings_of(
        {
            "corpus": "demo",
            "method": "random",
            "ipc": 1,
            "labels": "hard",
            "width": 0.25,
            "steps": 2,
            "views": 2,
            "experts.count": 1,
            "experts.steps": 2,
        }
    )
    run = distill(chosen, tmp_path / "random", Workers(1), resume=False, warn=lambda _: None)
    with pytest.raises(SettingsError, match="have no other start"):
        audit(run, AuditPlan(0, starts=("noise",)), Workers(1))


@pytest.fixture(scope="module")
def drawn(tiny: Settings, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose items are drawn from a generator."""
    settings = changed(
        tiny,
        {
            "method": "gan",
            "ipc": 4,
            "gan.iterations": 4,
            "gan.pretraining": 0.5,
            "gan.codebook": 8,
            "experts.steps": 2,
        },
    )
    return distill(settings, tmp_path_factory.mktemp("drawn") / "run", Workers(1), resume=False, warn=lambda _: None)


def test_the_audit_of_generated_items_names_no_start(drawn: Run) -> None:
    found = audit(drawn, AuditPlan(0, sounds=False), Workers(1))
    assert found["run"]["start_from"] is None
    assert "learnt sums of a few recordings" in found["sets"]["distilled"]["words"]
    assert "from mix" not in found["sets"]["distilled"]["words"]
    (line,) = found["left_out"]
    assert "distilled were not asked about: its items are drawn from a generator" in line
    assert "distilled" not in found["speakers"]["sets"]
    assert line in str(audit_table(found).caption)


def test_where_every_clip_is_a_source_speakers_are_not_asked_about(tiny: Settings, tmp_path: Path) -> None:
    settings = changed(
        tiny,
        {"method": "invert", "ipc": 6, "samples_per_item": 8, "invert.iterations": 1, "experts.steps": 2, "steps": 2},
    )
    run = distill(settings, tmp_path / "run", Workers(1), resume=False, warn=lambda _: None)
    found = audit(run, AuditPlan(0, sounds=False), Workers(1))
    assert json.loads((run.folder / "audit.json").read_text()) == found
    assert (found["speakers"], found["sex"]) == (None, None)
    (line,) = found["left_out"]
    assert line.startswith("speakers and sex were not asked about: of 6 of 6 speakers fewer than 4 recordings")
    assert line in str(audit_table(found).caption)
    assert not any("speaker of" in each["attack"] for each in found["summary"])
    assert foretell(run, AuditPlan(0), Workers(1))["left_out"] == [line]
    read = read_audit(run)
    assert read is not None
    assert read.found["left_out"] == [line]
    assert not any("speaker of" in attack["words"] for attack in read.attacks)


def test_bad_input_is_one_line_and_one_hint(run_edgeser: Callable[..., CompletedProcess[str]], tmp_path: Path) -> None:
    done = run_edgeser("audit", tmp_path / "none", "--shadows", "3")
    assert done.returncode == 2
    assert done.stdout == ""
    error, hint = done.stderr.splitlines()
    assert error.startswith("error: --shadows is 3")
    assert hint.startswith("hint: ")


@pytest.mark.slow
def test_the_verb_prints_one_json_object(
    run_edgeser: Callable[..., CompletedProcess[str]], tiny_run: Run, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_run.folder, tmp_path / "run")
    done = run_edgeser("audit", folder, "--shadows", "0", "--jobs", "1", "--json", check=True)
    assert json.loads(done.stdout)["membership"] is None
    assert done.stderr == ""
    table = run_edgeser("audit", folder, "--shadows", "0", "--jobs", "1", check=True).stdout
    assert "real_subset" in table
    foretold = run_edgeser("audit", folder, "--shadows", "4", "--dry-run", "--jobs", "1", check=True)
    assert "4 of 4 shadows to make" in foretold.stdout
