"""Tables hold the same numbers as the JSON."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from device.kits import write_run
from rich.console import Console

from edgeser.errors import RunError
from edgeser.tables import comparison, comparison_table, evaluation_table


def text_of(table: object) -> str:
    console = Console(file=io.StringIO(), width=140)
    console.print(table)
    return console.file.getvalue()


def row(mean: float) -> dict[str, object]:
    return {"uar_mean": mean, "uar_std": 0.012, "dev_uar_mean": mean + 0.05, "uar": [mean], "recalls": {}}


def result(full: bool) -> dict[str, object]:
    return {
        "full": row(0.8) if full else None,
        "full_best": row(0.84) if full else None,
        "distilled": {**row(0.72), "ratio": 0.9 if full else None, "share": 0.056, "ipc": 6, "bytes": 210_000},
        "init": {"uar": 0.25},
        "experts": {"uar": 0.85, "members": 3},
        "baselines": {"random": row(0.6)},
        "transfer": {"cnn6": row(0.64)},
        "split": {"name": "quick"},
        "seeds": [0, 1],
        "machine": {"cpu": "a processor"},
    }


def test_every_row_is_shown_with_its_ratio_to_full_data() -> None:
    lines = {
        line.split("│")[1].strip(): line
        for line in text_of(evaluation_table(result(full=True))).splitlines()
        if "│" in line
    }
    for name, figures in {
        "full": ("0.800", "1.000"),
        "distilled": ("0.720", "0.012", "0.770", "0.900"),
        "random": ("0.600", "0.750"),
        "distilled -> cnn6": ("0.640", "0.800"),
        "init": ("0.250",),
        "experts (3)": ("0.850",),
    }.items():
        assert all(figure in lines[name] for figure in figures), name


def test_without_full_data_there_is_no_ratio() -> None:
    text = text_of(evaluation_table(result(full=False)))
    assert "0.720" in text
    assert "0.900" not in text
    assert "full" not in text
    for words in ("quick", "2 seeds", "6 items per class", "5.6%", "210 kB", "a processor"):
        assert words in text


def evaluated(folder: Path, ratio: float | None) -> Path:
    write_run(folder)
    figures = {"ipc": 4, "share": 0.1, "bytes": 12_345, "uar_mean": 0.9, "uar_std": 0.01, "ratio": ratio}
    (folder / "metrics.json").write_text(json.dumps({"distilled": figures}))
    return folder


def test_runs_are_compared_row_by_row(tmp_path: Path) -> None:
    rows = comparison([evaluated(tmp_path / "a", 0.95), evaluated(tmp_path / "b", None)])
    assert [each["run"] for each in rows] == [str(tmp_path / "a"), str(tmp_path / "b")]
    assert rows[0] == {
        "run": str(tmp_path / "a"), "corpus": "demo", "method": "random", "student": "edgenet", "ipc": 4, "share": 0.1,
        "bytes": 12_345, "uar_mean": 0.9, "uar_std": 0.01, "ratio": 0.95,
    }  # fmt: skip
    assert "0.950" in text_of(comparison_table(rows))


def test_a_run_without_figures_is_refused_with_the_command_that_makes_them(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="was not evaluated") as caught:
        comparison([write_run(tmp_path / "a", evaluated=False)])
    assert "edgeser evaluate" in caught.value.hint
