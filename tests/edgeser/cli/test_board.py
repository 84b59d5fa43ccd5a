"""The board's verbs as users start them: real processes, from a kit to events."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from device.kits import LABELS, write_kit, write_run

from edgeser.cli import board
from edgeser_device.bench.bench import Bench
from edgeser_export.graph.transform import CUTS
from edgeser_export.runtimes import RUNTIMES
from edgeser_export.writers.formats import FORMATS

Run = Callable[..., subprocess.CompletedProcess[str]]

DEMO = files("edgeser.corpora").joinpath("demo_data")
HOST_ONLY = {"torch", "librosa", "sklearn", "matplotlib", "onnx", "scipy", "joblib", "pandas"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, a kit, a trained model and a recording."""
    place = tmp_path_factory.mktemp("board")
    write_kit(place)
    command = [
        sys.executable,
        "-m",
        "edgeser",
        "train-on-device",
        str(place / "test.edgeser"),
        "--out",
        str(place / "model"),
    ]
    done = subprocess.run([*command, "--threads", "1", "--json"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (place / "trained.json").write_text(done.stdout)
    samples = 0.1 * np.random.default_rng(0).standard_normal(64_000)
    soundfile.write(place / "noise.wav", samples.astype(np.float32), 16000)
    return place


def test_training_prints_one_object(folder: Path) -> None:
    found = json.loads((folder / "trained.json").read_text())
    assert set(found) >= {"uar", "steps", "seconds", "peak_rss_mb", "first_step_s", "backend", "kit_sha256"}
    assert found["uar"] is None
    assert found["uar_packed"] == 0.9
    assert found["steps"] == 40
    assert found["total_seconds"] > found["seconds"]


def test_packing_inspecting_and_training(tmp_path: Path, run_edgeser: Run) -> None:
    run = write_run(tmp_path / "run")
    packed = json.loads(run_edgeser("pack", run, "--target", "rpi4", "--out", "a.edgeser", "--json", check=True).stdout)
    assert packed["bytes"] == (tmp_path / "a.edgeser").stat().st_size
    words = run_edgeser("inspect", "a.edgeser", check=True).stdout
    for expected in ("distilled.safetensors", "anger, neutral, sadness", "Raspberry Pi 4", "Prohibited"):
        assert expected in words
    manifest = json.loads(run_edgeser("inspect", "a.edgeser", "--json", check=True).stdout)
    assert manifest["sha256"] == packed["sha256"]
    assert "steps/adamw-full-16.onnx" in manifest["members"]
    for steps in (1, 2):
        words = run_edgeser("train-on-device", "a.edgeser", "--out", "m", "--steps", steps, check=True).stdout
        assert re.search(rf"\b{steps} steps? in", words)
    back = json.loads(run_edgeser("rollback", "m", "--json", check=True).stdout)
    assert back["training"]["steps"] == 1
    assert (back["now"]["steps"], back["aside"]["steps"]) == (1, 2)
    assert back["now"]["kit"] == "a.edgeser"
    now, aside = run_edgeser("rollback", "m", check=True).stdout.splitlines()
    assert now.startswith(f"m is now: a.edgeser ({packed['sha256'][:12]}), 2 steps, no own clips, made ")
    assert aside.startswith(f"put aside: a.edgeser ({packed['sha256'][:12]}), 1 steps, no own clips, made ")


def test_scoring_uses_the_kits_test_speakers(folder: Path, tmp_path: Path, run_edgeser: Run) -> None:
    test = ("--test", DEMO, "--corpus", "demo", "--json")
    few = ("--steps", 2, "--threads", 1)
    done = run_edgeser("train-on-device", folder / "test.edgeser", "--out", "m", *few, *test, check=True)
    found = json.loads(done.stdout)
    assert found["uar"] == pytest.approx(np.mean(list(found["test"]["recalls"].values())), abs=1e-6)
    assert found["test"]["part"] == "test"
    assert found["test"]["utterances"] == 24  # 8 of one speaker for each of the model's three emotions
    assert found["test"]["left_out"] == 8
    bench = json.loads(run_edgeser("bench", "m", "--threads", 1, "--repeat", 3, *test, check=True).stdout)
    assert len(bench["results"]) == 4
    floats = [row["uar"] for row in bench["results"] if row["precision"] == "float32"]
    assert floats == [found["uar"]] * 2
    assert json.loads((tmp_path / "m" / "model.json").read_text())["tested"] == found["test"]


@pytest.mark.slow
def test_scoring_on_other_recordings(folder: Path, tmp_path: Path, run_edgeser: Run) -> None:
    for emotion in ("anger", "sadness"):
        for speaker in ("a", "b"):
            (tmp_path / "own" / emotion).mkdir(parents=True, exist_ok=True)
            (tmp_path / "own" / emotion / f"{speaker}_1.wav").write_bytes((folder / "noise.wav").read_bytes())
    test = ("--test", tmp_path / "own", "--corpus", "folder", "--json")
    done = run_edgeser("bench", folder / "model", "--threads", 1, "--repeat", 3, *test)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["results"][0]
    assert found["test"]["part"] == "all"
    assert found["uar"] in (0.0, 0.5)
    (tmp_path / "own" / "anger").rename(tmp_path / "own" / "fear")
    (tmp_path / "own" / "sadness").rename(tmp_path / "own" / "joy")
    done = run_edgeser("bench", folder / "model", "--threads", 1, "--repeat", 3, *test)
    assert done.returncode == 2
    assert "no recording of anger, neutral, sadness" in done.stderr


def test_prediction_in_every_form(folder: Path, run_edgeser: Run) -> None:
    model, file = folder / "model", folder / "noise.wav"
    found = json.loads(run_edgeser("predict", model, file, "--json", check=True).stdout)
    assert found["labels"] == list(LABELS)
    assert len(found["predictions"]) == 1
    assert set(found["predictions"][0]["probabilities"]) == set(LABELS)
    rows = list(csv.DictReader(io.StringIO(run_edgeser("predict", model, file, "--csv", check=True).stdout)))
    assert (rows[0]["emotion"] or None, rows[0]["state"]) == (
        found["predictions"][0]["emotion"],
        found["predictions"][0]["state"],
    )
    assert float(rows[0]["anger"]) == found["predictions"][0]["probabilities"]["anger"]
    assert rows[0]["state"] in run_edgeser("predict", model, file, check=True).stdout
    listed = json.loads(run_edgeser("predict", model, file, "--segments", "--json", check=True).stdout)
    assert listed.keys() >= {"labels", "segments", "skipped"}


def test_prediction_of_a_folder_names_what_it_skipped(folder: Path, tmp_path: Path, run_edgeser: Run) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    (clips / "a.wav").write_bytes((folder / "noise.wav").read_bytes())
    (clips / "b.wav").write_bytes(b"garbage")
    done = run_edgeser("predict", folder / "model", clips, "--json", check=True)
    found = json.loads(done.stdout)
    assert [len(found[key]) for key in ("predictions", "skipped")] == [1, 1]
    assert "cannot be decoded" in done.stderr
    (clips / "a.wav").unlink()
    assert run_edgeser("predict", folder / "model", clips).returncode == 2


def test_listening_prints_an_event_each_half_second(folder: Path, run_edgeser: Run) -> None:
    done = run_edgeser("listen", folder / "model", "--wav", folder / "noise.wav", "--json", check=True)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(events) == 7
    keys = {"t", "emotion", "probabilities", "speech", "level_db", "latency_ms"}
    assert all(keys <= set(event) for event in events)
    assert events[0]["t"] == pytest.approx(0.512)
    assert (
        len(run_edgeser("listen", folder / "model", "--wav", folder / "noise.wav", check=True).stdout.splitlines()) == 7
    )


def test_a_reader_that_leaves_ends_the_listening(folder: Path) -> None:
    command = [sys.executable, "-m", "edgeser", "listen", str(folder / "model"), "--wav", str(folder / "noise.wav")]
    command += ["--json", "--realtime"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert json.loads(child.stdout.readline())["t"] > 0
        child.stdout.close()
        assert child.wait(timeout=30) == 0
        assert "Traceback" not in child.stderr.read()


def test_a_benchmark_and_its_gate(folder: Path, run_edgeser: Run) -> None:
    few = ("--threads", 1, "--repeat", 5)
    done = run_edgeser("bench", folder / "model", *few, "--json", check=True)
    found = json.loads(done.stdout)
    files = {(row["format"], row["precision"]) for row in found["results"]}
    assert files == {(kind, precision) for kind in ("onnx", "tflite") for precision in ("float32", "int8")}
    assert (found["recommended"]["format"], found["recommended"]["precision"]) in files
    assert found["machine"]["cpu"]
    gate = run_edgeser(
        "bench", folder / "model", "--runtime", "litert", "--threads", 1, "--repeat", 5, "--budget-ms", "1e-6"
    )
    assert gate.returncode == 1
    assert "error: no file keeps the budget" in gate.stderr
    lines = [line.split() for line in gate.stdout.splitlines() if line.startswith(("file", "tflite"))]
    header, row, _ = lines
    assert (header[0], header[-1], len(header) + 1) == ("file", "UAR", len(row))
    assert row[:4] == ["tflite", "float32", "litert", "1"]


@pytest.mark.parametrize("name", ["onnx", "tflite", "int8.onnx", "int8.tflite"])
def test_an_export_is_what_training_wrote(folder: Path, tmp_path: Path, run_edgeser: Run, name: str) -> None:
    (tmp_path / "out").mkdir()
    asked = ("--format", name.removeprefix("int8."), *(["--int8"] if name.startswith("int8") else []))
    run_edgeser("export", folder / "model", "--format", "onnx", "--out", "out", check=True)
    (tmp_path / "out" / "mine.txt").write_text("stays")
    done = run_edgeser("export", folder / "model", *asked, "--out", "out", "--json", check=True)
    assert json.loads(done.stdout)["parity"]["passed"]
    assert (tmp_path / "out" / f"student.{name}").read_bytes() == (folder / "model" / f"student.{name}").read_bytes()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "mine.txt",
        "parity.json",
        "student.onnx",
        f"student.{name}",
    }


def test_exports_share_a_folder_and_say_what_they_lost(folder: Path, tmp_path: Path, run_edgeser: Run) -> None:
    for name in ("onnx", "tflite"):
        done = run_edgeser("export", folder / "model", "--format", name, "--out", "out", "--json", check=True)
        found = json.loads(done.stdout)
        assert found["drop"] == {"measure": "agreement", "before": 1.0, "after": 1.0, "drop": 0.0}
        assert found["uar"] is None
    assert {row["format"] for row in json.loads((tmp_path / "out" / "parity.json").read_text())["rows"]} == {
        "onnx",
        "tflite",
    }
    assert run_edgeser("export", folder / "model", "--format", "onnx", "--out", folder / "model").returncode == 2


def test_an_export_is_scored_on_recordings(folder: Path, run_edgeser: Run) -> None:
    test = ("--test", DEMO, "--corpus", "demo", "--max-drop", "0.02")
    found = run_edgeser("export", folder / "model", "--format", "tflite", "--out", "out", *test, "--json", check=True)
    drop = json.loads(found.stdout)["drop"]
    assert drop["measure"] == "uar"
    assert abs(drop["drop"]) <= 0.02
    assert json.loads(found.stdout)["uar"] == drop["after"]
    assert run_edgeser("export", folder / "model", "--format", "onnx", "--max-drop", "3").returncode == 2


def test_own_clips(folder: Path, tmp_path: Path, run_edgeser: Run) -> None:
    """Whatever is decided, the exit code, the JSON and the folder agree on it."""
    for label in ("anger", "neutral", "sadness"):
        (tmp_path / "clips" / label).mkdir(parents=True)
        for number in (1, 2):
            clip = DEMO.joinpath(f"f1_{label}_0{number}.ogg")
            (tmp_path / "clips" / label / clip.name).write_bytes(clip.read_bytes())
    shutil.copytree(folder / "model", tmp_path / "model")
    command = ("train-on-device", folder / "test.edgeser", "--out", "model", "--clips", "clips", "--threads", "1")
    done = run_edgeser(*command, "--adapt", "head", "--max-forget", "1", "--json")
    found = json.loads(done.stdout)
    assert found["steps"] == 40  # of the model that was there
    assert set(found["personal"]) >= {"installed", "reason", "part", "trial", "forgetting", "seconds", "clips"}
    assert found["personal"]["left_out"] == []
    assert {label: right["clips"] for label, right in found["personal"]["trial"]["emotions"].items()} == {
        "anger": 2, "neutral": 2, "sadness": 2
    }  # fmt: skip
    assert found["identity"]["own_clips"] == (6 if found["personal"]["installed"] else 0)
    warned = [line.split("clips of ")[1].split()[0] for line in done.stderr.splitlines() if line.startswith("warning")]
    assert warned == found["personal"]["trial"]["collapsed"]
    assert done.returncode == (0 if found["personal"]["installed"] else 1)
    assert (tmp_path / "model" / "base.safetensors").exists() == found["personal"]["installed"]
    if not found["personal"]["installed"]:
        assert "error: the old model was kept" in done.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--adapt", "head"), "--adapt belongs to --clips"),
        (("--max-forget", "0.1"), "--max-forget belongs to --clips"),
        (("--clips", "nowhere"), "there is no folder nowhere"),
    ],
)
def test_flags_of_own_clips(flags: tuple[str, ...], words: str, folder: Path, run_edgeser: Run) -> None:
    done = run_edgeser("train-on-device", folder / "test.edgeser", "--out", "model", *flags)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 2


