"""The cross-corpus table: all ordered pairs, measured once; figures come from the runs' metrics."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from cross_corpus import changes_of, measure, sheet_of

from edgeser.config.values import settings_of
from edgeser.corpora.table import load_corpus
from edgeser.distill.pipeline import distill
from edgeser.errors import RunError, SettingsError
from edgeser.run import Run
from edgeser.workers import Workers
from edgeser_export.utilities.files import write_json

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
    """A run of the demo corpus, and one of a corpus of folders: the same clips under names of their own."""
    folder = tmp_path_factory.mktemp("across")
    for utterance in load_corpus("demo").utterances:
        place = folder / "corpus" / utterance.emotion / f"{utterance.speaker}_{utterance.path.name}"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(utterance.path, place)
    both = (TINY, replace(TINY, corpus="folder", folder=str(folder / "corpus")))
    return [
        distill(settings, folder / settings.corpus, Workers(1), resume=False, warn=lambda _: None) for settings in both
    ]


def test_all_pairs_are_measured_once(runs: list[Run]) -> None:
    maps = [f"demo:{runs[0].description()['labels'][0]}="]
    found = measure(runs, 2, maps, None, Workers(1))
    assert [(pair["learnt_on"], pair["corpus"]) for pair in found["pairs"]] == [("demo", "folder"), ("folder", "demo")]
    first, second = found["pairs"]
    assert len(first["labels"]) == len(second["labels"]) - 1
    assert first["own"]["full"]["uar_mean"] > 0
    assert [entry["corpus"] for entry in runs[0].metrics()["on"]] == ["folder"]
    written = [(run.folder / "metrics.json").stat().st_mtime_ns for run in runs]
    assert measure(runs, 2, maps, None, Workers(1)) == found
    assert written == [(run.folder / "metrics.json").stat().st_mtime_ns for run in runs]
    sheet = sheet_of(found)
    assert len(sheet.lines) == 2
    assert all(len(cells) == len(sheet.columns) for cells in sheet.lines)


def test_another_label_map_is_measured_anew(runs: list[Run]) -> None:
    left_out, kept, *_ = runs[0].description()["labels"]
    fewer = measure(runs, 1, [f"demo:{left_out}="], None, Workers(1))["pairs"]
    before = (runs[1].folder / "metrics.json").read_bytes()
    whole = measure(runs, 1, [], None, Workers(1))["pairs"]
    assert left_out not in fewer[0]["labels"]
    assert whole[0]["labels"][left_out] == left_out
    assert whole[0]["clips"] > fewer[0]["clips"]
    assert (runs[1].folder / "metrics.json").read_bytes() == before  # its own map is the same
    other = measure(runs, 1, [f"demo: {left_out.upper()}={kept}"], None, Workers(1))["pairs"][0]["labels"]
    assert other[left_out] == kept


def test_figures_of_other_recordings_count_for_nothing(runs: list[Run], tmp_path: Path) -> None:
    measure(runs, 1, [], None, Workers(1))
    moved = tmp_path / "corpora"
    shutil.copytree(runs[1].settings().folder, moved / "folder")
    next(path for path in (moved / "folder").rglob("*") if path.is_file()).unlink()
    metrics = runs[0].metrics()
    metrics["on"][0]["fingerprint"] = "0" * 64
    write_json(runs[0].folder / "metrics.json", metrics)
    with pytest.raises(RunError, match="other recordings or emotions than the run"):
        measure(runs, 1, [], moved, Workers(1))
    again = measure(runs, 1, [], None, Workers(1))["pairs"][0]
    assert again["fingerprint"] == runs[1].description()["corpus"]["fingerprint"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dmeo:anger=", "no run is of 'dmeo'"),
        ("demo:angre=fear", "demo has no emotion 'angre'"),
        ("demo:anger=faer", "no other corpus has an emotion 'faer'"),
        ("demo:anger", "is no change"),
        ("anger=fear", "is no change"),
    ],
)
def test_a_change_that_fits_no_pair_is_refused(text: str, words: str) -> None:
    labels = {"demo": ["anger", "joy"], "folder": ["anger", "fear"]}
    with pytest.raises(SettingsError, match=words) as caught:
        changes_of([text], labels)
    assert caught.value.hint


def test_two_runs_of_one_corpus_are_refused(runs: list[Run]) -> None:
    with pytest.raises(SettingsError, match="two runs are of demo"):
        measure([runs[0], runs[0]], 1, [], None, Workers(1))
