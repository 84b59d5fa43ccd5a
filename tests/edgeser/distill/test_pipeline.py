"""From the demo corpus to a finished run: what is in it, that it repeats, and that it can be interrupted anywhere."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from edgeser.config.settings import Settings, value_of
from edgeser.config.values import changed, given_in, owner, settings_of, to_toml
from edgeser.distill.expert_jobs import label_jobs, trajectory_jobs
from edgeser.distill.label_bank import assemble
from edgeser.distill.loop import load_checkpoint
from edgeser.distill.pipeline import assign, describe, distill, fixed_init, prepare
from edgeser.distill.registry import METHODS
from edgeser.errors import DivergedError, RunError, SettingsError
from edgeser.models import training
from edgeser.models.experts import load_trajectory
from edgeser.run import Run
from edgeser.workers import Workers
from edgeser_export.graph.initial import initial_weights

ALONE = Workers(1)
NAMES = ("distilled.safetensors", "init.safetensors", "student.json", "run.json")


def silent(words: str) -> None:
    """Nobody is told."""


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_run_holds_every_file_and_no_draft(tiny_run: Run) -> None:
    assert files_of(tiny_run.folder) - {"metrics.json"} == {
        "config.toml",
        "run.json",
        "log.jsonl",
        "student.json",
        "init.safetensors",
        "distilled.safetensors",
        "checkpoint/state.safetensors",
        "trajectories/label-expert-0.safetensors",
        "trajectories/trajectory-0.safetensors",
    }


def test_the_set_is_what_was_asked_for(tiny_run: Run, tiny: Settings) -> None:
    found = tiny_run.distilled()
    assert found.names == ("anger", "happiness", "neutral", "sadness")
    assert found.classes.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert (found.per_class, len(found), len(found.recipes)) == (2, 8, 32)
    assert (found.schedule.steps, found.schedule.batch) == (tiny.steps, tiny.batch)
    assert found.frontend.mean < 0 < found.frontend.std
    assert tiny_run.graph().shapes["logits"] == (4,)
    tiny_run.graph().check(tiny_run.init())


def test_the_items_moved_from_what_they_began_as(tiny_run: Run, tiny: Settings) -> None:
    assignment = assign(tiny_run, prepare(tiny, ALONE), ALONE)
    apart = np.abs(tiny_run.distilled().items() - METHODS[tiny.method].begin(assignment)["items"])
    step = float(tiny_run.distilled().scale.max())
    assert apart.mean() > 0.2 * tiny.mtt.item_rate
    assert apart.max() < 4 * tiny.mtt.iterations * tiny.mtt.item_rate + 2 * step


def test_the_description_is_complete(tiny_run: Run) -> None:
    found = tiny_run.description()
    assert found["budget"] == {
        "ipc": 2, "share": round(8 / 192, 6), "items": 8, "formations": 1, "views": 32, "train_items": 192,
    }  # fmt: skip
    assert found["student"] == {
        "architecture": "edgenet", "width": 0.25, "parameters": 1728, "multiply_accumulates": 374_912,
    }  # fmt: skip
    assert found["corpus"]["name"] == "demo"
    assert found["labels"] == list(tiny_run.distilled().names)
    speakers = [set(found["split"][part]["speakers"]) for part in ("train", "dev", "test")]
    assert not speakers[0] & speakers[1] | speakers[1] & speakers[2] | speakers[0] & speakers[2]
    assert found["corpus_bytes"] > 100_000
    assert found["unreadable"] == []


def test_the_settings_are_saved_as_they_were_resolved(tiny_run: Run, tiny: Settings) -> None:
    saved = tomllib.loads((tiny_run.folder / "config.toml").read_text())
    given = saved.pop("given")
    whole = asdict(replace(tiny, start="aligned"))
    assert saved == {key: value for key, value in whole.items() if key in saved}
    assert set(whole) - set(saved) == {"gan", "gradmatch", "invert", "kip", "match", "unroll"}
    assert given["batch"] == tiny.batch
    assert "start" not in given


def test_the_log_tells_the_stages_in_order(tiny_run: Run) -> None:
    events = [json.loads(line)["event"] for line in (tiny_run.folder / "log.jsonl").read_text().splitlines()]
    assert events == ["features", "expert", "expert", "iteration", "iteration", "iteration", "finished"]


def test_a_run_repeats_bit_for_bit_with_any_number_of_workers(tiny_run: Run, tiny: Settings, tmp_path: Path) -> None:
    again = distill(tiny, tmp_path / "again", Workers(2), resume=False, warn=silent)
    for name in NAMES:
        assert (again.folder / name).read_bytes() == (tiny_run.folder / name).read_bytes(), name


def test_another_seed_is_another_run(tiny_run: Run, tiny: Settings, tmp_path: Path) -> None:
    other = distill(
        changed(tiny, {"seed": 1, "mtt.iterations": 1}), tmp_path / "other", ALONE, resume=False, warn=silent
    )
    assert (other.folder / "init.safetensors").read_bytes() != (tiny_run.folder / "init.safetensors").read_bytes()
    assert not np.array_equal(other.distilled().levels, tiny_run.distilled().levels)


def test_a_finished_run_tells_what_it_took(tiny_run: Run) -> None:
    took = tiny_run.took()
    assert set(took["seconds"]) == {"features", "experts", "method", "labels"}
    assert all(seconds > 0 for seconds in took["seconds"].values())
    assert took["total_seconds"] == pytest.approx(sum(took["seconds"].values()), abs=0.05)
    assert took["peak_rss_mb"] > 100
    assert set(Run(tiny_run.folder / "checkpoint").took().values()) == {None}


def test_the_state_that_is_best_on_dev_speakers_is_shipped(tiny: Settings, tmp_path: Path) -> None:
    settings = changed(tiny, {"mtt.iterations": 4, "check_every": 1, "patience": 4, "steps": 60})
    run = distill(settings, tmp_path / "run", ALONE, resume=False, warn=silent)
    checks = run.events("check")
    assert [check["number"] for check in checks] == list(range(len(checks)))
    uars = [check["dev_uar"] for check in checks]
    chosen = int(np.argmax(uars))  # the first of equals
    material = prepare(settings, ALONE)
    assignment = assign(run, material, ALONE)
    state = METHODS[settings.method].begin(assignment)
    for iteration in range(chosen):
        state, _ = METHODS[settings.method].improve(assignment, state, iteration)
    assert run.distilled().to_bytes() == assemble(assignment, state).to_bytes()
    assert run.took()["seconds"]["checks"] > 0


def with_experts_of(run: Run, folder: Path) -> Path:
    """A run that holds the experts of another one and nothing else."""
    (folder / "trajectories").mkdir(parents=True)
    for expert in run.trajectories.iterdir():
        (folder / "trajectories" / expert.name).write_bytes(expert.read_bytes())
    return folder


def test_a_student_that_diverges_in_a_check_is_named_with_its_setting(
    tiny_run: Run, tiny: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the method began with is kept."""
    monkeypatch.setattr(training, "LARGEST_LOSS", 0.5)  # below that of any student in its first step
    settings, out = replace(tiny, check_every=1), with_experts_of(tiny_run, tmp_path / "run")
    (out / "config.toml").write_text(to_toml(settings, settings))
    with pytest.raises(DivergedError, match=r"the loss of step 1 is \d") as caught:
        distill(settings, out, ALONE, resume=True, warn=silent)
    assert caught.value.hint == "set peak_rate below 0.01 and distil again"
    kept = load_checkpoint(out / "checkpoint" / "state.safetensors")
    assert (kept.done, kept.checked) == (0, -1)
    assert np.isfinite(kept.state["items"]).all()


