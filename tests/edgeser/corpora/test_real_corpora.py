"""The loaders and the check on real recordings; skipped where EDGESER_CORPORA is unset."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from edgeser.corpora import CORPORA, load_corpus, make_split, split_names
from edgeser.corpora.check import check_corpus
from edgeser_device.data.recordings import find_audio

FOUR = {"anger", "happiness", "neutral", "sadness"}


@pytest.mark.parametrize(
    ("name", "utterances", "speakers", "classes"),
    [
        ("ravdess", 1440, 24, {label: 96 if label == "neutral" else 192 for label in CORPORA["ravdess"].emotions}),
        ("emodb", 339, 10, {"anger": 127, "happiness": 71, "neutral": 79, "sadness": 62}),
        ("urdu", 400, 29, dict.fromkeys(FOUR, 100)),
    ],
)
def test_every_label_in_the_data_is_mapped(
    corpora_folder: Path, name: str, utterances: int, speakers: int, classes: dict[str, int]
) -> None:
    corpus = load_corpus(name, corpora_folder / name)
    assert corpus.ignored == 0
    assert len(corpus.utterances) == utterances == len(find_audio(corpora_folder / name))
    assert len(corpus.speakers) == speakers
    assert Counter(utterance.emotion for utterance in corpus.utterances) == classes
    assert corpus.labels == tuple(sorted(classes))
    assert [utterance.path for utterance in corpus.utterances] == sorted(
        utterance.path for utterance in corpus.utterances
    )


@pytest.mark.parametrize("name", ["ravdess", "emodb", "urdu"])
def test_a_folder_above_will_do(corpora_folder: Path, name: str) -> None:
    assert len(load_corpus(name, corpora_folder).utterances) == len(load_corpus(name, corpora_folder / name).utterances)


@pytest.mark.parametrize("name", ["ravdess", "emodb", "urdu"])
def test_every_named_split_has_every_class_in_every_part(corpora_folder: Path, name: str) -> None:
    corpus = load_corpus(name, corpora_folder / name)
    names = [*split_names(corpus)[:-1], *(f"seed:{seed}" for seed in range(5))]
    for split in (make_split(corpus, split_name) for split_name in names):
        for part in (split.train, split.dev, split.test):
            assert {utterance.emotion for utterance in part} == set(corpus.labels)


@pytest.mark.parametrize("name", ["ravdess", "emodb"])
def test_folds_test_every_utterance_once(corpora_folder: Path, name: str) -> None:
    corpus = load_corpus(name, corpora_folder / name)
    folds = [make_split(corpus, split) for split in split_names(corpus) if split.startswith("fold:")]
    tested = Counter(utterance for fold in folds for utterance in fold.test)
    assert set(tested) == set(corpus.utterances)
    assert set(tested.values()) == {1}


def test_the_quick_split_of_ravdess_balances_the_sexes(corpora_folder: Path) -> None:
    split = make_split(load_corpus("ravdess", corpora_folder / "ravdess"))
    assert split.name == "quick"
    assert {utterance.speaker for utterance in split.test} == {"03", "04", "11", "12", "19", "20"}
    assert {utterance.speaker for utterance in split.dev} == {"01", "02", "15", "16"}
    for part in (split.train, split.dev, split.test):
        assert len(set(Counter(utterance.sex for utterance in part).values())) == 1


def test_the_known_duplicate_of_ravdess_is_reported(corpora_folder: Path) -> None:
    corpus = load_corpus("ravdess", corpora_folder / "ravdess" / "Actor_07")
    report = check_corpus(corpus, n_jobs=2)
    assert report.passed
    assert [(finding.kind, finding.severity) for finding in report.findings] == [("duplicate", "warning")]
    assert [Path(path).stem for path in report.findings[0].paths] == ["03-01-03-01-02-01-07", "03-01-03-01-02-02-07"]


def test_two_copies_of_a_folder_count_once(corpora_folder: Path, tmp_path: Path) -> None:
    actor = corpora_folder / "ravdess" / "Actor_01"
    shutil.copytree(actor, tmp_path / "Actor_01")
    shutil.copytree(actor, tmp_path / "audio_speech_actors_01-24" / "Actor_01")
    corpus = load_corpus("ravdess", tmp_path)
    assert len(corpus.utterances) == 60
    assert corpus.ignored == 60


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ravdess", "emodb", "urdu"])
def test_the_whole_corpus_passes_the_check(corpora_folder: Path, name: str) -> None:
    corpus = load_corpus(name, corpora_folder / name)
    report = check_corpus(corpus, make_split(corpus), n_jobs=2)
    assert report.passed, report.findings
    assert report.rates == {"16000": len(corpus.utterances)}
