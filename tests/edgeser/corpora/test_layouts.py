"""A folder's meaning is read from its names: who is a speaker, what is an emotion, and what is neither."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeser.corpora import Corpus, load_corpus
from edgeser.corpora.emotions import KNOWN_WORDS, is_emotion, plain_name
from edgeser.corpora.errors import UnclearLayout, UnknownSpeaker, WrongCorpus

Touch = Callable[[Iterable[str]], Path]
PEOPLE = ("0001", "0002", "0003")
FEELINGS = ("Angry", "Happy", "Sad")


def filled(layout: str, people: Iterable[str] = PEOPLE, feelings: Iterable[str] = FEELINGS) -> list[str]:
    return [
        layout.format(person=person, feeling=feeling, number=number)
        for person, feeling, number in product(people, feelings, (1, 2))
    ]


def read(touch: Touch, names: list[str]) -> Corpus:
    return load_corpus("folder", touch(names))


@pytest.mark.parametrize(
    "layout",
    [
        "{feeling}/{person}_{number}.wav",
        "{feeling}/{person}/{number}.wav",
        "{person}/{feeling}/{number}.wav",
        "{person}/{feeling}/train/{person}_{number}.wav",
        "{person}/{feeling}/{feeling}_{number}.wav",
        "above/{person}/{feeling}/{number}.wav",
        "English/{person}/{feeling}/{number}.wav",
        "{feeling}/train/{person}_{number}.wav",
        "test/{feeling}/{person}_{number}.wav",
        "{feeling}/female/{person}/{number}.wav",
        "female/{person}/{feeling}/{number}.wav",
        "wav/{person}/{feeling}/{number}.wav",
    ],
)
@pytest.mark.parametrize("feelings", [FEELINGS, ("Wut", "Freude", "Trauer"), ("rabbia", "gioia", "tristezza")])
def test_emotions_are_found_at_any_level(touch: Touch, layout: str, feelings: tuple[str, ...]) -> None:
    corpus = read(touch, filled(layout, feelings=feelings))
    assert corpus.speakers == PEOPLE
    assert corpus.labels == tuple(sorted(map(plain_name, feelings)))
    swapped = layout.index("{person}") < layout.index("{feeling}")
    assert any("because" in remark for remark in corpus.remarks) == swapped


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ("{person}/{feeling}_{number}.wav", "names of files hold emotions"),
        ("{person}/a01-{feeling}-{number}.wav", "names of files hold emotions"),
        ("{person}_{feeling}/{number}_x.wav", "name something beside the emotion"),
        ("{feeling}-of-{person}/{number}_x.wav", "name something beside the emotion"),
    ],
)
def test_emotions_elsewhere_are_refused(touch: Touch, layout: str, words: str) -> None:
    people = ("dora", "emil", "fritz")
    with pytest.raises(UnclearLayout, match=words) as caught:
        read(touch, filled(layout, people))
    assert "labels.txt" in caught.value.hint


def test_inner_names_of_which_some_are_emotions_are_refused(touch: Touch) -> None:
    with pytest.raises(UnclearLayout, match="of the folders in them, 'Angry', 'Odd', 'Sad', some are"):
        read(touch, filled("{person}/{feeling}/{number}.wav", feelings=("Angry", "Sad", "Odd")))


@pytest.mark.parametrize("layout", ["{person}/{feeling}/{number}.wav", "new/{feeling}/{person}/{number}.wav"])
def test_a_person_may_be_called_joy(touch: Touch, layout: str) -> None:
    corpus = read(touch, filled(layout, people=("Joy", "Tom", "Sue")))
    assert (corpus.speakers, corpus.labels) == (("Joy", "Sue", "Tom"), ("anger", "happiness", "sadness"))


def test_numbers_before_emotions_are_kept_where_each_has_one(touch: Touch) -> None:
    names = [f"{number}_{feeling}/{person}_1.wav" for number, feeling in enumerate(FEELINGS) for person in PEOPLE]
    corpus = read(touch, names)
    assert (corpus.labels, corpus.remarks) == (("0_angry", "1_happy", "2_sad"), ())


def test_classes_of_ones_own_are_said(touch: Touch) -> None:
    names = filled("{feeling}/{person}_{number}.wav", feelings=("laughing", "yawning"))
    folder = touch(names)
    corpus = load_corpus("folder", folder)
    assert corpus.labels == ("laughing", "yawning")
    assert corpus.remarks == ("no folder is named after a known emotion: the classes are 'laughing', 'yawning'",)
    (folder / "labels.txt").write_text("yawning\nlaughing\n")
    assert load_corpus("folder", folder).remarks == ()


def test_declared_labels_make_a_layout_clear(touch: Touch) -> None:
    folder = touch(filled("{feeling}/{person}_sad_{number}.wav", people=("a", "b", "c"), feelings=("one", "two")))
    with pytest.raises(UnclearLayout):
        load_corpus("folder", folder)
    (folder / "labels.txt").write_text("one\ntwo\n")
    assert load_corpus("folder", folder).labels == ("one", "two")


@pytest.mark.parametrize(
    "layout",
    [
        "{feeling}/{feeling}_{number}.wav",
        "{feeling}/train_{number}.wav",
        "{feeling}/female/{number}.wav",
        "{person}/{feeling}/{person}x/{number}.wav",
    ],
)
def test_nobody_is_no_speaker(touch: Touch, layout: str) -> None:
    with pytest.raises(UnknownSpeaker):
        read(touch, filled(layout))


def test_a_published_corpus_is_named(touch: Touch) -> None:
    with pytest.raises(UnclearLayout) as caught:
        read(touch, [f"AudioWAV/100{number}_DFA_{code}_XX.wav" for number in range(1, 5) for code in ("ANG", "SAD")])
    assert caught.value.hint == "wrong --corpus? the names look like --corpus cremad"


def test_letters_may_be_composed_or_not(touch: Touch) -> None:
    corpus = read(
        touch, ["col\u00e8re/a_1.wav", "cole\u0300re/b_1.wav", "cole\u0300re/b_2.wav", "Cole\u0300re /c_1.wav"]
    )
    assert corpus.labels == ("col\u00e8re",)


LAYOUTS = (
    "{person}/{feeling}/{number}.wav",
    "{person}/{feeling}/x_{number}.wav",
    "{person}/{feeling}_{number}.wav",
    "{person}_{feeling}/{number}_x.wav",
    "{feeling}/{person}/{number}.wav",
)
names = st.text("abcdefgh0123456789_- é", min_size=1, max_size=6).filter(lambda text: text.strip("_- ") == text)
strange = names.filter(lambda name: not is_emotion(name))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(strange, min_size=3, max_size=4, unique=True),
    st.lists(st.sampled_from(sorted(KNOWN_WORDS)), min_size=2, max_size=4, unique_by=plain_name),
    st.sampled_from(LAYOUTS),
)
def test_no_recogniser_of_people_in_silence(
    tmp_path_factory: pytest.TempPathFactory, people: list[str], feelings: list[str], layout: str
) -> None:
    folder = tmp_path_factory.mktemp("made")
    for name in filled(layout, people, feelings):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    try:
        corpus = load_corpus("folder", folder)
    except (UnclearLayout, UnknownSpeaker, WrongCorpus):
        return
    assert set(corpus.labels) == set(map(plain_name, feelings)) or corpus.remarks