@pytest.mark.parametrize(("labels", "name"), [("bank", "experts.width"), ("hard", "mtt.trajectory_rate")])
def test_an_expert_that_diverges_is_named_with_its_setting(
    labels: str, name: str, tiny: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "LARGEST_LOSS", 0.5)
    with pytest.raises(DivergedError, match=r"the loss of step 1 is \d") as caught:
        distill(replace(tiny, labels=labels), tmp_path / "run", ALONE, resume=False, warn=silent)
    assert f"{name} below {value_of(tiny, name):g}" in caught.value.hint


@pytest.mark.parametrize("method", ["herding", "kcenter"])
def test_methods_that_choose_items_need_no_trajectories(method: str, tiny: Settings, tmp_path: Path) -> None:
    run = distill(replace(tiny, method=method), tmp_path / "run", ALONE, resume=False, warn=silent)
    assert [path.name for path in run.trajectories.iterdir()] == ["label-expert-0.safetensors"]
    assert len(run.distilled()) == 8


def test_a_warm_init_is_a_snapshot_of_the_first_trajectory(tiny: Settings, tmp_path: Path) -> None:
    settings = replace(tiny, method="random", init_epoch=2)
    run = distill(settings, tmp_path / "run", ALONE, resume=False, warn=silent)
    snapshot = load_trajectory(run.trajectories / "trajectory-0.safetensors").at(2)
    init = run.init()
    assert all(np.array_equal(init[name], value) for name, value in snapshot.items())
    start = initial_weights(run.graph(), tiny.seed)
    assert not np.array_equal(init["conv1.weight"], start["conv1.weight"])
    cold = fixed_init(run.graph(), start, (), 0)
    assert all(np.array_equal(cold[name], start[name]) for name in start)


