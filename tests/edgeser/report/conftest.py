"""A run that was evaluated, with an audit and other corpora, and its page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edgeser.evaluation.evaluate import Plan, evaluate
from edgeser.report.page import ReportPlan, write_report
from edgeser.run import Run
from edgeser.workers import Workers

AUDIT = Path(__file__).parents[1] / "privacy" / "example.json"
ELSEWHERE = {
    "corpus": "emodb",
    "labels": {"anger": "anger", "happiness": "joy"},
    "distilled": {"uar_mean": 0.6125, "uar_std": 0.021},
    "full": {"uar_mean": 0.6375, "uar_std": 0.017},
}
FAR = {
    "corpus": "urdu",
    "labels": {"anger": "anger", "happiness": "happiness", "neutral": "neutral", "sadness": "sadness"},
    "clips": 400,
    "speakers": 27,
    "chance": 0.25,
    "distilled": {"uar_mean": 0.3175, "uar_std": 0.021, "low": 0.281, "high": 0.352},
    "full": {"uar_mean": 0.3525, "uar_std": None, "low": None, "high": None},
    "difference": {"value": -0.035, "low": -0.061, "high": -0.012},
}
CONTROLS = [
    {"attack": "sex of an item's speaker", "threat_model": "set", "finds_the_leak": False, "finds_noise": False},
    {"attack": "membership", "threat_model": "model", "finds_the_leak": True, "finds_noise": False},
]
TITLE = "<b>Bold</b> & 'quoted'"
"""A title that would change the page if it were not escaped."""


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture(scope="session")
def evaluated_run(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Everything that a page can show; not to be changed."""
    folder = tmp_path_factory.mktemp("reported") / "run"
    shutil.copytree(tiny_run.folder, folder)
    run = Run(folder)
    evaluate(run, Plan((0, 1, 2), ("distilled", "full", "random_bank"), convergence=(0.5, 1.0)), Workers(1))
    change(folder / "metrics.json", on=[ELSEWHERE, FAR])
    change(folder / "run.json", corpus=run.description()["corpus"] | {"title": TITLE})
    shutil.copy(AUDIT, folder / "audit.json")
    change(folder / "audit.json", controls=CONTROLS)
    return run


@pytest.fixture(scope="session")
def page(evaluated_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of that run."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(evaluated_run, ReportPlan(out=path, items=4), Workers(1))
    return path
