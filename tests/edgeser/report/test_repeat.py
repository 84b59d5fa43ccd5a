"""The commands of the page make what the run is."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

import pytest
from typer.main import get_command

from edgeser.across import label_map
from edgeser.commands.app import app
from edgeser.commands.host import _settings
from edgeser.distill.table import METHODS, settings_for
from edgeser.report.repeat import commands, distill_command, evaluate_command
from edgeser.settings import Settings


def read_back(command: str) -> Settings:
    """What the program makes of a command."""
    program, verb, *words = shlex.split(command)
    assert (program, verb) == ("edgeser", "distill")
    distill = get_command(app).commands["distill"]
    return _settings(distill.make_context("distill", words).params, None, None)


@pytest.mark.parametrize("method", METHODS)
def test_the_command_gives_the_settings_of_the_run(method: str) -> None:
    settings = settings_for(method, corpus="demo", ipc=6)
    assert read_back(distill_command(settings)) == settings


@pytest.mark.parametrize(
    "changed",
    [
        {"ipc": 0, "share": 0.0561234567},
        {"peak_rate": 0.00123456789, "weight_decay": 1e-7, "start_from": "real", "label_arch": "cnn6"},
        {"split": "fold:3", "seed": 17, "width": 0.25, "views": 128, "labels": "soft", "candidates": 4},
    ],
)
def test_settings_that_differ_are_named_exactly(changed: dict[str, object]) -> None:
    settings = replace(settings_for("mtt", corpus="demo", ipc=6), **changed)
    assert read_back(distill_command(settings)) == settings


@pytest.mark.parametrize("iterations", [40, 300])
def test_a_start_with_defaults_of_its_own_is_repeated(iterations: int) -> None:
    settings = settings_for("invert", corpus="demo", ipc=6, start_from="noise", iterations=iterations)
    command = distill_command(settings)
    assert ("--iterations" in command) == (iterations == 40)
    assert read_back(command) == settings


def test_defaults_are_not_named_and_folders_neither() -> None:
    settings = settings_for(Settings("demo", ipc=1).method, corpus="ravdess", folder="/some/where", ipc=6)
    assert distill_command(settings) == "edgeser distill DIR --corpus ravdess --ipc 6 --out RUN"


@pytest.mark.parametrize("changed", [{}, {"method": "herding"}, {"seed": 3, "split": "quick"}])
def test_a_run_of_vectors_is_repeated_from_a_file(changed: dict[str, object]) -> None:
    method = changed.get("method", "gan")
    settings = replace(settings_for(method, corpus="features", folder="/some/where.npz", ipc=6), **changed)
    command = distill_command(settings)
    assert command.startswith("edgeser distill --features FILE ")
    assert replace(read_back(command), folder="/some/where.npz") == settings


def test_an_evaluation_is_repeated_with_its_rows() -> None:
    metrics = {"seeds": [0, 1, 2], "full": {"uar_mean": 0.5}, "full_best": None, "baselines": {"random": {}}}
    assert evaluate_command(metrics) == "edgeser evaluate RUN --full --baselines --seeds 3"
    metrics |= {"convergence": {}, "transfer": {"cnn6:0.25": {}}, "baselines": {}}
    assert evaluate_command(metrics) == "edgeser evaluate RUN --full --arch cnn6:0.25 --seeds 3"
    metrics |= {"convergence": {"target": 0.5}}
    assert "--convergence" in evaluate_command(metrics)


def test_other_corpora_are_repeated_with_their_emotions() -> None:
    metrics: dict[str, Any] = {
        "seeds": [0, 1],
        "distilled": {"recalls": dict.fromkeys(("anger", "calm", "happiness"), 0.5)},
    }
    entry = {"corpus": "emodb", "labels": {"anger": "anger", "happiness": "surprise"}, "seeds": [0, 1, 2]}
    metrics["cross_corpus"] = [entry, {**entry, "corpus": "demo"}]
    found = commands(Settings("demo", ipc=6), metrics, None)[2:4]
    maps = "--map happiness=surprise --map calm= --seeds 3"
    assert found[0] == f"edgeser evaluate RUN --on DIR-emodb --corpus emodb {maps}"
    assert found[1] == f"edgeser evaluate RUN --corpus demo {maps}"
    evaluate = get_command(app).commands["evaluate"]
    given = evaluate.make_context("evaluate", [word.replace("RUN", ".") for word in shlex.split(found[0])[2:]]).params
    labels = label_map(("anger", "calm", "happiness"), ("anger", "calm", "sadness", "surprise"), given["labels"])
    assert labels == entry["labels"]
    assert (str(given["on"]), given["corpus"], given["seeds"]) == ("DIR-emodb", "emodb", 3)


def test_all_commands_are_known() -> None:
    known = set(get_command(app).commands)
    lines = commands(Settings("demo", ipc=6), {"seeds": [0]}, {"command": "edgeser audit RUN --shadows 8"})
    assert [shlex.split(line)[1] for line in lines] == ["distill", "evaluate", "audit", "report", "pack"]
    assert {shlex.split(line)[1] for line in lines} <= known
