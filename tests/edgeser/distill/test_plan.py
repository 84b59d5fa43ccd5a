"""The plan: what is measured and multiplied, for every method, and that a run then holds what was foretold."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgeser.config.settings import SETTINGS, Settings
from edgeser.config.values import changed
from edgeser.distill.pipeline import prepare
from edgeser.distill.plan import in_words, make_plan, plan_text
from edgeser.distill.registry import METHODS
from edgeser.workers import Workers

ALONE = Workers(1)
NEAR = 0.3
"""How far the memory may be off, as a share."""
LONG = 2000


@pytest.mark.parametrize("method", sorted(name for name, row in METHODS.items() if not row.of_vectors))
def test_every_method_is_tried_and_multiplied(method: str) -> None:
    checks = 0 if METHODS[method].improve is None else LONG // 4
    settings = changed(
        Settings(corpus="demo", method=method, ipc=2, width=0.25, views=4, steps=LONG, check_every=checks),
        {
            **{f"{each}.iterations": LONG for each in METHODS if f"{each}.iterations" in SETTINGS},
            "experts.count": 4,
            "experts.width": 0.25,
            "experts.steps": LONG,
            "mtt.trajectories": 3,
            "mtt.expert_span": 3,
            "mtt.max_start_epoch": 2,
            "mtt.student_steps": 2,
            "unroll.window": 2,
            "gan.codebook": 2,
        },
    )
    settings = replace(settings, steps=30) if method == "unroll" else settings
    plan = make_plan(prepare(settings, ALONE), ALONE)
    seconds, iterates = plan["seconds"], METHODS[method].improve is not None
    assert list(seconds) == ["experts", "method", "checks", "labels"]
    assert plan["total_seconds"] == pytest.approx(sum(seconds.values()), abs=0.3)
    assert seconds["experts"] > 1  # 8,000 steps, of which 24 were made
    assert (seconds["method"] > 1) == iterates
    assert (seconds["checks"] > 0) == iterates
    assert plan["peak_rss_mb"] is None or plan["peak_rss_mb"] > 100
    assert plan["jobs"] == 1


PLAN = {
    "seconds": {"experts": 99.6, "method": 3000.0, "checks": 0.0, "labels": 40_000.0},
    "total_seconds": 43_099.6,
    "peak_rss_mb": 1200.4,
    "jobs": 2,
}


def test_people_read_what_every_phase_takes() -> None:
    shown = plan_text(PLAN)
    for words in ("11 h 58 min", "experts 100 s", "method 50 min", "labels 11 h 7 min", "1200 MB", "multiplied"):
        assert words in shown, shown
    assert "checks" not in shown
    assert "unknown" in plan_text({**PLAN, "peak_rss_mb": None})


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (99.4, "99 s"), (100, "2 min"), (5940, "99 min"), (7260, "2 h 1 min")]
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "jobs", "moving"),
    [("mtt", 2, ("--set", "mtt.iterations=6", "--set", "check_every=3")), ("random", 1, ())],
)
def test_a_run_holds_the_memory_that_was_foretold(
    method: str,
    jobs: int,
    moving: tuple[str, ...],
    tmp_path: Path,
    run_edgeser: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """Time is another matter: who else computes now is not who computes then."""
    words = (
        "distill", "--corpus", "demo", "--method", method, "--ipc", "4", "--set", "experts.steps=60", "--steps", "60",
        *moving, "--jobs", jobs, "--json",
    )  # fmt: skip
    plan = json.loads(run_edgeser(*words, "--dry-run", timeout=600, check=True).stdout)["plan"]
    run = json.loads(run_edgeser(*words, "--out", tmp_path / "run", timeout=600, check=True).stdout)
    assert plan["peak_rss_mb"] == pytest.approx(run["peak_rss_mb"], rel=NEAR)
    assert set(plan["seconds"]) <= {*run["seconds"], "checks"}
    assert 0.1 < plan["total_seconds"] / run["total_seconds"] < 10