def test_label_experts_start_apart_and_trajectories_together(tiny: Settings) -> None:
    material = prepare(tiny, ALONE)
    start = initial_weights(material.graph, 0)
    labels = label_jobs(changed(tiny, {"experts.count": 3, "experts.steps": 13}), material.task)
    paths = trajectory_jobs(material.task, changed(tiny, {"mtt.trajectories": 3}), start, epochs=2)
    assert len({job.seed for job in labels.values()}) == len({job.seed for job in paths.values()}) == 3
    assert len({job.start["conv1.weight"].tobytes() for job in labels.values()}) == 3
    assert all(job.start is start for job in paths.values())
    assert {job.recipe.epochs for job in labels.values()} == {2}  # 12 batches of 16 are an epoch
    other = label_jobs(changed(tiny, {"experts.count": 3, "seed": 1}), material.task)
    assert not {job.seed for job in labels.values()} & {job.seed for job in other.values()}


def test_a_budget_above_a_class_is_refused_before_anything_is_written(tiny: Settings, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="'anger' has 48 training items, fewer than --ipc 49") as caught:
        distill(replace(tiny, ipc=49), tmp_path / "run", ALONE, resume=False, warn=silent)
    assert "--ipc 48" in caught.value.hint
    assert not (tmp_path / "run").exists()


def test_a_share_becomes_items_per_class(tiny: Settings) -> None:
    budget = describe(prepare(replace(tiny, ipc=0, share=0.056), ALONE))["budget"]
    assert budget["ipc"] == round(0.056 * 192 / 4) == 3
    assert budget["share"] == pytest.approx(12 / 192)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"method": "mt"}, "--method is 'mt'"),
        ({"labels": "softer"}, "--labels is 'softer'"),
        ({"arch": "edgnet"}, "no architecture 'edgnet'"),
    ],
)
def test_a_name_that_does_not_exist_is_refused(tiny: Settings, change: dict[str, str], what: str) -> None:
    with pytest.raises(SettingsError, match=what):
        prepare(replace(tiny, **change), ALONE)


def test_generated_items_have_no_other_start(tiny: Settings) -> None:
    with pytest.raises(SettingsError, match="--method gan has no other start") as caught:
        prepare(changed(tiny, {"method": "gan", "start": "noise"}), Workers(1))
    assert caught.value.hint == "leave out --from"


@pytest.mark.parametrize(
    ("change", "start"), [({"method": "invert"}, "mix"), ({"method": "random"}, None), ({"method": "gan"}, None)]
)
def test_a_run_says_what_its_items_began_as(tiny: Settings, change: dict[str, str], start: str | None) -> None:
    small = describe(prepare(replace(tiny, **change, ipc=1), Workers(1)))
    large = describe(prepare(replace(tiny, **change, ipc=12), Workers(1)))
    assert (small["start"], large["start"]) == (start, start and "aligned")


def test_a_finished_run_is_not_touched(tiny_run: Run, tiny: Settings) -> None:
    before = {path: path.stat().st_mtime_ns for path in tiny_run.folder.rglob("*.safetensors")}
    distill(tiny, tiny_run.folder, ALONE, resume=True, warn=silent)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_run_of_other_settings_is_refused_before_the_corpus_is_read(tiny_run: Run, tiny: Settings) -> None:
    absent = replace(tiny, seed=1, corpus="folder", folder="/nowhere/at/all")
    with pytest.raises(RunError, match=r"other settings: corpus.*seed: 0 in the run, 1 now"):
        distill(absent, tiny_run.folder, ALONE, resume=True, warn=silent)
    with pytest.raises(RunError, match="already holds a run"):
        distill(absent, tiny_run.folder, ALONE, resume=False, warn=silent)


def test_experts_that_are_there_are_not_trained_again(tiny_run: Run, tiny: Settings, tmp_path: Path) -> None:
    out = with_experts_of(tiny_run, tmp_path / "run")
    (out / "config.toml").write_bytes((tiny_run.folder / "config.toml").read_bytes())
    run = distill(tiny, out, ALONE, resume=True, warn=silent)
    assert run.events("expert") == []
    assert (out / "distilled.safetensors").read_bytes() == (tiny_run.folder / "distilled.safetensors").read_bytes()


