"""The demonstration, as a newcomer starts it."""

from __future__ import annotations

import json
import re
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from e2e.chromium import chromium

CHANCE = 0.25
"""Of four emotions."""
MOST_REPORT_SECONDS = 30
"""Of one processor core, for the report of the demo's run; measured 14."""


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
        assert event["emotion"] in (emotions if event["state"] in ("sure", "uncertain") else (None,))
        assert sum(event["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    assert found["events"][-1]["emotion"] in emotions
    assert re.fullmatch(r"budget decides: .*\n", done.stderr)  # progress is for terminals
    page_holds(Path(found["report"]), found["uar"]["distilled"])
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    run_edgeser("report", folder / "run", "--jobs", "1", "--json", timeout=900, check=True)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime < MOST_REPORT_SECONDS


def page_holds(path: Path, uar: float) -> None:
    """The report in a browser: everything in it is there."""
    with chromium() as page:
        page.open(path.as_uri())
        page.wait_for(f"document.readyState === 'complete' && location.href === '{path.as_uri()}'")
        assert page.ask("document.getElementById('uar').textContent") == f"{uar:.3f}"
        assert page.ask("document.images.length") == page.ask("document.querySelectorAll('audio').length") == 32
        assert page.ask("[...document.images].every((image) => image.complete && image.naturalWidth === 96)")
        assert page.ask("document.documentElement.scrollWidth <= window.innerWidth")
        assert "report RUN" in page.ask("document.getElementById('repeat').textContent")
