"""The host's verbs as users start them: what goes wrong is said in two lines, what goes right is one JSON object."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgeser.cli.entry import main
from edgeser.run import Run

Program = Callable[..., subprocess.CompletedProcess[str]]

TINY = (
    "--ipc", "2", "--width", "0.25", "--views", "4", "--set", "experts.count=1", "--set", "experts.steps=4",
    "--steps", "6", "--method", "random", "--jobs", "1",
)  # fmt: skip


def write_clip(path: Path, seed: int, rate: int = 16000, channels: int = 1, **options: object) -> None:
    """A second of a wavering tone in noise, different for every seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    times = np.arange(rate) / rate
    tone = 0.3 * np.sin(2 * np.pi * (150 + 25 * seed) * times) * (1 + np.sin(2 * np.pi * (2 + seed % 5) * times)) / 2
    noise = np.random.default_rng(seed).normal(0, 0.02, rate)
    soundfile.write(path, np.stack([tone + noise] * channels, axis=1), rate, **options)


def write_corpus(folder: Path, emotions: tuple[str, ...] = ("anger", "neutral"), speakers: str = "abcde") -> Path:
    """Two clips of every speaker in every class."""
    for row, emotion in enumerate(emotions):
        for column, speaker in enumerate(speakers):
            for take in (1, 2):
                write_clip(folder / emotion / f"{speaker}_{take}.wav", 20 * row + 3 * column + take)
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "mine")


@pytest.fixture
def in_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Program:
    """The program's entry point in this process, which has torch already."""

    def run(*words: object, cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(cwd)
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        said = capfd.readouterr()
        return subprocess.CompletedProcess(words, ended.value.code, said.out, said.err)

    return run


def complaint(done: subprocess.CompletedProcess[str]) -> tuple[str, str]:
    """The error and the hint; nothing else may be printed, on either stream."""
    lines = done.stderr.splitlines()
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert len(lines) == 2, done.stderr
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("hint: ")
    assert len(lines[1]) > len("hint: ")
    return lines[0], lines[1]


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        (("--corpus", "folder", "--ipc", "2", "FOLDER", "--arch", "edgnet"), "'edgnet'", "did you mean 'edgenet'?"),
        (("--corpus", "folder", "--ipc", "2", "FOLDER", "--method", "mttt"), "'mttt'", "did you mean 'mtt'?"),
        (("--corpus", "folder", "--ipc", "2", "FOLDER", "--labels", "sofd"), "'sofd'", "did you mean 'soft'"),
        (("--corpus", "folder", "--ipc", "7", "FOLDER"), "'anger' has 6 training items, fewer than --ipc 7", "--ipc 6"),
        (("--corpus", "folder", "--ipc", "2", "--share", "0.1", "FOLDER"), "--ipc and --share", "one of them"),
        (("--corpus", "folder", "FOLDER"), "no budget", "--ipc 6"),
        (("--corpus", "ravdes", "FOLDER"), "ravdes", "ravdess"),
        (("--corpus", "folder", "nowhere"), "nowhere does not exist", "--corpus demo"),
        (("--corpus", "folder", "nowhere", "--share", "9"), "nowhere does not exist", "--corpus demo"),
        (("--features", "nowhere.npz"), "nowhere.npz does not exist", ""),
        (("--corpus", "folder", "--share", "1.5", "FOLDER"), "--share is 1.5", "0 to 1"),
        (("--corpus", "folder", "--ipc", "0", "FOLDER"), "", ""),
        (("--ipc", "2", "FOLDER"), "no corpus is named", "edgeser data list"),
        (("--corpus", "ravdes", "--ipc", "2", "FOLDER"), "ravdes", "ravdess"),
        (("--corpus", "emodb", "--ipc", "2", "FOLDER"), "", ""),
        (("--corpus", "folder", "--ipc", "2", "nowhere"), "nowhere", ""),
        (("--corpus", "folder", "--ipc", "2", "FOLDER", "--split", "fold:99"), "fold:99", ""),
        (("--corpus", "folder", "--ipc", "2", "FOLDER", "--config", "absent.toml"), "absent.toml", "--config"),
        (("--corpus", "folder", "--ipc", "2", "FOLDER", "--epochz", "3"), "epochz", "edgeser distill --help"),
        (("--corpus", "folder", "--ipc", "two", "FOLDER"), "--ipc", "a whole number"),
        (("--corpus", "folder", "--ipc", "2", "FOLDER", "--seed", "-1"), "-1", ""),
    ],
)
def test_wrong_use_is_answered_in_two_lines(
    in_process: Program, corpus: Path, tmp_path: Path, words: tuple[str, ...], error: str, hint: str
) -> None:
    done = in_process("distill", *(corpus if word == "FOLDER" else word for word in words), "--out", tmp_path / "run")
    said, advice = complaint(done)
    assert error in said
    assert hint in advice
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("words", [("--ipc", "2"), ("nowhere", "--corpus", "folder", "--ipc", "2"), ("--epochz", "3")])
def test_the_installed_program_answers_in_two_lines(run_edgeser: Program, words: tuple[str, ...]) -> None:
    complaint(run_edgeser("distill", *words))


