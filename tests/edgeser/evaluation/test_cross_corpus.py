"""Across corpora: label maps, figures against plain loops, what is refused, and the whole way on two corpora."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from sklearn.metrics import recall_score

from edgeser.corpora.table import load_corpus
from edgeser.errors import SettingsError
from edgeser.evaluation.cross_corpus import DRAWS, Other, entry_of, keep_entries, label_map, measure_across, open_other
from edgeser.evaluation.evaluate import Plan, evaluate
from edgeser.report.tables import across_table
from edgeser.run import Run
from edgeser.workers import Workers

ALONE = Workers(1)
OURS = ("anger", "calm", "happiness", "sadness")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((), {"anger": "anger", "sadness": "sadness"}),
        (("calm=neutral",), {"anger": "anger", "calm": "neutral", "sadness": "sadness"}),
        (("Happy=anger", "calm=neutral"), dict(zip(OURS, ("anger", "neutral", "anger", "sadness"), strict=True))),
        (("calm=neutral", "sadness="), {"anger": "anger", "calm": "neutral"}),
    ],
)
def test_equal_names_are_shared_and_others_are_stated(given: Sequence[str], expected: dict[str, str]) -> None:
    found = label_map(OURS, ("anger", "neutral", "sadness"), given)
    assert found == expected
    assert list(found) == [name for name in OURS if name in found], "in the order of the classes"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("calm",), "is no pair"),
        (("clam=neutral",), "the run has no emotion 'clam'"),
        (("calm=neural",), "the other corpus has no emotion 'neural'"),
        (("=neutral",), "the run has no emotion ''"),
    ],
)
def test_a_map_that_is_not_understood(given: Sequence[str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        label_map(OURS, ("anger", "neutral", "sadness"), given)


@pytest.mark.parametrize(
    ("theirs", "given"),
    [(("boredom", "fear"), ()), (("anger", "fear"), ()), (("anger", "sadness"), ("sadness=anger",))],
)
def test_fewer_than_two_shared_emotions_are_one_line_and_one_hint(theirs: Sequence[str], given: Sequence[str]) -> None:
    with pytest.raises(SettingsError, match="share fewer than two emotions") as caught:
        label_map(OURS, theirs, given)
    assert "--map OURS=THEIRS" in caught.value.hint
    assert "\n" not in caught.value.message + caught.value.hint


def other_of(truth: np.ndarray, speakers: np.ndarray) -> Other:
    labels = {"anger": "anger", "calm": "neutral", "sadness": "sadness"}
    nothing = np.zeros((0, 1, 1, 1), dtype=np.float32)
    return Other("made", "f" * 64, labels, OURS, nothing, np.zeros(0, dtype=np.int64), truth, speakers)


@pytest.fixture(scope="module")
def answered() -> tuple[Other, dict[str, np.ndarray]]:
    """Ninety clips of nine speakers, answered by two rows three times; full data is right more often."""
    random = np.random.default_rng(0)
    truth = np.arange(90) % 3
    other = other_of(truth, np.arange(90) // 10)
    return other, {
        row: np.stack([np.where(random.random(90) < right, truth, random.integers(3, size=90)) for _ in range(3)])
        for row, right in (("distilled", 0.4), ("full", 0.8))
    }


def test_figures_are_those_of_plain_loops(answered: tuple[Other, dict[str, np.ndarray]]) -> None:
    other, answers = answered
    entry = entry_of(other, answers, (0, 1, 2))
    for row, found in answers.items():
        by_hand = [recall_score(other.truth, seed, average="macro") for seed in found]
        assert entry[row]["uar"] == pytest.approx(by_hand, abs=1e-6)
        assert entry[row]["uar_mean"] == pytest.approx(np.mean(by_hand))
        assert entry[row]["uar_std"] == pytest.approx(np.std(by_hand, ddof=1))
        assert entry[row]["low"] < entry[row]["uar_mean"] < entry[row]["high"]
    assert entry["difference"]["value"] == pytest.approx(entry["distilled"]["uar_mean"] - entry["full"]["uar_mean"])
    assert entry["difference"]["high"] < 0
    assert entry["chance"] == pytest.approx(1 / 3)
    assert entry["labels"] == {"anger": "anger", "calm": "neutral", "sadness": "sadness"}
    assert (entry["clips"], entry["speakers"]) == (90, 9)


def test_the_interval_is_that_of_a_bootstrap_over_speakers(answered: tuple[Other, dict[str, np.ndarray]]) -> None:
    other, answers = answered
    entry = entry_of(other, answers, (0, 1, 2))
    random, drawn = np.random.default_rng(5), []
    for _ in range(DRAWS // 4):
        rows = np.concatenate([np.flatnonzero(other.speakers == each) for each in random.integers(9, size=9)])
        drawn.append(
            np.mean([recall_score(other.truth[rows], seed[rows], average="macro") for seed in answers["full"]])
        )
    low, high = np.quantile(drawn, (0.025, 0.975))
    assert entry["full"]["low"] == pytest.approx(low, abs=0.02)
    assert entry["full"]["high"] == pytest.approx(high, abs=0.02)


def test_few_speakers_have_no_interval() -> None:
    truth = np.arange(30) % 3
    entry = entry_of(other_of(truth, truth), dict.fromkeys(("distilled", "full"), truth[None]), (0,))
    assert entry["distilled"]["uar_mean"] == 1.0
    assert entry["distilled"]["uar_std"] is None
    assert entry["distilled"]["low"] is entry["difference"]["high"] is None
    json.dumps(entry, allow_nan=False)


def test_probabilities_of_what_is_not_shared_are_left_out_and_equals_are_added() -> None:
    one = np.zeros(1, np.int64)
    other = replace(other_of(one, one), labels={"anger": "x", "calm": "x", "sadness": "y"})
    answer = np.array([[0.2, 0.15, 0.35, 0.3], [0.1, 0.1, 0.5, 0.3]]) @ other.groups
    assert answer.argmax(1).tolist() == [0, 1]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another corpus: clips of the demo corpus under other names, one folder a class, two classes."""
    folder = tmp_path_factory.mktemp("elsewhere") / "corpus"
    demo = load_corpus("demo")
    for utterance in demo.utterances:
        if utterance.emotion in demo.labels[:2]:
            place = folder / utterance.emotion / f"{utterance.speaker}_{utterance.path.name}"
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(utterance.path, place)
    return folder


