"""The verbs under ``edgeser data`` as users start them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgeser.corpora import CORPORA

Program = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Three speakers, two classes, one clip each of different noise."""
    for row, emotion in enumerate(("anger", "neutral")):
        (tmp_path / "mine" / emotion).mkdir(parents=True)
        for column, speaker in enumerate("abc"):
            samples = np.random.default_rng(3 * row + column).normal(0, 0.1, 24_000)
            soundfile.write(tmp_path / "mine" / emotion / f"{speaker}_1.wav", samples, 16000)
    return tmp_path / "mine"


def complaint(done: subprocess.CompletedProcess[str]) -> tuple[str, str]:
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout, len(lines)) == (2, "", 2), done
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("hint: ")
    return lines[0], lines[1]


def test_the_list_holds_every_corpus_with_its_licence(run_edgeser: Program) -> None:
    done = run_edgeser("data", "list", "--json", check=True)
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""
    rows = json.loads(done.stdout)["corpora"]
    assert [row["name"] for row in rows] == list(CORPORA)
    assert all(row["licence"] and row["layout"] for row in rows)
    table = run_edgeser("data", "list", check=True, COLUMNS="200").stdout
    assert all(name in table for name in CORPORA)


def test_a_sound_corpus_passes(run_edgeser: Program, corpus: Path) -> None:
    done = run_edgeser("data", "check", corpus, "--corpus", "folder", "--jobs", "1", "--json", check=True)
    assert done.stdout.count("\n") == 1
    assert "utterances" in done.stdout
    json.loads(done.stdout)
    assert "anger" in run_edgeser("data", "check", corpus, "--corpus", "folder", "--jobs", "1", check=True).stdout


def test_an_unreadable_recording_is_named_and_fails_the_check_where_distill_needs_it(
    run_edgeser: Program, corpus: Path
) -> None:
    words = ("data", "check", corpus, "--corpus", "folder", "--jobs", "1", "--json")
    (corpus / "anger" / "a_2.wav").write_bytes(b"no recording")
    (corpus / "anger" / "b_2.wav").touch()
    done = run_edgeser(*words, check=True)
    for name in ("a_2.wav", "b_2.wav"):
        assert name in done.stdout
    assert json.loads(done.stdout)["refusal"] is None
    (corpus / "anger" / "b_1.wav").write_bytes(b"no recording")
    done = run_edgeser(*words)
    assert done.returncode == 1
    assert "no recording of 'anger'" in json.loads(done.stdout)["refusal"]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("folder", "words"), [("anger", "one class only"), ("*", "only 2 speakers")])
def test_what_distill_refuses_fails_the_check(run_edgeser: Program, corpus: Path, folder: str, words: str) -> None:
    soundfile.write(corpus / "anger" / "a_2.wav", np.random.default_rng(9).normal(0, 0.1, 24_000), 16000)
    for path in corpus.glob("neutral/*.wav" if folder == "anger" else "*/c_*.wav"):
        path.unlink()
    done = run_edgeser("data", "check", corpus, "--corpus", "folder", "--jobs", "1")
    assert done.returncode == 1
    assert done.stdout.startswith("distill refuses this corpus: ")
    assert words in done.stdout
    refused = complaint(run_edgeser("distill", corpus, "--corpus", "folder", "--ipc", "1", "--dry-run"))
    assert words in refused[0]


def test_the_built_in_corpus_needs_no_folder(run_edgeser: Program) -> None:
    found = json.loads(run_edgeser("data", "check", "--corpus", "demo", "--jobs", "1", "--json", check=True).stdout)
    assert found["passed"]
    assert found["utterances"] == sum(found["classes"].values()) == 320
    assert len(found["speakers"]) == 10


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("check", "nowhere", "--corpus", "folder"), "nowhere"),
        (("check", "mine", "--corpus", "foldr"), "foldr"),
        (("check", "mine", "--corpus", "emodb"), ""),
        (("check", "mine"), "--corpus"),
        (("check", "mine", "--corpus", "folder", "--split", "fold:77"), "fold:77"),
        (("check", "mine", "--corpus", "folder", "--colour"), "colour"),
        (("download", "iemocap"), "iemocap"),
        (("download", "nothing"), "nothing"),
        (("lst",), "lst"),
    ],
)
def test_wrong_use_is_answered_in_two_lines(
    run_edgeser: Program, corpus: Path, words: tuple[str, ...], error: str
) -> None:
    assert error in complaint(run_edgeser("data", *words))[0]
