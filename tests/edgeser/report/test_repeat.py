"""The commands of the page make what the run is."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from edgeser.cli.app import app
from edgeser.cli.host import _settings
from edgeser.cli.options import texts_in
from edgeser.config.settings import JOINED, VECTORS, Settings
from edgeser.config.values import settings_of
from edgeser.distill.registry import METHODS
from edgeser.evaluation.cross_corpus import label_map
from edgeser.report.repeat import commands, distill_command, evaluate_command
from edgeser_device.kit.kit import read_kit

DEMO = Path(str(files("edgeser.corpora").joinpath("demo_data")))


def read_back(command: str) -> Settings:
    """What the program makes of a command."""
    program, verb, *words = shlex.split(command)
    assert (program, verb) == ("edgeser", "distill")
    distill = get_command(app).commands["distill"]
    context = distill.make_context("distill", words)
    given = context.params
    return _settings(texts_in(context), given["folder"], {name: given[name] for name in (VECTORS, JOINED)}, None)


@pytest.mark.parametrize("method", METHODS)
def test_the_command_gives_the_settings_of_the_run(method: str) -> None:
    settings = settings_of({"method": method, "corpus": "demo", "ipc": 6})
    assert read_back(distill_command(settings)) == settings


@pytest.mark.parametrize(
    "values",
    [
        {"ipc": 0, "share": 0.0561234567},
        {"peak_rate": 0.00123456789, "weight_decay": 1e-7, "start": "real", "experts.arch": "cnn6"},
        {"mtt.sam": 0.1, "mtt.item_rate": 1e-5, "mtt.memory": "lean"},
        {"split": "fold:3", "seed": 17, "width": 0.25, "views": 128, "labels": "soft", "patience": 4},
    ],
)
def test_settings_that_differ_are_named_exactly(values: dict[str, object]) -> None:
    settings = settings_of({"method": "mtt", "corpus": "demo", "ipc": 6, **values})
    assert read_back(distill_command(settings)) == settings


@pytest.mark.parametrize("iterations", [40, 0])
def test_what_the_start_decides_is_left_to_it(iterations: int) -> None:
    settings = settings_of(
        {"method": "invert", "corpus": "demo", "ipc": 6, "start": "noise", "invert.iterations": iterations}
    )
    command = distill_command(settings)
    assert ("--set invert.iterations=40" in command) == (iterations == 40)
    assert read_back(command) == settings


def test_defaults_are_not_named_and_folders_neither() -> None:
    settings = settings_of({"corpus": "ravdess", "folder": "/some/where", "ipc": 6})
    assert distill_command(settings) == "edgeser distill DIR --corpus ravdess --ipc 6 --out RUN"


@pytest.mark.parametrize("changed", [{}, {"method": "herding"}, {"seed": 3, "split": "quick"}])
def test_a_run_of_vectors_is_repeated_from_a_file(changed: dict[str, object], tmp_path: Path) -> None:
    method = changed.get("method", "gan")
    settings = settings_of({"method": method, "corpus": "features", "folder": "/some/where.npz", "ipc": 6, **changed})
    command = distill_command(settings)
    assert command.startswith("edgeser distill --features FILE ")
    (tmp_path / "vectors.npz").touch()
    there = read_back(command.replace("FILE", str(tmp_path / "vectors.npz")))
    assert replace(there, folder="/some/where.npz") == settings


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
    metrics["on"] = [entry, {**entry, "corpus": "demo"}]
    found = commands(Settings("demo", ipc=6), metrics, None)[2:4]
    maps = "--map happiness=surprise --map calm= --seeds 3"
    assert found[0] == f"edgeser evaluate RUN --on DIR-emodb --corpus emodb {maps}"
    assert found[1] == f"edgeser evaluate RUN --corpus demo {maps}"
    evaluate = get_command(app).commands["evaluate"]
    given = evaluate.make_context("evaluate", [word.replace("RUN", ".") for word in shlex.split(found[0])[2:]]).params
    labels = label_map(("anger", "calm", "happiness"), ("anger", "calm", "sadness", "surprise"), given["labels"])
    assert labels == entry["labels"]
    assert (str(given["on"]), given["corpus"], given["seeds"]) == ("DIR-emodb", "emodb", 3)


def test_the_program_understands_all_commands() -> None:
    known = get_command(app).commands
    lines = commands(Settings("demo", ipc=6), {"seeds": [0]}, {"command": "edgeser audit RUN --shadows 8"})
    assert [shlex.split(line)[1] for line in lines] == ["distill", "evaluate", "audit", "report", "pack"]
    for line in lines:
        _, verb, *words = shlex.split(line)
        known[verb].make_context(verb, [word.replace("RUN", ".") for word in words])


OWN = "a corpus of one's own"
"""A folder's name that a shell does not take as it is."""


@pytest.mark.slow
def test_the_commands_of_a_page_repeat_a_run_in_a_shell(run_edgeser: Callable[..., Any], tmp_path: Path) -> None:
    """Everything that a page can name: a corpus of one's own, another one, other rows, students and an audit."""
    for path in sorted(DEMO.glob("[fm][123]_*_0[12].ogg")):
        speaker, emotion, number = path.stem.split("_")
        folder = tmp_path / OWN / {"happiness": "surprise"}.get(emotion, emotion)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / f"{speaker}_{number}.ogg")
    few = ("--ipc", "1", "--experts", "1", "--expert-steps", "20", "--steps", "20", "--views", "4", "--width", "0.25")
    for words in (
        ("distill", OWN, "--corpus", "folder", "--method", "random", *few, "--out", "first"),
        ("evaluate", "first", "--full", "--baselines", "--arch", "edgenet:0.5", "--convergence", "--seeds", "2"),
        ("evaluate", "first", "--corpus", "demo", "--map", "surprise=happiness", "--map", "sadness=", "--seeds", "2"),
        ("audit", "first", "--shadows", "4", "--expert-steps", "10", "--no-sounds"),
        ("report", "first", "--items", "4"),
    ):
        run_edgeser(*words, "--jobs", "1", check=True)
    (text,) = re.findall(r'id="repeat">.*?<pre>(.*?)</pre>', (tmp_path / "first/report.html").read_text(), re.DOTALL)
    script = f'set -e\nedgeser() {{ {shlex.quote(sys.executable)} -m edgeser "$@"; }}\n{unescape(text)}'
    for word, place in ((r"\bRUN\b", "second time"), (r"\bDIR\b", OWN)):
        script = re.sub(word, lambda _, place=place: shlex.quote(place), script)
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, f"{script}\n{done.stderr}"
    first, again = tmp_path / "first", tmp_path / "second time"
    name = "distilled.safetensors"
    assert (first / name).read_bytes() == (again / name).read_bytes()
    kept = ("distilled", "full", "baselines", "transfer", "on", "seeds")
    before, after = (json.loads((run / "metrics.json").read_text()) for run in (first, again))
    assert {key: before[key] for key in kept} == {key: after[key] for key in kept}
    assert after["convergence"] is not None
    assert read_kit(tmp_path / "second time.edgeser").labels == ("anger", "neutral", "sadness", "surprise")