@pytest.mark.parametrize("content", [b"garbage", b"", b"RIFF\x24\0\0\0WAVEfmt "])
@pytest.mark.parametrize("trained", [False, True])
def test_too_few_clips_that_can_be_read_stop_before_anything_is_written(
    content: bytes, trained: bool, folder: Path, tmp_path: Path, run_edgeser: Run
) -> None:
    for label in ("anger", "sadness"):
        (tmp_path / "clips" / label).mkdir(parents=True)
        for number in (1, 2):
            clip = DEMO.joinpath(f"f1_{label}_0{number}.ogg")
            (tmp_path / "clips" / label / clip.name).write_bytes(clip.read_bytes())
    (tmp_path / "clips" / "anger" / clip.name).write_bytes(content)
    (tmp_path / "clips" / "anger" / "f1_anger_02.ogg").unlink()
    if trained:
        shutil.copytree(folder / "model", tmp_path / "model")
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    done = run_edgeser("train-on-device", folder / "test.edgeser", "--out", "model", "--clips", "clips")
    assert (done.returncode, done.stdout) == (2, "")
    problem, hint = done.stderr.splitlines()
    assert problem.startswith("error: ")
    assert clip.name in problem
    assert hint.startswith("hint: ")
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize(
    "words",
    [
        ("train-on-device", "test.edgeser", "--out", "new"),
        ("predict", "model", "noise.wav"),
        ("bench", "model"),
        ("export", "model", "--format", "onnx", "--out", "new"),
        ("listen", "model", "--wav", "noise.wav"),
    ],
    ids=lambda words: words[0],
)
def test_a_32_bit_system_is_named_before_anything_is_tried(words: tuple[str, ...], folder: Path) -> None:
    """The whole program, in a Python whose largest size is that of a 32-bit one, without the packages missing there."""
    program = (
        "import sys; from edgeser.cli.entry import main; sys.maxsize = 2**31 - 1\n"
        "for name in ('onnxruntime', 'ai_edge_litert', 'onnx', 'safetensors'): sys.modules[name] = None\n"
        "main(sys.argv[1:])"
    )
    before = sorted(folder.rglob("*"))
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    problem, hint = done.stderr.splitlines()
    assert problem == "error: this system is 32-bit, for which neither onnxruntime nor LiteRT is built"
    assert hint.startswith("hint: install the 64-bit Raspberry Pi OS")
    assert sorted(folder.rglob("*")) == before


