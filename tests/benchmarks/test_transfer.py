"""The transfer matrix: runs that differ in their student only, each student on each set, measured once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from transfer import measure, sheet_of, students_of

from edgeser.config.values import settings_of
from edgeser.distill.pipeline import distill
from edgeser.errors import SettingsError
from edgeser.run import Run
from edgeser.workers import Workers

TINY = settings_of(
    {
        "corpus": "demo",
        "method": "random",
        "ipc": 1,
        "width": 0.25,
        "views": 4,
        "experts.count": 1,
        "experts.width": 0.25,
        "experts.steps": 4,
        "steps": 4,
    }
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    folder = tmp_path_factory.mktemp("transfer")
    return [
        distill(replace(TINY, width=width), folder / f"{width}", Workers(1), resume=False, warn=lambda _: None)
        for width in (0.25, 0.5)
    ]


def test_every_student_is_trained_on_every_set_once(runs: list[Run], tmp_path: Path) -> None:
    found = measure(runs, 2, Workers(1))
    assert (found["corpus"], found["ipc"], found["seeds"]) == ("demo", 1, [0, 1])
    names = ["edgenet x 0.25", "edgenet x 0.5"]
    assert list(found["rows"]) == names
    assert all(list(row) == names for row in found["rows"].values())
    for run, name in zip(runs, names, strict=True):
        metrics = run.metrics()
        assert found["rows"][name][name]["uar"] == metrics["distilled"]["uar"]
        (other,) = (each for each in names if each != name)
        assert found["rows"][name][other]["uar"] == next(iter(metrics["transfer"].values()))["uar"]
    written = [(run.folder / "metrics.json").stat().st_mtime_ns for run in runs]
    assert measure(runs, 2, Workers(1)) == found
    assert written == [(run.folder / "metrics.json").stat().st_mtime_ns for run in runs]
    sheet = sheet_of(found)
    assert len(sheet.lines) == 2
    assert all(len(cells) == len(sheet.columns) for cells in sheet.lines)


def test_runs_that_cannot_be_compared_are_refused(runs: list[Run], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="two runs have the student"):
        students_of([runs[0], runs[0]])
    other = distill(replace(TINY, ipc=2), tmp_path / "other", Workers(1), resume=False, warn=lambda _: None)
    with pytest.raises(SettingsError, match="has the ipc 2"):
        students_of([runs[1], other])
