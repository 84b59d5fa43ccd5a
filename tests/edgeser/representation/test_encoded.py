"""Runs of an encoder: its vectors are cached, the whole chain works, and another encoder is said in one line."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis.extra.numpy import arrays
from tiny_encoder import SIZE, add_tiny, write_tiny

from edgeser.cache import read_recordings
from edgeser.cli.entry import main
from edgeser.config.settings import Settings
from edgeser.config.values import settings_of
from edgeser.distill.pipeline import distill, prepare
from edgeser.encoders.store import encoder_folder, open_encoder
from edgeser.errors import RunError, SettingsError
from edgeser.evaluation.cross_corpus import measure_across, open_other
from edgeser.evaluation.evaluate import Plan, evaluate
from edgeser.privacy.audit import AuditPlan, audit
from edgeser.representation import representation_of
from edgeser.representation.encoded import EncoderReader
from edgeser.run import Run
from edgeser.workers import Workers
from edgeser_device.data.audio import read_audio, trim_silence
from edgeser_device.data.vector_set import LARGEST_LEVEL, VectorSet, in_numbers, in_steps
from edgeser_device.encoder import Encoder
from edgeser_device.errors import EncoderError

ALONE = Workers(1)
FAST = {"experts.steps": 40, "steps": 60, "experts.count": 2, "views": 8}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGESER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def settings(**changed: object) -> Settings:
    return settings_of({"method": "random", "corpus": "demo", "encoder": "tiny", "ipc": 3, **FAST, **changed})


def program(*words: object) -> int:
    """Run the command line; its exit code."""
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    return int(caught.value.code or 0)


def silent(words: str) -> None:
    """What the budget decided matters to nobody here."""


@pytest.fixture(scope="module")
def run(tiny_encoder: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    assert tiny_encoder == "tiny"
    return distill(settings(), tmp_path_factory.mktemp("encoded") / "run", ALONE, resume=False, warn=silent)


def write_sound(path: Path, seconds: float, seed: int = 0) -> Path:
    soundfile.write(path, np.random.default_rng(seed).normal(0, 0.1, round(16_000 * seconds)), 16_000)
    return path


def test_a_clip_has_a_vector_for_each_window_and_they_are_cached(tmp_path: Path, cache: Path) -> None:
    reader = EncoderReader(add_tiny(tmp_path))
    encoder = Encoder.open(*open_encoder("tiny"))
    paths = [write_sound(tmp_path / f"{seconds}.wav", seconds) for seconds in (0.4, 2.9, 4.2)]
    found = read_recordings(paths, reader, ALONE)
    for path, windows in zip(paths, (1, 1, 3), strict=True):
        assert found[path].shape == (windows, SIZE)
        np.testing.assert_array_equal(found[path], encoder(trim_silence(read_audio(path, 16_000), 40.0)))
    for entry in (cache / "features").rglob("*.f32"):
        np.zeros(SIZE, "<f4").tofile(entry)
    assert not read_recordings(paths, reader, ALONE)[paths[2]].any()
    other = replace(reader, card=replace(reader.card, sha256="0" * 64))
    assert other.key != reader.key


def test_what_has_no_vector_is_said_in_words(tmp_path: Path, cache: Path) -> None:
    reader = EncoderReader(add_tiny(tmp_path))
    short, still = write_sound(tmp_path / "short.wav", 0.02), tmp_path / "still.wav"
    soundfile.write(still, np.zeros(16_000), 16_000)
    found = read_recordings([short, still], reader, ALONE)
    assert "shorter than two tokens" in str(found[short])
    assert "short.wav" in str(found[short])
    assert "silent" in str(found[still])


def test_training_clips_are_standard_and_whole_clips_are_scored(tiny_encoder: str) -> None:
    material = prepare(settings(), ALONE)
    clips = material.task.clips
    assert clips.shape[1:] == (SIZE, 1, 1)
    assert np.abs(clips.mean(0)).max() < 1e-4
    assert np.abs(clips.std(0) - 1).max() < 1e-4
    for part in (material.features.dev, material.features.test):
        x, owners = part.windows()
        assert x.shape == (len(owners), SIZE, 1, 1)
        assert np.array_equal(np.unique(owners), np.arange(len(part)))
    assert material.settings.encoder.startswith(f"{tiny_encoder}@")


@given(arrays(np.float32, (3, 7), elements=st.floats(-50, 50, width=32)))
def test_eight_bits_lose_half_a_step_at_most(vectors: np.ndarray) -> None:
    levels, step = in_steps(vectors)
    assert levels.dtype == np.int8
    assert (step > 0).all()
    assert np.abs(levels.astype(int)).max() <= LARGEST_LEVEL
    assert (np.abs(in_numbers(levels, step) - vectors) <= 0.5001 * step[:, None] + 1e-29).all()


def test_a_set_is_what_was_written(run: Run) -> None:
    kept = run.stored_set()
    assert isinstance(kept, VectorSet)
    assert kept.levels.dtype == np.int8
    again = VectorSet.from_bytes(kept.to_bytes())
    assert again.to_bytes() == kept.to_bytes() == (run.folder / "distilled.safetensors").read_bytes()
    np.testing.assert_array_equal(again.items(), kept.items())


def test_the_run_names_its_encoder(run: Run) -> None:
    card, _ = open_encoder("tiny")
    assert run.description()["encoder"]["sha256"] == card.sha256
    assert run.settings().encoder == f"tiny@{card.sha256}"
    assert run.given().encoder == "tiny"


def test_everything_that_is_measured_of_a_run(run: Run) -> None:
    plan = Plan((0,), ("distilled", "full", "random_bank"), ("mlp:2",), (0.5, 1.0))
    result = evaluate(run, plan, ALONE)
    assert result["full"]["uar_mean"] > 0.4  # chance is 0.25 or less
    assert result["transfer"]["mlp:2"]["uar_mean"] >= 0
    assert result["convergence"]
    found = audit(run, AuditPlan(shadows=4), ALONE)
    planted = found["membership"]["sets"]["real_subset"]["set"]["utterance"]["threshold"]["auc"]
    assert planted["value"] > 0.95
    assert found["inversion"]["picture"] is None
    with pytest.raises(RunError, match="holds vectors"):
        run.distilled()


def test_another_corpus_is_heard_by_the_encoder(run: Run, tmp_path: Path) -> None:
    material = prepare(settings(), ALONE)
    emotions = material.corpus.labels[:2]
    for place, utterance in enumerate(u for u in material.corpus.utterances if u.emotion in emotions):
        if place < 16:
            target = tmp_path / "other" / utterance.emotion / f"{'abcd'[place % 4]}_{place}.wav"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(utterance.path, target)
    other = open_other(run, "folder", tmp_path / "other", (), ALONE)
    assert other.x.shape[1:] == (SIZE, 1, 1)
    (entry,) = measure_across(run, [other], (0,), ALONE)
    assert 0 <= entry["full"]["uar_mean"] <= 1


def test_a_run_of_another_encoder_is_refused_in_one_line(run: Run, tmp_path: Path, cache: Path) -> None:
    with pytest.raises(EncoderError, match="no encoder 'tiny' on this machine") as caught:
        evaluate(run, Plan((0,), ("distilled",)), ALONE)
    assert "encoder add" in caught.value.hint
    path = write_tiny(tmp_path)
    card = path.with_suffix(".toml")
    card.write_text(card.read_text().replace("taps = [1, 2]", "taps = [1]"))
    assert program("encoder", "add", path) == 0
    with pytest.raises(EncoderError, match="the run was made with") as caught:
        evaluate(run, Plan((0,), ("distilled",)), ALONE)
    assert "\n" not in caught.value.message + caught.value.hint


def test_a_file_is_added_by_distill(tmp_path: Path, cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write_tiny(tmp_path, "mine")
    fast = ["--method", "random", "--expert-steps", 10, "--steps", 10, "--jobs", 1]
    asked = ["distill", "--corpus", "demo", "--encoder", path, "--ipc", 1, *fast, "--out", tmp_path / "run"]
    assert program(*asked) == 0
    _, said = capfd.readouterr()
    assert Run(tmp_path / "run").description()["encoder"]["name"] == "mine"
    assert "was added as mine" in said
    assert encoder_folder("mine").is_dir()


def test_what_does_not_go_together_is_said_in_two_lines(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    for words in (
        ["--corpus", "demo", "--encoder", "smart-turn-2"],
        ["--corpus", "demo", "--encoder", "smart-trun-2"],
        ["--corpus", "demo", "--encoder", str(tmp_path / "absent.onnx")],
        ["--corpus", "demo", "--encoder", "tiny", "--arch", "cnn6"],
        ["--features", str(tmp_path / "x.npz"), "--encoder", "tiny"],
    ):
        code = program("distill", *words, "--ipc", "2", "--out", tmp_path / "run")
        out, said = capfd.readouterr()
        lines = [line for line in said.strip().splitlines() if not line.startswith("encoder: ")]
        assert (code, out, len(lines)) == (2, "", 2), said
    assert not (tmp_path / "run").exists()


def test_log_mels_and_files_hear_as_they_should(tiny: Settings) -> None:
    with pytest.raises(SettingsError, match="computed elsewhere"):
        representation_of(replace(tiny, corpus="features", folder="x.npz")).reader()


@pytest.mark.slow
def test_the_real_encoder_is_fetched_and_learnt_from(
    tmp_path: Path, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It fails where the encoder cannot be had."""
    folder = tmp_path / "run"
    fast = ["--expert-steps", "60", "--steps", "60", "--views", "8"]
    asked = ["distill", "--corpus", "demo", "--encoder", "smart-turn-1", "--method", "herding", "--ipc", "2", *fast]
    assert program(*asked, "--out", folder, "--jobs", 1, "--json") == 0
    out, said = capfd.readouterr()
    assert "is downloaded once" in said
    assert json.loads(out)["student"]["architecture"] == "mlp"
    assert evaluate(Run(folder), Plan((0,), ("distilled", "full")), ALONE)["full"]["uar_mean"] > 0.5
