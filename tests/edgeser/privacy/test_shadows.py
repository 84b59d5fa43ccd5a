"""Shadows: a planted leak is seen through trained students, noise shows nothing, and an interrupted shadow goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeser.distill.label_bank import build_set
from edgeser.distill.method import Assignment
from edgeser.errors import AuditError, RunError
from edgeser.privacy.audit import AuditPlan, prepare_audit
from edgeser.privacy.figures import Decisions, area
from edgeser.privacy.shadows import STUDENTS, ShadowPlan, attack_shadow, log_odds, look_at, noise_items, observations
from edgeser.run import Run
from edgeser.workers import Workers

CLIPS, CLASSES = 48, 3


@pytest.fixture(scope="module")
def lots(assignment: Assignment) -> Assignment:
    """Clips of noise with classes by lot: what a student knows of them it has by heart."""
    random = np.random.default_rng(0)
    _, _, mels, frames = assignment.task.clips.shape
    task = replace(
        assignment.task,
        clips=random.standard_normal((CLIPS, 1, mels, frames)).astype(np.float32),
        labels=np.arange(CLIPS) % CLASSES,
        speakers=tuple(f"{number % 6}" for number in range(CLIPS)),
    )
    settings = replace(assignment.settings, ipc=8, views=1, labels="hard", steps=150, peak_rate=0.02, seed=1)
    return replace(assignment, task=task, settings=settings)


def areas(lots: Assignment, items: np.ndarray) -> tuple[dict[str, float], dict[str, float]]:
    """Area and lower bound of the attack on each threat model; the first half of the clips are members."""
    distilled = build_set(lots, items)
    apart, sure = look_at(distilled, lots.task.graph, lots.init, lots.task)
    assert sure.shape == (STUDENTS, CLIPS)
    seen = {"set": -apart, "model": sure[0]}
    members = np.arange(CLIPS) < CLIPS // 2
    found = {}
    for threat, statistic in seen.items():
        each = np.arange(CLIPS)
        figure = area(Decisions(statistic.astype(float), members, each, np.zeros(CLIPS, dtype=np.int64)))
        assert figure is not None
        found[threat] = figure
    return found


def by_class(items: np.ndarray) -> np.ndarray:
    """Items of classes 0, 1, 2, 0 ... in the order of the classes, as a set has them."""
    return np.concatenate([items[number::CLASSES] for number in range(CLASSES)])


def test_stored_clips_are_seen_by_every_threat_model(lots: Assignment) -> None:
    for threat, figure in areas(lots, by_class(lots.task.clips[: CLIPS // 2, 0])).items():
        assert figure["value"] > 0.9, threat
        assert figure["low"] > 0.8, threat


def test_noise_shows_nothing(lots: Assignment) -> None:
    for threat, figure in areas(lots, noise_items(lots)).items():
        assert figure["low"] <= 0.5 <= figure["high"], threat


def test_log_odds_are_those_of_the_class(lots: Assignment) -> None:
    weights = lots.ensemble.members[0]
    sure = log_odds(lots.task.graph, weights, lots.task)
    other = log_odds(lots.task.graph, weights, replace(lots.task, labels=(lots.task.labels + 1) % CLASSES))
    assert np.isfinite(sure).all()
    assert ((sure > 0) & (other > 0)).sum() == 0, "no clip is more likely than not of two classes"


@pytest.fixture
def plan(tiny_run: Run, tmp_path: Path) -> ShadowPlan:
    _, plan = prepare_audit(tiny_run, AuditPlan(4), Workers(1))
    return replace(plan, folder=tmp_path / "shadows")


def test_a_shadow_repeats_itself_and_makes_what_is_missing(plan: ShadowPlan) -> None:
    assert plan.missing(2) == [0, 1]
    attack_shadow(plan, 0)
    assert plan.missing(2) == [1]
    first = {name: plan.kept(0, name).read_bytes() for name in plan.sets}
    plan.kept(0, "distilled").unlink()
    (plan.folder / "00" / "trajectories" / "label-expert-0.safetensors").unlink()
    untouched = plan.kept(0, "noise").stat().st_mtime_ns
    attack_shadow(plan, 0)
    assert {name: plan.kept(0, name).read_bytes() for name in plan.sets} == first
    assert plan.kept(0, "noise").stat().st_mtime_ns == untouched


def test_what_was_seen_is_read_with_both_truths(plan: ShadowPlan) -> None:
    for number in (0, 1):
        attack_shadow(plan, number)
    seen = observations(plan, 2)
    assert set(seen) == {"distilled", "random_bank", "real_subset", "noise"}
    subset, bank = seen["real_subset"]["set"], seen["random_bank"]["set"]
    assert (subset.statistics == bank.statistics).all()
    items = plan.settings.ipc * plan.task.classes
    assert subset.members.sum(1).tolist() == [items, items]
    assert not (subset.members & ~bank.members).any(), "a stored clip is one of the half"
    stored, others = (subset.statistics[0][which] for which in (subset.members, ~subset.members))
    assert stored.min() > others.max(), "a stored clip is nearer than any other"
    assert (bank.members[0] ^ bank.members[1]).all()


def test_a_damaged_cell_is_one_line(plan: ShadowPlan) -> None:
    attack_shadow(plan, 0)
    plan.kept(0, "noise").write_bytes(b"no")
    with pytest.raises(RunError, match="cannot be read") as caught:
        observations(plan, 1)
    assert "--resume" in caught.value.hint


def test_halves_without_enough_clips_are_one_line(plan: ShadowPlan) -> None:
    greedy = replace(plan, settings=replace(plan.settings, ipc=40))
    with pytest.raises(AuditError, match="fewer than the 40") as caught:
        greedy.require_enough(4)
    assert "--shadows 0" in caught.value.hint


@pytest.mark.slow
def test_a_killed_audit_goes_on_to_the_same_figures(tiny_run: Run, tmp_path: Path) -> None:
    import shutil

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        shutil.copytree(tiny_run.folder, folder)
    words = ["--shadows", "4", "--jobs", "1"]
    start = [sys.executable, "-m", "edgeser", "audit"]
    subprocess.run([*start, str(whole), *words], check=True, capture_output=True)
    process = subprocess.Popen([*start, str(killed), *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(killed.glob("audit/shadows-*/01/*.safetensors")):
        time.sleep(0.02)
    assert process.poll() is None, "it was done before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (killed / "audit.json").exists()
    subprocess.run([*start, str(killed), *words, "--resume"], check=True, capture_output=True)
    cells = {
        folder: {
            path.relative_to(folder).name + path.parent.name: path.read_bytes()
            for path in sorted(folder.glob("audit/shadows-*/*/*.safetensors"))
        }
        for folder in (whole, killed)
    }
    assert cells[whole] == cells[killed]
    assert len(cells[whole]) == 12
