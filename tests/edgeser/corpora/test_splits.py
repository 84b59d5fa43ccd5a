"""Splits keep speakers apart, lose no utterance, and mean the same for ever."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeser.corpora import Corpus, SpeakerParts, Utterance, load_corpus, make_split, split_names
from edgeser.corpora.corpus import UNSTATED, sorted_labels
from edgeser.corpora.errors import SpeakerLeak, SplitError, UnknownSplit
from edgeser.corpora.splits import PARTS, Split


def corpus_of(*said: tuple[str, str], sex: dict[str, str] | None = None, **splits: SpeakerParts) -> Corpus:
    """A corpus in which (speaker, emotion) pairs are said."""
    utterances = tuple(
        Utterance(Path(f"{number:04d}.wav"), emotion, speaker, (sex or {}).get(speaker))
        for number, (speaker, emotion) in enumerate(said)
    )
    return Corpus("made", Path(), utterances, sorted_labels(utterances), UNSTATED, splits)


def regular(speakers: int) -> Corpus:
    return corpus_of(*((f"s{number:02d}", emotion) for number in range(speakers) for emotion in ("anger", "neutral")))


SAID = st.lists(
    st.tuples(st.sampled_from([f"s{number}" for number in range(9)]), st.sampled_from(["anger", "calm", "fear"])),
    min_size=1,
    max_size=60,
)


@given(said=SAID, name=st.sampled_from(["quick", "fold:1", "fold:2", "fold:3", "seed:0", "seed:1", "seed:77"]))
def test_a_split_is_disjoint_whole_and_repeatable(said: list[tuple[str, str]], name: str) -> None:
    corpus = corpus_of(*said)
    try:
        split = make_split(corpus, name)
    except SplitError:
        return
    speakers = [{utterance.speaker for utterance in split.part(part)} for part in PARTS]
    assert sum(map(len, speakers)) == len(set.union(*speakers))
    assert sorted((*split.train, *split.dev, *split.test), key=lambda one: one.path) == list(corpus.utterances)
    assert all({utterance.emotion for utterance in split.part(part)} == set(corpus.labels) for part in PARTS)
    assert make_split(corpus_of(*said), name) == split
    json.dumps(split.describe(), allow_nan=False)


@given(speakers=st.integers(3, 40), seed=st.integers(0, 10**6))
def test_where_everyone_says_everything_a_random_split_never_fails(speakers: int, seed: int) -> None:
    described = make_split(regular(speakers), f"seed:{seed}").describe()
    fifth = max(1, round(0.2 * speakers))
    assert len(described["test"]["speakers"]) == len(described["dev"]["speakers"]) == fifth


@given(speakers=st.integers(3, 20))
def test_folds_test_every_speaker_once(speakers: int) -> None:
    corpus = regular(speakers)
    folds = [name for name in split_names(corpus) if name.startswith("fold:")]
    tested = [speaker for name in folds for speaker in make_split(corpus, name).describe()["test"]["speakers"]]
    assert sorted(tested) == list(corpus.speakers)


def test_rare_classes_reach_every_part() -> None:
    said = [(f"s{number:02d}", "neutral") for number in range(27)]
    rare = [(f"s{number:02d}", "anger") for number in (3, 11, 19)]
    for seed in range(20):
        described = make_split(corpus_of(*said, *rare), f"seed:{seed}").describe()
        assert [described[part]["classes"]["anger"] for part in PARTS] == [1, 1, 1]


def test_sexes_are_spread_over_the_parts() -> None:
    sex = {f"s{number:02d}": "female" if number < 10 else "male" for number in range(20)}
    said = [(speaker, emotion) for speaker in sex for emotion in ("anger", "neutral")]
    for seed in range(10):
        split = make_split(corpus_of(*said, sex=sex), f"seed:{seed}")
        women = {utterance.speaker for utterance in split.test if utterance.sex == "female"}
        assert len(women) in (1, 2, 3)


def test_seeds_differ() -> None:
    corpus = regular(20)
    assert len({tuple(make_split(corpus, f"seed:{seed}").describe()["test"]["speakers"]) for seed in range(10)}) > 5


def test_a_seed_means_the_same_in_every_process() -> None:
    program = "from edgeser.corpora import *; print(make_split(load_corpus('demo'), 'seed:5').describe())"
    here = str(make_split(load_corpus("demo"), "seed:5").describe())
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": hash_seed} | {"PYTHONPATH": ":".join(sys.path)},
        )
        assert done.stdout.strip() == here


def test_seed_0_is_pinned() -> None:
    described = make_split(regular(10), "seed:0").describe()
    assert (described["test"]["speakers"], described["dev"]["speakers"]) == (["s01", "s02"], ["s05", "s06"])


def test_without_a_name_the_best_list_is_taken() -> None:
    quick, official = SpeakerParts(("s00",), ("s01",)), SpeakerParts(("s02",), ("s03",))
    said = [(utterance.speaker, utterance.emotion) for utterance in regular(6).utterances]
    assert make_split(corpus_of(*said, quick=quick, official=official)).name == "quick"
    assert make_split(corpus_of(*said, official=official)).name == "official"
    assert make_split(corpus_of(*said)).name == "seed:0"
    by_list, by_seed = make_split(corpus_of(*said), "quick"), make_split(corpus_of(*said), "seed:0")
    assert by_list.test == by_seed.test


def test_a_leak_cannot_be_made() -> None:
    one, two = regular(3).utterances[:2]
    with pytest.raises(SpeakerLeak, match="s00") as caught:
        Split("own", (one,), (), (two,))
    assert "train and test" in caught.value.message


@pytest.mark.parametrize("name", ["fold:0", "fold:6", "fold:x", "seed:", "seed:-1", "seed:1.5", "best", "", "oficial"])
def test_an_unknown_split_is_named_with_the_known_ones(name: str) -> None:
    with pytest.raises(UnknownSplit) as caught:
        make_split(regular(10), name)
    assert repr(name) in caught.value.message
    assert "fold:5, seed:N" in caught.value.hint


def test_official_is_unknown_where_there_is_none() -> None:
    with pytest.raises(UnknownSplit):
        make_split(regular(10), "official")


def test_one_class_only() -> None:
    with pytest.raises(SplitError, match="one class only"):
        make_split(corpus_of(("a", "anger"), ("b", "anger"), ("c", "anger")))


@pytest.mark.parametrize(("speakers", "words"), [(1, "one speaker only"), (2, "only 2 speakers")])
def test_too_few_speakers(speakers: int, words: str) -> None:
    with pytest.raises(SplitError, match=words):
        make_split(regular(speakers))


def test_a_class_that_two_people_say_cannot_be_in_three_parts() -> None:
    said = [(f"s{number}", "neutral") for number in range(6)] + [("s0", "fear"), ("s1", "fear")]
    with pytest.raises(SplitError, match="no fear in its train part") as caught:
        make_split(corpus_of(*said))
    assert "2 speakers" in caught.value.message


def test_a_corpus_has_no_more_classes_than_a_kit() -> None:
    corpus = corpus_of(*((speaker, f"class {number}") for number in range(256) for speaker in "abc"))
    with pytest.raises(SplitError, match="256 classes, more than 255"):
        make_split(corpus)


def test_a_published_fold_says_what_differs(touch: Callable[[Iterable[str]], Path]) -> None:
    names = (f"03-01-{code:02d}-01-01-01-{actor:02d}.wav" for code in range(1, 9) for actor in range(1, 25))
    corpus = load_corpus("ravdess", touch(names))
    published = [name for name in split_names(corpus) if name.startswith("emobox:")]
    assert len(published) == 6
    for name in published:
        split = make_split(corpus, name)
        assert len({utterance.speaker for utterance in split.test}) == 4
        assert "dev speakers are taken" in split.describe()["remark"]
    assert "remark" not in make_split(corpus, "quick").describe()
    with pytest.raises(UnknownSplit):
        make_split(corpus, "emobox:7")