def test_the_names_in_the_help_are_those_of_the_tables() -> None:
    def listed(names: str) -> list[str]:
        return names.replace(" or ", ", ").split(", ")

    assert listed(board.FORMAT_NAMES) == [row.name for row in FORMATS.values() if row.precision == "float32"]
    assert listed(board.RUNTIME_NAMES) == list(RUNTIMES)
    assert listed(board.PART_NAMES) == list(CUTS)


def test_names_of_files_are_not_markup_and_lines_in_a_pipe_are_whole(
    folder: Path, tmp_path: Path, run_edgeser: Run
) -> None:
    clips = tmp_path / f"{'long' * 12}"
    clips.mkdir()
    for name in ("clip[bold].wav", "clip[red]:smile:.wav"):
        (clips / name).write_bytes((folder / "noise.wav").read_bytes())
    lines = run_edgeser("predict", folder / "model", clips, check=True).stdout.splitlines()
    assert len(lines) == 3
    assert f"{clips / 'clip[bold].wav'} " in lines[1]
    assert f"{clips / 'clip[red]:smile:.wav'} " in lines[2]


def test_a_folder_that_is_no_model_survives_the_command(folder: Path, tmp_path: Path, run_edgeser: Run) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    done = run_edgeser("train-on-device", folder / "test.edgeser", "--out", ".")
    assert done.returncode == 2
    assert "is no model that edgeser wrote" in done.stderr
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_each_runtime_is_scored_by_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    same = {"format": "tflite", "precision": "float32", "threads": 1, "frontend_ms_p50": 1.0, "model_ms_p50": 1.0}
    rows = [{**same, "runtime": name} for name in ("litert", "another")]
    asked: list[tuple[str, str]] = []

    def tested(model: Path, folder: Path, corpus: str, files: list[tuple[str, str]]) -> list[dict[str, float]]:
        asked.extend(files)
        return [{"uar": float(number)} for number, _ in enumerate(files)]

    monkeypatch.setattr(board, "_tested", tested)
    monkeypatch.setattr("edgeser_device.model.model.load_model", lambda _: SimpleNamespace(formats=("tflite",)))
    monkeypatch.setattr("edgeser_device.bench.bench.run_bench", lambda *_: Bench(tuple(rows), (), {}))
    board.bench(Path("m"), threads=1, test=tmp_path, corpus="demo", as_json=True)
    assert asked == [("tflite", "another"), ("tflite", "litert")]
    assert [row["uar"] for row in json.loads(capsys.readouterr().out)["results"]] == [1.0, 0.0]


