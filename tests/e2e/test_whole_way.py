"""The whole way through the real programs, each in a process of its own: from recordings to what a board hears."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest

Program = Callable[..., subprocess.CompletedProcess[str]]
DEMO = Path(str(files("edgeser.corpora"))) / "demo_data"
EMOTIONS = {"anger", "happiness", "neutral", "sadness"}


@pytest.fixture
def ask(run_edgeser: Program) -> Callable[..., list[dict[str, object]]]:
    """Run a verb with ``--json``; the objects that it prints, one a line and nothing else."""

    def call(*words: object) -> list[dict[str, object]]:
        done = run_edgeser(*words, "--json", check=True, timeout=600)
        return [json.loads(line) for line in done.stdout.splitlines()]

    return call


@pytest.mark.slow
def test_from_recordings_to_a_recogniser_that_listens(
    tmp_path: Path, ask: Callable[..., list[dict[str, object]]]
) -> None:
    (run,) = ask(
        "distill", "--corpus", "demo", "--method", "mtt", "--ipc", "3",
        "--views", "16", "--set", "experts.count=1", "--set", "experts.steps=150", "--set", "mtt.trajectories=1",
        "--set", "mtt.expert_span=1", "--set", "mtt.max_start_epoch=2", "--set", "mtt.iterations=4",
        "--set", "mtt.student_steps=3",
        "--steps", "150", "--out", "run",
    )  # fmt: skip
    assert run["items"] == 12

    (figures,) = ask("evaluate", "run", "--seeds", "1", "--full")
    assert figures["distilled"]["ipc"] == 3
    assert figures["distilled"]["uar_mean"] > 0.35  # chance is 0.25

    (packed,) = ask("pack", "run", "--target", "rpi4", "--out", "a.edgeser")
    assert packed["bytes"] == (tmp_path / "a.edgeser").stat().st_size < 500_000

    (kit,) = ask("inspect", "a.edgeser")
    assert set(kit["labels"]) == EMOTIONS
    assert kit["provenance"]["method"] == "mtt"

    (trained,) = ask("train-on-device", "a.edgeser", "--out", "model", "--test", DEMO, "--corpus", "demo")
    assert trained["steps"] == 150
    # Other sums in the last bit, the same student: host and board may disagree about a clip or two of 64.
    assert trained["uar"] == pytest.approx(figures["distilled"]["uar_mean"], abs=0.05)

    ask("export", "model", "--format", "onnx", "--out", "files")
    assert list((tmp_path / "files").glob("*.onnx"))
    ask("export", "model", "--format", "tflite", "--out", "lite")
    assert list((tmp_path / "lite").glob("*.tflite"))

    clip = DEMO / "f5_anger_01.ogg"
    predicted = ask("predict", "model", clip)
    assert predicted
    assert "anger" in json.dumps(predicted)

    (bench,) = ask("bench", "model", "--repeat", "10")
    assert {"format", "precision", "runtime", "model_ms_p50", "p95", "bytes"} <= set(bench["results"][0])
    assert bench["machine"]

    import soundfile

    samples, rate = soundfile.read(clip)
    soundfile.write(tmp_path / "clip.wav", samples, rate)
    events = ask("listen", "model", "--wav", "clip.wav")
    assert events
    for event in events:
        assert {"t", "emotion", "probabilities", "speech", "level_db", "latency_ms"} <= set(event)
        assert set(event["probabilities"]) == EMOTIONS
