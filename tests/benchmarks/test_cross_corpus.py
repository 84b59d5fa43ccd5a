"""The cross-corpus table: all ordered pairs, measured once; figures come from the runs' metrics."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
from cross_corpus import measure, sheet_of

from edgeser.corpora.table import load_corpus
from edgeser.distill.pipeline import distill
from edgeser.errors import SettingsError
from edgeser.run import Run
from edgeser.settings import Settings
from edgeser.workers import Workers

TINY = Settings(
    corpus="demo", method="random", ipc=1, width=0.25, views=4, experts=1, label_width=0.25, expert_steps=4, steps=4
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
    assert [entry["corpus"] for entry in runs[0].metrics()["cross_corpus"]] == ["folder"]
    written = [(run.folder / "metrics.json").stat().st_mtime_ns for run in runs]
    assert measure(runs, 2, maps, None, Workers(1)) == found
    assert written == [(run.folder / "metrics.json").stat().st_mtime_ns for run in runs]
    sheet = sheet_of(found)
    assert len(sheet.lines) == 2
    assert all(len(cells) == len(sheet.columns) for cells in sheet.lines)


def test_two_runs_of_one_corpus_are_refused(runs: list[Run]) -> None:
    with pytest.raises(SettingsError, match="two runs are of demo"):
        measure([runs[0], runs[0]], 1, [], None, Workers(1))