FLAGS = (
    "--corpus", "demo", "--ipc", "2", "--width", "0.25", "--views", "4", "--set", "experts.count=1", "--set",
    "experts.steps=12", "--steps", "12", "--set", "invert.iterations=60", "--jobs", "1",
)  # fmt: skip


def begin(out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "edgeser", "distill", *FLAGS, "--out", str(out), "--resume"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)


def wait_for_iteration(out: Path, number: int, running: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        log = out / "log.jsonl"
        if log.is_file() and f'"number": {number},' in log.read_text():
            return
        assert running.poll() is None, f"ended with {running.returncode} before iteration {number}"
        time.sleep(0.02)
    pytest.fail(f"no iteration {number} after two minutes")


@pytest.mark.slow
def test_a_run_that_is_interrupted_and_killed_ends_with_the_same_bits(
    tmp_path: Path, run_edgeser: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """First Ctrl-C, which leaves a checkpoint; then kill -9, which leaves no time for anything."""
    out = tmp_path / "broken"
    first = begin(out)
    wait_for_iteration(out, 5, first)
    first.send_signal(signal.SIGINT)
    assert first.wait(timeout=30) == 130
    assert (out / "checkpoint" / "state.safetensors").is_file()
    logged = (out / "log.jsonl").read_text().count('"event": "iteration"')
    assert logged < 60
    second = begin(out)
    wait_for_iteration(out, logged + 5, second)
    second.kill()
    assert second.wait(timeout=30) == -signal.SIGKILL
    assert not (out / "distilled.safetensors").exists()
    run_edgeser("distill", *FLAGS, "--out", out, "--resume", check=True)
    run_edgeser("distill", *FLAGS, "--out", tmp_path / "whole", check=True)
    for name in NAMES:
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


KILLED = """
import sys
from edgeser.distill import loop
loop.CHECKPOINT_SECONDS = 0.0
from edgeser.cli.entry import main
main(sys.argv[1:])
"""
"""The program with a checkpoint after every iteration: what it was killed after is what it goes on from."""


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(name for name, row in METHODS.items() if not row.of_vectors))
def test_a_killed_run_of_every_method_ends_with_the_same_bits(
    method: str, tiny: Settings, tmp_path: Path, run_edgeser: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """Killed where it learns, after a check; a method that does not learn is killed where its experts are trained."""
    small: dict[str, object] = {"experts.count": 2, "method": method}
    if METHODS[method].improve:
        small |= {"check_every": 10, "patience": 50, f"{method}.iterations": 30}
    common = {key: value for key, value in given_in(tiny).items() if owner(key) in ("", method)}
    settings = settings_of({**common, **small})
    config, out = tmp_path / "config.toml", tmp_path / "broken"
    config.write_text(to_toml(settings, settings))
    words = ("distill", "--config", str(config), "--out", str(out), "--jobs", "1", "--resume")
    event, count = ("iteration", 13) if METHODS[method].improve else ("expert", 1)
    running = subprocess.Popen([sys.executable, "-c", KILLED, *words], stdout=subprocess.DEVNULL, env=os.environ)
    wait_for_event(Run(out), event, count, running)
    running.kill()
    assert running.wait(timeout=30) == -signal.SIGKILL
    assert not (out / "distilled.safetensors").exists()
    if METHODS[method].improve:
        assert load_checkpoint(out / "checkpoint" / "state.safetensors").checked >= 10
    done = run_edgeser(*words, "--json", check=True)
    whole = distill(settings, tmp_path / "whole", ALONE, resume=False, warn=silent)
    for name in NAMES:
        assert (out / name).read_bytes() == (whole.folder / name).read_bytes(), name
    assert set(json.loads(done.stdout)["seconds"]) >= {"features", "experts", "method", "labels"}


def wait_for_event(run: Run, event: str, count: int, running: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while len(run.events(event)) < count:
        assert running.poll() is None, f"ended with {running.returncode} before event {count}"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    tmp_path: Path, run_edgeser: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = run_edgeser("distill", *FLAGS, "--out", "run", "--dry-run", "--json", check=True)
    plan = json.loads(done.stdout)
    assert plan["budget"]["items"] == 8
    assert plan["split"]["name"] == "quick"
    assert list(tmp_path.iterdir()) == []
    assert list(plan["plan"]["seconds"]) == ["experts", "method", "checks", "labels"]
