"""Every method on vectors: it teaches what clips do, goes on where it stopped, and is refused where there are none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgeser.cli.entry import main
from edgeser.config.values import settings_of
from edgeser.distill.loop import run_method
from edgeser.distill.pipeline import assign, distill, prepare
from edgeser.distill.registry import METHODS
from edgeser.errors import SettingsError
from edgeser.evaluation.evaluate import Plan, evaluate
from edgeser.representation.vector_file import CORPUS
from edgeser.run import open_run
from edgeser.workers import Workers

ALONE = Workers(1)
NEW = [name for name, method in METHODS.items() if method.of_vectors]
LOOPS = [name for name, method in METHODS.items() if method.improve is not None]
FAST = {"experts.steps": 200, "steps": 250, "experts.count": 1, "ipc": 2, "views": 16}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes whose means are apart, nine speakers with a shift of their own, eight vectors of each."""
    random = np.random.default_rng(0)
    labels, speakers = (each.ravel() for each in np.meshgrid(np.arange(3), np.repeat(np.arange(9), 8)))
    means, shifts = 1.5 * random.standard_normal((3, 12)), 0.5 * random.standard_normal((9, 12))
    x = means[labels] + shifts[speakers] + random.standard_normal((len(labels), 12))
    path = tmp_path_factory.mktemp("vectors") / "vectors.npz"
    np.savez(path, features=x, labels=np.array(["anger", "joy", "sadness"])[labels], speakers=speakers)
    return path


def settings(file: Path, method: str, **more: object):
    own = {f"{method}.iterations": 8} if method in LOOPS else {}
    return settings_of({"corpus": CORPUS, "folder": str(file), "method": method, **FAST, **own, **more})


@pytest.mark.parametrize("method", NEW)
def test_few_items_teach_what_all_clips_do(file: Path, method: str, tmp_path: Path) -> None:
    run = distill(settings(file, method), tmp_path / "run", ALONE, resume=False, warn=lambda _line: None)
    plan = Plan((0, 1), ("distilled", "full", "random_bank"), transfer=("linear", "mlp:0.5"), convergence=(0.5, 1.0))
    result = evaluate(run, plan, ALONE)
    assert result["full"]["uar_mean"] > 0.8
    assert result["distilled"]["ratio"] > 0.9
    assert {name: row["uar_mean"] > 0.7 for name, row in result["transfer"].items()} == {
        "linear": True,
        "mlp:0.5": True,
    }
    assert result["transfer"]["linear"]["parameters"] == 3 * 12 + 3
    assert result["convergence"] is not None


def test_a_matched_set_is_learnt_by_plain_steps_from_the_fixed_start(file: Path, tmp_path: Path) -> None:
    own = {"mtt.iterations": 60, "mtt.plain_steps": 30, "ipc": 1, "views": 0}
    material = prepare(settings(file, "mtt", **own), ALONE)
    assert (material.settings.arch, material.settings.start, material.settings.mtt.trajectory_batch) == (
        "dense",
        "centroids",
        1024,
    )
    run = distill(settings(file, "mtt", **own), tmp_path / "run", ALONE, resume=False, warn=lambda _line: None)
    kept = run.stored_set()
    schedule = kept.schedule
    assert (schedule.optimiser, schedule.steps, schedule.batch) == ("plain_sgd", 30, 3)
    assert schedule.rates == (schedule.peak_rate,)
    assert len(kept.recipes) == 3  # no views but the items, with labels that were learnt
    assert np.allclose(kept.soft_labels.sum(1), 1, atol=1e-2)
    assert kept.soft_labels.max() < 1
    result = evaluate(run, Plan((0,), ("distilled", "full")), ALONE)
    assert result["distilled"]["uar_mean"] > result["full"]["uar_mean"] - 0.1
    assert result["distilled"]["uar_mean"] > result["init"]["uar"] + 0.2
    bank = prepare(settings(file, "mtt", **{**own, "mtt.plain_steps": 0}), ALONE).settings
    assert bank.views > 1
    with pytest.raises(SettingsError, match=r"--views 8 has no effect: mtt\.plain_steps"):
        prepare(settings(file, "mtt", **{**own, "views": 8}), ALONE)


@pytest.mark.parametrize("method", LOOPS)
def test_a_loop_that_was_stopped_ends_with_the_same_bits(file: Path, method: str, tmp_path: Path) -> None:
    more = {"mtt.expert_span": 1, "mtt.max_start_epoch": 1, "mtt.first_max_start_epoch": 1} if method == "mtt" else {}
    material = prepare(settings(file, method, **more), ALONE)

    def stop(done: int, _words: str) -> None:
        if done == 5:
            raise KeyboardInterrupt

    states = []
    for name, advance in (("whole", lambda *_: None), ("cut", stop)):
        run = open_run(tmp_path / name, material.settings, resume=False)
        assignment = assign(run, material, ALONE)
        if name == "cut":
            with pytest.raises(KeyboardInterrupt):
                run_method(run, assignment, advance)
        states.append(run_method(run, assignment, lambda *_: None))
    assert set(states[0]) == set(states[1])
    for name, array in states[0].items():
        assert array.tobytes() == states[1][name].tobytes(), name


@pytest.mark.parametrize("start", ["mix", "real", "centroids"])
def test_other_starts_are_other_items(file: Path, start: str) -> None:
    decided = (
        prepare(settings(file, "kip"), ALONE).settings.start,
        prepare(settings(file, "invert"), ALONE).settings.start,
    )
    assert decided == ("centroids", "mix")
    assert prepare(settings(file, "gradmatch", start=start), ALONE).settings.start == start


@pytest.mark.parametrize(("method", "start"), [*((name, "") for name in NEW), ("mtt", "centroids")])
def test_log_mels_are_refused_in_one_line(method: str, start: str) -> None:
    with pytest.raises(SettingsError, match=r"^--(method|from) \w+ works on vectors, not on log-mels$") as caught:
        prepare(settings_of({"corpus": "demo", "method": method, "ipc": 2, "start": start}), ALONE)
    assert "--encoder" in caught.value.hint


def test_the_verb_lists_them(capfd: pytest.CaptureFixture[str]) -> None:
    for words, expected in ((["methods"], set(METHODS)), (["methods", "kip"], {"kip.iterations", "kip.ridge"})):
        with pytest.raises(SystemExit):
            main([*words, "--json"])
        found = json.loads(capfd.readouterr().out)
        assert expected <= (set(found["methods"]) if "methods" in found else {row["key"] for row in found["settings"]})