def test_an_empty_folder_is_named(in_process: Program, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty" in complaint(in_process("distill", "empty", "--corpus", "folder", "--ipc", "2"))[0]


def test_one_class_alone_cannot_be_told_apart(in_process: Program, tmp_path: Path) -> None:
    write_corpus(tmp_path / "mine", emotions=("anger",))
    assert "class" in complaint(in_process("distill", "mine", "--corpus", "folder", "--ipc", "2"))[0]


def test_one_speaker_alone_cannot_be_split(in_process: Program, tmp_path: Path) -> None:
    write_corpus(tmp_path / "mine", speakers="a")
    assert "speaker" in complaint(in_process("distill", "mine", "--corpus", "folder", "--ipc", "2"))[0]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A distillation of recordings of every kind, three of them bad."""
    place = tmp_path_factory.mktemp("mixed")
    folder = write_corpus(place / "mine")
    write_clip(folder / "anger" / "a_3.wav", 61, rate=8000)
    write_clip(folder / "neutral" / "a_3.wav", 62, rate=44100, channels=2, subtype="PCM_24")
    write_clip(folder / "anger" / "b_3.wav", 63, subtype="FLOAT")
    write_clip(folder / "neutral" / "b_3.flac", 64, rate=48000)
    (folder / "anger" / "c_3.wav").touch()
    (folder / "neutral" / "c_3.wav").write_bytes(b"this is no recording" * 20)
    nan = np.full(16000, 0.1)
    nan[5] = np.nan
    soundfile.write(folder / "neutral" / "d_3.wav", nan, 16000, subtype="FLOAT")
    command = [sys.executable, "-m", "edgeser", "distill", "mine", "--corpus", "folder", *TINY, "--json"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    return place, done


def test_a_distillation_prints_one_object_and_nothing_else(
    mixed: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    place, done = mixed
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    found = json.loads(done.stdout)
    assert found["items"] == 4
    assert found["ipc"] == 2
    assert found["run"] == "run"
    assert found["bytes"] == (place / "run" / "distilled.safetensors").stat().st_size


def test_bad_recordings_are_told_and_left_out_and_unusual_ones_are_used(
    mixed: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    place, done = mixed
    left_out = [line for line in done.stderr.splitlines() if line.startswith("left out: ")]
    assert len(left_out) == 3
    assert {Path(line.split()[2]).name for line in left_out} == {"c_3.wav", "d_3.wav"}
    description = Run(place / "run").description()
    assert len(description["unreadable"]) == 3
    split = description["split"]
    assert sum(split[part]["utterances"] for part in ("train", "dev", "test")) == 20 + 7


def test_progress_is_silent_where_stderr_is_no_terminal(mixed: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    _, done = mixed
    assert "\x1b" not in done.stderr
    assert "\r" not in done.stderr
    assert "%|" not in done.stderr


def test_an_existing_run_is_not_overwritten(
    in_process: Program, mixed: tuple[Path, subprocess.CompletedProcess[str]]
) -> None:
    place, _ = mixed
    words = ("distill", "mine", "--corpus", "folder", *TINY)
    said, advice = complaint(in_process(*words, cwd=place))
    assert "already holds a run" in said
    assert "--resume" in advice
    said, _ = complaint(in_process(*words, "--resume", "--seed", "5", cwd=place))
    assert "seed: 0 in the run, 5 now" in said
    assert json.loads(in_process(*words, "--resume", "--json", cwd=place).stdout)["items"] == 4


def test_flags_come_before_a_configuration_file(in_process: Program, corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('corpus = "folder"\nipc = 1\nseed = 4\n')
    words = ("distill", corpus, "--config", "c.toml", "--ipc", "2", "--dry-run", "--json")
    plan = json.loads(in_process(*words).stdout)
    assert (plan["budget"]["ipc"], plan["seed"]) == (2, 4)
    assert not (tmp_path / "run").exists()


def test_a_dry_run_shows_its_plan_to_people(in_process: Program, corpus: Path, tmp_path: Path) -> None:
    done = in_process("distill", corpus, "--corpus", "folder", "--ipc", "2", "--dry-run")
    for words in ("edgenet", "12", "anger"):
        assert words in done.stdout + done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("verb", [("evaluate",), ("compare",), ("report",)])
def test_a_run_that_is_not_there_is_named(in_process: Program, verb: tuple[str, ...]) -> None:
    assert "nowhere" in complaint(in_process(*verb, "nowhere"))[0]


def test_evaluating_and_comparing_print_one_object(
    in_process: Program, mixed: tuple[Path, subprocess.CompletedProcess[str]]
) -> None:
    place, _ = mixed
    assert "was not evaluated" in complaint(in_process("compare", "run", cwd=place))[0]
    words = ("evaluate", "run", "--seeds", "1", "--full", "--baselines", "--jobs", "1", "--json")
    done = in_process(*words, cwd=place)
    assert done.stdout.count("\n") == 1
    assert set(json.loads(done.stdout)["baselines"]) == {"random", "random_soft", "random_bank", "random_bank_bytes"}
    rows = json.loads(in_process("compare", "run", "run", "--json", cwd=place).stdout)["runs"]
    assert len(rows) == 2
    assert "edgenet" in in_process("compare", "run", cwd=place).stdout


def test_a_report_is_written_where_the_recordings_are_and_refused_where_they_are_gone(
    in_process: Program, mixed: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    place, _ = mixed
    run = tmp_path / "run"
    shutil.copytree(place / "run", run)
    (run / "metrics.json").unlink(missing_ok=True)
    error, hint = complaint(in_process("report", run))
    assert "was not evaluated" in error
    assert f"edgeser evaluate {run} --full --baselines" in hint
    assert in_process("evaluate", run, "--seeds", "1", "--jobs", "1", "--json").returncode == 0
    done = in_process("report", run, "--items", "1", "--json")
    assert done.stdout.count("\n") == 1
    written = json.loads(done.stdout)
    assert Path(written["report"]) == run / "report.html"
    assert written["bytes"] == (run / "report.html").stat().st_size
    assert written["missing"]["full"] == f"edgeser evaluate {run} --full"
    said = in_process("report", run, "--items", "1", "--no-recordings", "--out", "pages/mine.html")
    assert "pages/mine.html" in said.stdout
    assert f"edgeser audit {run} measures it" in said.stderr
    config = (run / "config.toml").read_text()
    (run / "config.toml").write_text(re.sub('folder = ".*"', 'folder = "/nowhere/now"', config))
    error, hint = complaint(in_process("report", run))
    assert "cannot be computed again" in error
    assert f"edgeser report {run} --folder DIR" in hint


def test_runs_are_compared_on_a_page(in_process: Program, mixed: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    place, _ = mixed
    if not (place / "run" / "metrics.json").is_file():
        assert in_process("evaluate", "run", "--seeds", "1", "--jobs", "1", cwd=place).returncode == 0
    assert "end it with .html" in complaint(in_process("compare", "run", "--html", "runs.pdf", cwd=place))[1]
    assert in_process("compare", "run", "run", "--html", "pages/runs.html", cwd=place).returncode == 0
    assert (place / "pages" / "runs.html").read_text().startswith("<!doctype html>")


def test_other_students_and_convergence_are_printed_where_they_are_asked_for(
    in_process: Program, mixed: tuple[Path, subprocess.CompletedProcess[str]]
) -> None:
    place, _ = mixed
    words = ("evaluate", "run", "--seeds", "1", "--full", "--jobs", "1", "--arch", "edgenet:0.5", "--convergence")
    done = in_process(*words, cwd=place)
    assert done.returncode == 0, done.stderr
    assert "to the first" in done.stdout
    assert "a point below" in done.stdout


def test_an_unknown_architecture_to_transfer_to_is_refused(
    in_process: Program, mixed: tuple[Path, subprocess.CompletedProcess[str]]
) -> None:
    place, _ = mixed
    assert "edgnet" in complaint(in_process("evaluate", "run", "--arch", "edgnet", cwd=place))[0]


def test_debugging_shows_the_traceback(run_edgeser: Program) -> None:
    done = run_edgeser("distill", "nowhere", "--corpus", "folder", "--ipc", "2", "--debug")
    assert done.returncode != 0
    assert "Traceback" in done.stderr


def test_control_c_ends_with_130_and_one_line(corpus: Path, tmp_path: Path) -> None:
    words = ["distill", str(corpus), "--corpus", "folder", "--ipc", "2", "--width", "0.1", "--jobs", "1"]
    small = [
        "--set",
        "invert.iterations=100000",
        "--set",
        "experts.count=1",
        "--set",
        "experts.steps=2",
        "--out",
        "run",
    ]
    with subprocess.Popen(
        [sys.executable, "-m", "edgeser", *words, *small],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        log, deadline = tmp_path / "run" / "log.jsonl", time.monotonic() + 60
        while not (log.is_file() and '"iteration"' in log.read_text()):
            assert running.poll() is None, running.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(running.pid, signal.SIGINT)
        out, err = running.communicate(timeout=30)
    assert running.returncode == 130
    assert out == ""
    assert err.splitlines()[-1] == "interrupted"
    assert "Traceback" not in err
