"""Evaluation: the keys that programs read, figures that repeat, and baselines that are fair."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeser.config.settings import Settings
from edgeser.distill.pipeline import distill, prepare
from edgeser.errors import RunError, SettingsError
from edgeser.evaluation.conditions import BASELINES, Bench, init_score, measure, random_choice
from edgeser.evaluation.evaluate import Plan, Shelf, evaluate, evaluate_each, open_bench, other_students
from edgeser.models.students import build
from edgeser.run import Run, open_run
from edgeser.workers import Workers

ALONE = Workers(1)
FULL = ("full", "full_soft")
EVERYTHING = Plan((0, 1), ("distilled", *FULL, *BASELINES), transfer=("edgenet:0.5",), convergence=(0.5, 1.0))


def silent(words: str) -> None:
    """Nobody is told."""


@pytest.fixture(scope="module")
def run(tiny: Settings, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return distill(tiny, tmp_path_factory.mktemp("evaluated") / "run", ALONE, resume=False, warn=silent)


@pytest.fixture(scope="module")
def result(run: Run) -> dict[str, object]:
    return evaluate(run, EVERYTHING, ALONE)


@pytest.fixture(scope="module")
def bench(run: Run) -> Bench:
    return open_bench(run, run.distilled(), Shelf(ALONE))[0]


def test_every_promised_key_is_there(result: dict[str, object], run: Run) -> None:
    assert set(result) >= {"full", "distilled", "init", "baselines", "split", "seeds"}
    assert set(result["full"]) >= {"uar_mean", "uar_std"}
    assert set(result["distilled"]) >= {"uar_mean", "uar_std", "ratio", "share", "ipc", "bytes"}
    assert set(result["baselines"]) == {"random", "random_soft", "random_bank", "random_bank_bytes"}
    assert set(result["init"]) == {"uar"}
    assert result["seeds"] == [0, 1]
    assert result["distilled"]["ipc"] == 2
    assert result["distilled"]["bytes"] == (run.folder / "distilled.safetensors").stat().st_size
    assert result["split"]["name"] == "quick"
    assert result["machine"]["cpu"]
    json.dumps(result, allow_nan=False)


def test_figures_hang_together(result: dict[str, object]) -> None:
    full = [result[row] for row in FULL]
    rows = [*full, result["distilled"], *result["baselines"].values(), *result["transfer"].values()]
    for row in rows:
        assert row["uar_mean"] == pytest.approx(np.mean(row["uar"]), abs=1e-6)
        assert row["uar_std"] is None, "two trainings say nothing of how widely they vary"
        assert all(0 <= value <= 1 for value in row["uar"])
        # Every class occurs in the test part, so the mean of the classes' mean recalls is the mean UAR.
        assert np.mean(list(row["recalls"].values())) == pytest.approx(row["uar_mean"], abs=1e-6)
    for ratio, row in (("ratio", "full"), ("ratio_soft", "full_soft")):
        expected = result["distilled"]["uar_mean"] / result[row]["uar_mean"]
        assert result["distilled"][ratio] == pytest.approx(expected)
    assert result["distilled"]["ratio_best"] is None


def test_details_are_of_the_same_trainings_as_the_rows(result: dict[str, object]) -> None:
    details = result["details"]
    measured = {name: row for name, row in result["baselines"].items() if "same_as" not in row}
    measured |= {name: result[name] for name in ("distilled", *FULL)}
    assert set(details) == {*measured, "init", "experts"}
    for name, row in measured.items():
        table, speakers = np.array(details[name]["confusion"]), details[name]["speakers"]
        assert table.sum() == 2 * 64
        assert np.diag(table) / table.sum(1) == pytest.approx(list(row["recalls"].values()))
        assert sum(each["clips"] for each in speakers.values()) == 64
        assert set(speakers) == set(result["split"]["test"]["speakers"])
        # The demo's speakers have as many clips of each class, so their mean is the UAR of each seed.
        by_seed = np.mean([each["uar"] for each in speakers.values()], axis=0)
        assert by_seed == pytest.approx(row["uar"], abs=2e-6)
        assert details[name]["interval"] is None  # two test speakers
    assert np.trace(details["experts"]["confusion"]) / 64 == pytest.approx(result["experts"]["uar"])


def test_the_same_object_is_written_to_the_run(result: dict[str, object], run: Run) -> None:
    assert run.metrics() == json.loads(json.dumps(result))


def test_a_measurement_repeats_bit_for_bit(bench: Bench, result: dict[str, object]) -> None:
    for row in ("distilled", *FULL, *BASELINES):
        stored = result[row] if row in result else result["baselines"][row]
        dev, test = measure(row, bench, bench.task.graph, bench.assignment.init, 1)
        assert round(test.uar, 6) == stored["uar"][1], row
        assert dev.confusion.sum() == test.confusion.sum() == 64


@pytest.mark.slow
def test_two_processes_measure_what_one_does(run: Run, result: dict[str, object]) -> None:
    plan = Plan(seeds=(0, 1), rows=("distilled", "random"))
    again = evaluate(run, plan, Workers(2))
    assert again["distilled"]["uar"] == result["distilled"]["uar"]
    assert again["baselines"]["random"]["uar"] == result["baselines"]["random"]["uar"]
    assert again["full"] == result["full"]  # rows of the same seeds are kept beside the new ones
    assert again["distilled"]["ratio"] == result["distilled"]["ratio"]
    assert again["convergence"] == result["convergence"]
    assert again["details"] == result["details"]


@pytest.mark.slow
def test_rows_of_other_seeds_are_not_kept(run: Run, result: dict[str, object], tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run.folder, copy)
    again = evaluate(Run(copy), Plan(seeds=(7,), rows=("distilled",)), ALONE)
    assert (again["full"], again["distilled"]["ratio"], again["baselines"]) == (None, None, {})
    assert again["convergence"] is None
    assert again["distilled"]["uar_std"] is None


def test_a_random_choice_is_balanced_and_differs_by_seed(bench: Bench) -> None:
    choices = [random_choice(bench, seed) for seed in range(5)]
    for chosen in choices:
        assert len(set(chosen.tolist())) == 8
        assert np.bincount(bench.task.labels[chosen]).tolist() == [2, 2, 2, 2]
    assert len({tuple(sorted(chosen.tolist())) for chosen in choices}) == 5


def test_dev_and_test_speakers_are_neither_shared_nor_trained_on(bench: Bench, tiny: Settings) -> None:
    features = prepare(tiny, ALONE).features
    train, dev, test = (set(part.speakers) for part in (features.train, features.dev, features.test))
    assert not (train & dev) | (dev & test) | (train & test)
    assert len(bench.task.clips) == len(features.train)
    assert len(bench.dev.labels) == len(features.dev)
    assert len(bench.test.labels) == len(features.test)
    assert np.array_equal(bench.task.clips, features.train.crops)


def test_the_experts_are_those_that_the_method_had(bench: Bench, run: Run) -> None:
    init = run.init()
    assert all(np.array_equal(bench.assignment.init[name], init[name]) for name in init)
    assert len(bench.assignment.ensemble.members) == run.settings().experts.count


def test_the_untrained_init_is_near_chance(bench: Bench) -> None:
    assert 0.05 < init_score(bench).uar < 0.6  # four classes: chance is 0.25


def test_an_unfinished_run_is_refused(tmp_path: Path, tiny: Settings) -> None:
    with pytest.raises(RunError, match=r"holds no distilled\.safetensors"):
        evaluate(open_run(tmp_path / "run", tiny, resume=False), EVERYTHING, ALONE)


def test_other_students_have_the_width_that_is_named_or_the_runs(result: dict[str, object], run: Run) -> None:
    assert result["transfer"]["edgenet:0.5"]["width"] == 0.5
    assert result["transfer"]["edgenet:0.5"]["parameters"] == build("edgenet", 4, 0.5).parameter_count
    assert other_students(run, ["edgenet", "cnn6", "edgenet:0.25", "cnn6:0.25", "cnn6:0.5"]) == ("cnn6", "cnn6:0.5")
    with pytest.raises(SettingsError, match="names no width"):
        other_students(run, ["cnn6:wide"])


def test_several_runs_are_measured_as_each_of_them_alone(
    run: Run, result: dict[str, object], tiny: Settings, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run.folder, copy)
    (copy / "metrics.json").unlink()
    other = distill(replace(tiny, ipc=1), tmp_path / "other", ALONE, resume=False, warn=silent)
    plan = Plan(seeds=(0, 1), rows=("distilled",))
    first, second = evaluate_each([Run(copy), other], plan, ALONE)
    assert first["distilled"]["uar"] == result["distilled"]["uar"]
    assert second == other.metrics()
    assert second["distilled"]["ipc"] == 1
    assert second["distilled"]["uar"] == evaluate(other, plan, ALONE)["distilled"]["uar"]
