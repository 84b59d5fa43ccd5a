"""The demonstration, as a newcomer starts it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

CHANCE = 0.25
"""Of four emotions."""


@pytest.mark.slow
def test_the_demonstration_ends_with_figures_that_hang_together(
    tmp_path: Path, run_edgeser: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = run_edgeser("demo", "--out", tmp_path / "demo", "--json", timeout=900, check=True)
    assert done.stdout.count("\n") == 1
    found = json.loads(done.stdout)
    folder = Path(found["folder"])
    assert found["report"] == str(folder / "run" / "report.html")
    for name in (
        "run/distilled.safetensors",
        "run/metrics.json",
        "run/report.html",
        "demo.edgeser",
        "model/model.json",
    ):
        assert (folder / name).is_file(), name
    assert found["kit_bytes"] == (folder / "demo.edgeser").stat().st_size < 1_000_000 < found["corpus_bytes"] * 10
    assert found["items"] == json.loads((folder / "run" / "run.json").read_text())["budget"]["items"]
    assert 0 < found["share"] < 0.5
    assert set(found["uar"]) >= {"full", "distilled", "random", "device"}
    assert all(0 <= value <= 1 for value in found["uar"].values())
    assert min(found["uar"]["full"], found["uar"]["distilled"], found["uar"]["device"]) > CHANCE + 0.1
    assert found["training"]["seconds"] > 0
    assert found["bench"]["results"]
    assert found["events"]
    emotions = ("anger", "happiness", "neutral", "sadness")
    assert found["clip_emotion"] in emotions
    for event in found["events"]:
        assert event["emotion"] in emotions
        assert sum(event["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    assert done.stderr == ""  # progress is for terminals