def test_the_doctor(run_edgeser: Run) -> None:
    found = json.loads(run_edgeser("doctor", "--json", check=True).stdout)
    assert found["ok"]
    assert "onnxruntime" in run_edgeser("doctor", check=True).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("listen", "MODEL", "--device", "no such microphone"), "microphone|neither PortAudio nor arecord"),
        (("listen", "MODEL", "--wav", "none.wav"), "is not a file"),
        (("predict", "MODEL", "none.wav"), "there is no file"),
        (("predict", "MODEL", "none.wav", "--json", "--csv"), "not both"),
        (("predict", "none", "none.wav"), "is not a model folder"),
        (("inspect", "none.edgeser"), "there is no kit"),
        (("train-on-device", "none.edgeser", "--out", "m"), "there is no kit"),
        (("train-on-device", "KIT", "--out", "m", "--test", "x"), "belong together"),
        (("train-on-device", "KIT", "--out", "m", "--memory-mb", "1"), "training needs at least"),
        (("rollback", "none"), "no earlier model"),
        (("export", "MODEL", "--format", "onx"), "there is no format"),
        (("bench", "MODEL", "--runtime", "tensorflow"), "there is no runtime"),
        (("pack", "none", "--target", "rpi4", "--out", "k"), "is not there"),
        (("pack", "none", "--target", "rpi9", "--out", "k"), "there is no target"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_use_is_one_line_and_a_hint(
    folder: Path, run_edgeser: Run, arguments: tuple[str, ...], message: str
) -> None:
    places = {"MODEL": folder / "model", "KIT": folder / "test.edgeser"}
    done = run_edgeser(*(places.get(word, word) for word in arguments))
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 2, done.stderr
    assert lines[0].startswith("error: ")
    assert re.search(message, lines[0])
    assert lines[1].startswith("hint: ")


@pytest.mark.parametrize(
    "verb", ["pack", "inspect", "train-on-device", "rollback", "export", "predict", "bench", "listen", "doctor"]
)
def test_help_has_an_example(run_edgeser: Run, verb: str) -> None:
    assert f"Example: edgeser {verb}" in run_edgeser(verb, "--help", check=True).stdout


def test_the_training_process_loads_nothing_of_the_host(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "edgeser", "train-on-device", str(folder / "test.edgeser")]
    command += ["--out", str(tmp_path / "m"), "--steps", "2", "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
    assert {"numpy", "onnxruntime", "edgeser_device"} <= loaded
    assert loaded & (HOST_ONLY | {"soundfile", "ai_edge_litert", "rich"}) == set()


@pytest.mark.slow
def test_a_killed_training_goes_on_from_the_command_line(folder: Path, tmp_path: Path, run_edgeser: Run) -> None:
    """As a service would: killed after its first checkpoint, started again with the same line."""
    import time

    line = [str(folder / "test.edgeser"), "--out", str(tmp_path / "m"), "--steps", "1500", "--threads", "1", "--resume"]
    child = subprocess.Popen([sys.executable, "-m", "edgeser", "train-on-device", *line], env=dict(os.environ))
    for _ in range(1200):
        if (tmp_path / "m.checkpoint").exists():
            break
        time.sleep(0.05)
    child.kill()
    child.wait()
    found = json.loads(run_edgeser("train-on-device", *line, "--json", check=True).stdout)
    assert 0 < found["resumed_at"] < 1500
    assert run_edgeser("train-on-device", *line[:2], str(tmp_path / "whole"), *line[3:], check=True)
    assert (tmp_path / "m" / "student.onnx").read_bytes() == (tmp_path / "whole" / "student.onnx").read_bytes()
