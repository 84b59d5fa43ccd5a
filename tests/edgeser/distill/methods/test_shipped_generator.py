"""A run that ships a generator: what is measured and said of it is of what boards draw, not of the run's items."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeser.config.settings import Settings
from edgeser.config.values import changed
from edgeser.distill.pipeline import distill
from edgeser.errors import AuditError
from edgeser.evaluation.conditions import train_distilled
from edgeser.evaluation.evaluate import Plan, Shelf, evaluate, open_bench
from edgeser.models.training import train_on_set
from edgeser.packaging.pack import pack_kit
from edgeser.privacy.audit import AuditPlan, audit
from edgeser.privacy.audit_summary import read_digest
from edgeser.report.page import ReportPlan, write_report
from edgeser.report.tables import evaluation_table
from edgeser.run import Run
from edgeser.workers import Workers
from edgeser_device.data.generated import Drawing, open_source
from edgeser_device.kit.kit import read_kit

ALONE = Workers(1)
EXAMPLE = Path(__file__).parents[2] / "privacy" / "example.json"
EACH = 3
"""Items of a class."""


@pytest.fixture(scope="module")
def run(tiny: Settings, tmp_path_factory: pytest.TempPathFactory) -> Run:
    few = {"gan.iterations": 2, "gan.pretraining": 0.5, "gan.codebook": 8, "experts.steps": 2, "experts.count": 2}
    settings = changed(tiny, {"method": "gan", "ipc": EACH, "gan.ship": "generator", **few})
    return distill(settings, tmp_path_factory.mktemp("shipped") / "run", ALONE, resume=False, warn=lambda _: None)


@pytest.fixture(scope="module")
def result(run: Run) -> dict[str, Any]:
    return evaluate(run, Plan((0, 1), ("distilled",)), ALONE)


@pytest.fixture
def copy(run: Run, result: dict[str, Any], tmp_path: Path) -> Run:
    assert result
    return Run(Path(shutil.copytree(run.folder, tmp_path / "run")))


def test_a_row_is_trained_on_what_the_board_draws(run: Run, tmp_path: Path) -> None:
    kit = read_kit(pack_kit(run.folder, "rpi4", tmp_path / "kit").path)
    bench, _ = open_bench(run, run.distilled(), Shelf(ALONE))
    graph, start = bench.task.graph, bench.assignment.init
    for seed in (0, 5):
        drawn, _ = open_source(kit, Drawing(), kit.distilled.schedule, seed, 1)(0)
        shipped = bench.shipped(seed)
        assert shipped.to_bytes() == drawn.to_bytes()
        assert shipped.levels.shape != kit.distilled.levels.shape
        found, wanted = (train_distilled(bench, graph, start, seed), train_on_set(graph, start, drawn, seed))
        assert all(np.array_equal(found[name], wanted[name]) for name in wanted)
    assert bench.shipped(0).to_bytes() != bench.shipped(5).to_bytes()


def test_the_evaluation_says_what_it_scored(run: Run, result: dict[str, Any]) -> None:
    classes = len(run.distilled().names)
    size = sum(path.stat().st_size for path in (run.folder / "generator").iterdir() if "probe" not in path.name)
    assert (result["distilled"]["drawn"], result["distilled"]["bytes"]) == (EACH * classes, size)
    assert "items that are drawn" in result["varies"]
    assert f"{EACH} items per class, drawn anew by each seed from a generator" in str(evaluation_table(result).caption)


def test_budgets_are_those_of_what_the_board_draws(run: Run, tmp_path: Path) -> None:
    kit = read_kit(pack_kit(run.folder, "rpi4", tmp_path / "kit").path)
    drawn, _ = open_source(kit, Drawing(), kit.distilled.schedule, 0, 1)(0)
    budgets, members = kit.manifest["budgets"], kit.manifest["members"]
    sizes = [entry["bytes"] for name, entry in members.items() if name.startswith("generator/")]
    assert (budgets["items"], budgets["views"]) == (len(drawn), len(drawn.recipes))
    assert budgets["distilled_bytes"] == sum(sizes) > 0


def test_the_card_names_generator_and_experts_and_nothing_of_other_items(copy: Run, tmp_path: Path) -> None:
    shutil.copy(EXAMPLE, copy.folder / "audit.json")
    kit = read_kit(pack_kit(copy.folder, "rpi4", tmp_path / "kit").path)
    assert read_digest(copy.folder) is not None
    assert "audit" not in kit.manifest["results"]
    for words in (
        "to a generator and 2 label experts",
        f"draws {EACH} items a class",
        "trained directly on the recordings",
        "pass this kit on only as the licence",
        "2 label experts",
        "- distilled: 0.",
    ):
        assert words in kit.card, words
    for words in (f"{len(kit.distilled)} items", "edgeser audit", "nearer to a recording"):
        assert words not in kit.card, words


def test_results_of_other_items_are_not_packed(copy: Run, tmp_path: Path) -> None:
    metrics = json.loads((copy.folder / "metrics.json").read_text())
    del metrics["distilled"]["drawn"]
    (copy.folder / "metrics.json").write_text(json.dumps(metrics))
    kit = read_kit(pack_kit(copy.folder, "rpi4", tmp_path / "kit").path)
    assert kit.manifest["results"] == {}
    assert "not measured before packing" in kit.card


def test_an_audit_is_refused_before_anything_is_read(copy: Run) -> None:
    with pytest.raises(AuditError, match="draws its items from a generator") as caught:
        audit(copy, AuditPlan(0, folder="/gone"), ALONE)
    assert "gan.ship=items" in caught.value.hint


def test_the_report_says_what_the_kit_holds(copy: Run) -> None:
    shutil.copy(EXAMPLE, copy.folder / "audit.json")
    made = write_report(copy, ReportPlan(recordings=False), ALONE)
    page = Path(made["report"]).read_text()
    assert "audit" not in made["missing"]
    assert "The kit holds none of these" in page
    assert "items drawn from the generator that is shipped" in page
    assert "planted leak" not in page