@pytest.fixture
def own_run(tiny_run: Run, tmp_path: Path) -> Run:
    return Run(Path(shutil.copytree(tiny_run.folder, tmp_path / "run")))


def test_a_corpus_is_measured_and_measured_again(own_run: Run, elsewhere: Path) -> None:
    other = open_other(own_run, "folder", elsewhere, (), ALONE)
    names = load_corpus("demo").labels[:2]
    assert dict(other.labels) == {name: name for name in names}
    assert len(other.truth) == sum(1 for _ in elsewhere.rglob("*.*") if _.is_file())
    evaluate(own_run, Plan((0,), ("distilled",)), ALONE)
    entries = measure_across(own_run, [other], (0, 1), ALONE)
    assert measure_across(own_run, [other], (0, 1), ALONE)[0]["distilled"] == entries[0]["distilled"], "it repeats"
    for _ in range(2):
        written = keep_entries(own_run, entries)
    assert written == own_run.metrics()
    assert len(written["on"]) == 1
    assert {"corpus", "labels", "distilled", "full"} <= set(written["on"][0])
    assert written["distilled"]["uar"], "the run's own figures are still there"
    again = evaluate(own_run, Plan((3,), ("distilled",)), ALONE)
    assert again["on"] == written["on"], "an evaluation of other seeds keeps it"
    assert len(across_table(again["on"]).rows) == 1


def test_the_runs_own_corpus_is_refused_under_whatever_name(own_run: Run, elsewhere: Path) -> None:
    with pytest.raises(SettingsError, match="is a corpus that the run"):
        open_other(own_run, "demo", None, (), ALONE)
    description = own_run.description()
    moved = {**description, "corpus": {**description["corpus"], "folder": str(elsewhere)}}
    (own_run.folder / "run.json").write_text(json.dumps(moved))
    with pytest.raises(SettingsError, match="is a corpus that the run"):
        open_other(own_run, "folder", elsewhere, (), ALONE)


@pytest.mark.slow
def test_the_verb(run_edgeser: Callable[..., CompletedProcess[str]], own_run: Run, elsewhere: Path) -> None:
    words = ("evaluate", own_run.folder, "--on", elsewhere, "--corpus", "folder", "--seeds", "1", "--jobs", "1")
    done = run_edgeser(*words, "--json", check=True)
    found = json.loads(done.stdout)
    assert [entry["corpus"] for entry in found["on"]] == ["folder"]
    assert found["distilled"]["uar"], "a run that was not evaluated is"
    table = run_edgeser(*words, check=True).stdout
    assert "on other corpora" in table
    bad = run_edgeser(*words, "--map", f"{load_corpus('demo').labels[0]}=")
    assert bad.returncode == 2
    error, hint = bad.stderr.splitlines()
    assert error.startswith("error: the run and the other corpus share fewer than two emotions")
    assert hint.startswith("hint: ")


@pytest.mark.parametrize(
    ("words", "message"),
    [(("--on", "."), "does not say which corpus"), (("--map", "a=b"), "--map says which emotions")],
)
def test_flags_that_need_others(
    run_edgeser: Callable[..., CompletedProcess[str]], tiny_run: Run, words: Sequence[str], message: str
) -> None:
    done = run_edgeser("evaluate", tiny_run.folder, *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 2
