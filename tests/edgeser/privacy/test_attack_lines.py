"""Tables hold the same numbers as the JSON."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from device.kits import write_run
from rich.console import Console

from edgeser.errors import RunError
from edgeser.report.tables import comparison, comparison_table, convergence_words, evaluation_tables


def text_of(table: object) -> str:
    console = Console(file=io.StringIO(), width=140)
    console.print(table)
    return console.file.getvalue()


def row(mean: float) -> dict[str, object]:
    return {"uar_mean": mean, "uar_std": 0.012, "dev_uar_mean": mean + 0.05, "uar": [mean], "recalls": {}}


def curves(reached: bool = True) -> dict[str, object]:
    points = {
        name: [{"steps": n, "seconds": n / 50, **row(n / 1000)} for n in (400, 720)] for name in ("distilled", "full")
    }
    full = {"steps": 720, "seconds": 14.4} if reached else None
    return {
        **points,
        "target": 0.71,
        "to_target": {"distilled": {"steps": 360, "seconds": 7.2}, "full": full},
        "ratio": {"steps": 2.0, "seconds": 2.0} if reached else None,
        "seeds": [0],
        "seconds_of": "one processor core",
    }


def result(full: bool) -> dict[str, object]:
    return {
        "full": row(0.8) if full else None,
        "full_best": row(0.84) if full else None,
        "full_soft": row(0.82) if full else None,
        "distilled": {**row(0.72), "ratio": 0.9 if full else None, "share": 0.056, "ipc": 6, "bytes": 210_000},
        "init": {"uar": 0.25},
        "experts": {"uar": 0.85, "members": 3},
        "baselines": {"random": row(0.6), "random_bank_bytes": {**row(0.66), "same_as": "random_bank"}},
        "transfer": {"cnn6:0.25": {**row(0.63), "width": 0.25, "parameters": 12_345}},
        "student": {"architecture": "edgenet", "width": 1.0, "parameters": 24_696},
        "convergence": curves(),
        "split": {"name": "quick"},
        "seeds": [0, 1],
        "machine": {"cpu": "a processor"},
    }


def test_every_row_is_shown_with_its_ratio_to_full_data() -> None:
    text = text_of(evaluation_tables(result(full=True)))
    lines = {line.split("  ")[0]: line for line in text.splitlines() if "  " in line}
    for name, figures in {
        "full": ("0.800", "1.000"),
        "distilled": ("0.720", "0.012", "0.770", "0.900"),
        "full, at its best": ("0.840", "1.050"),
        "full, experts' labels": ("0.820", "1.025"),
        "random": ("0.600", "0.750"),
        "random_bank_bytes (= random_bank)": ("0.660", "0.825"),
        "edgenet": ("24,696", "0.720", "1.000"),
        "cnn6": ("0.25", "12,345", "0.630", "0.680", "0.875"),
        "400": ("8.0", "0.400", "0.450"),
        "720": ("14.4", "0.720", "0.770"),
        "init": ("0.250",),
        "experts (3)": ("0.850",),
    }.items():
        assert all(figure in lines[name] for figure in figures), name


def test_without_full_data_there_is_no_ratio() -> None:
    text = text_of(evaluation_tables({**result(full=False), "convergence": None, "transfer": {}}))
    assert "0.720" in text
    assert "cnn6" not in text
    assert "steps" not in text
    assert "0.900" not in text
    assert "full" not in text
    for words in ("quick", "2 seeds", "6 items per class", "5.6%", "210 kB", "a processor"):
        assert words in text


def test_what_convergence_took_is_said_in_words() -> None:
    assert convergence_words(curves()) == (
        "to 0.710, a point below the distilled set's last: distilled 360 steps, 7.2 s; "
        "full 720 steps, 14.4 s: 2 times the steps, 2 times the seconds"
    )
    assert convergence_words(curves(reached=False)).endswith("full data does not reach it")


def evaluated(folder: Path, ratio: float | None) -> Path:
    write_run(folder)
    figures = {"ipc": 4, "share": 0.1, "bytes": 12_345, "uar_mean": 0.9, "uar_std": 0.01, "ratio": ratio}
    baselines = {"random_bank": row(0.85)}
    (folder / "metrics.json").write_text(json.dumps({"distilled": figures, "full": None, "baselines": baselines}))
    return folder


def test_runs_are_compared_row_by_row(tmp_path: Path) -> None:
    rows = comparison([evaluated(tmp_path / "a", 0.95), evaluated(tmp_path / "b", None)])
    assert [each["run"] for each in rows] == [str(tmp_path / "a"), str(tmp_path / "b")]
    assert rows[0] == {
        "run": str(tmp_path / "a"), "corpus": "demo", "method": "random", "student": "edgenet", "ipc": 4, "share": 0.1,
        "bytes": 12_345, "uar_mean": 0.9, "uar_std": 0.01, "ratio": 0.95,
        "others": {"random_bank": {"uar_mean": 0.85, "uar_std": 0.012}},
    }  # fmt: skip
    assert "0.950" in text_of(comparison_table(rows))


def test_a_run_without_figures_is_refused_with_the_command_that_makes_them(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="was not evaluated") as caught:
        comparison([write_run(tmp_path / "a", evaluated=False)])
    assert "edgeser evaluate" in caught.value.hint
