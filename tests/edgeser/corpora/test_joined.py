"""Several corpora as one: the file that names them, what it may say, the parts of the split, and the balance."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings

from edgeser.config.settings import Settings
from edgeser.corpora.corpus import UNSTATED, Corpus, Utterance, sorted_labels
from edgeser.corpora.errors import BadCorpora, CorpusError, SplitError
from edgeser.corpora.fingerprint import corpus_fingerprint
from edgeser.corpora.joined import Entry, balance, corpus_in, corpus_of, load_joined, read_entries, write_entries
from edgeser.corpora.splits import PARTS, make_split, split_names
from edgeser.corpora.table import load_corpus
from edgeser.errors import SettingsError
from edgeser_export.utilities.errors import EdgeserError

Touch = Callable[[Iterable[str]], Path]
VOICES = ("ann", "bea", "cid", "dan")


def names(corpus: str, emotions: Iterable[str], voices: Iterable[str] = VOICES) -> list[str]:
    return [f"{corpus}/{emotion}/{voice}/1.wav" for emotion in emotions for voice in voices]


def write(place: Path, *tables: dict[str, object]) -> Path:
    path = place / "corpora.toml"
    path.write_text(tomli_w.dumps({"corpora": list(tables)}), encoding="utf-8")
    return path


@pytest.fixture
def two(touch: Touch) -> Path:
    """Two corpora, with speakers of the same names, and the file that names them."""
    place = touch([*names("a", ("anger", "calm", "fear")), *names("b", ("anger", "neutral"))])
    a = {"name": "a", "corpus": "folder", "folder": "a", "labels": {"calm": "neutral", "fear": ""}, "weight": 2}
    return write(place, a, {"name": "b", "corpus": "folder", "folder": str(place / "b")})


def test_two_corpora_are_one_whose_speakers_are_never_shared(two: Path) -> None:
    found = load_joined(two)
    assert found.labels == ("anger", "neutral")
    assert len(found.utterances) == 16
    assert len(found.speakers) == 8
    assert [part.name for part in found.parts] == ["a", "b"]
    for name in ("quick", "seed:3", "fold:2"):
        split = make_split(found, name)
        for part in PARTS:
            assert {corpus_in(each.speaker) for each in split.part(part)} == {"a", "b"}, "each corpus is in each part"
        own = make_split(found.parts[0], name)
        assert {f"a/{each.speaker}" for each in own.test} <= {each.speaker for each in split.test}
    assert make_split(found).name == "quick"
    assert "fold:2" in split_names(found)


def test_a_corpus_that_is_left_out_is_not_there(two: Path) -> None:
    found = load_joined(two, "a")
    assert {corpus_in(each.speaker) for each in found.utterances} == {"b"}
    assert corpus_fingerprint(found) != corpus_fingerprint(load_joined(two))
    assert corpus_of(Settings("corpora", folder=str(two), leave_out="a", ipc=1)).speakers == found.speakers
    with pytest.raises(SettingsError, match="no effect without --corpora"):
        Settings("demo", leave_out="a", ipc=1)


def test_the_fingerprint_does_not_depend_on_the_place(two: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("a", "b"):
        shutil.copytree(two.parent / name, moved / name)
    text = two.read_text().replace(str(two.parent / "b"), str(moved / "b"))
    (moved / "corpora.toml").write_text(text)
    assert corpus_fingerprint(load_joined(moved / "corpora.toml")) == corpus_fingerprint(load_joined(two))


def test_what_a_run_keeps_names_the_same_corpora(two: Path, tmp_path: Path) -> None:
    own = tmp_path / "run" / "corpora.toml"
    own.parent.mkdir()
    write_entries(Settings("corpora", folder=str(two), ipc=1), own)
    assert read_entries(own) == read_entries(two)
    write_entries(Settings("demo", ipc=1), tmp_path / "none.toml")
    assert not (tmp_path / "none.toml").exists()


def test_an_emotion_of_one_corpus_is_told(touch: Touch) -> None:
    place = touch([*names("a", ("anger", "fear")), *names("b", ("anger", "neutral"))])
    path = write(place, {"name": "a", "corpus": "folder", "folder": "a"}, {"corpus": "folder", "folder": "b"})
    assert [text for text in load_joined(path).remarks if "only" in text] == [
        "fear is in a only: a student can tell the corpora apart by it",
        "neutral is in folder only: a student can tell the corpora apart by it",
    ]


def test_the_card_says_what_each_corpus_says(two: Path) -> None:
    (two.parent / "a" / "card.toml").write_text('licence = "CC0"\nlanguage = "English"\nkind = "acted"\n')
    (two.parent / "b" / "card.toml").write_text('licence = "CC BY"\nlanguage = "English"\nkind = "natural"\n')
    card = load_joined(two).card
    assert (card.licence, card.language, card.kind) == ("a: CC0; b: CC BY", "English", "unknown")


OWN = {"corpus": "folder", "folder": "a"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[corpora", "is not readable TOML"),
        ("", r"has no \[\[corpora\]\]"),
        ("corpora = 3", r"has no \[\[corpora\]\]"),
        ("corpora = [3]", "there is no table"),
        ("other = 1\n[[corpora]]\ncorpus = 'folder'", "unknown key 'other'"),
        ("[[corpora]]\nfolder = 'a'", "no corpus is named"),
        ("[[corpora]]\ncorpus = 'folder'\nfolder = 'a'\nweigth = 2", "'weigth' is no known key"),
        ("[[corpora]]\ncorpus = 'folder'\nfolder = 'a'\nweight = 0", "weight is 0"),
        ("[[corpora]]\ncorpus = 'folder'\nfolder = 'a'\nweight = nan", "weight is nan"),
        ("[[corpora]]\ncorpus = 'folder'\nfolder = 'a'\nweight = true", "weight is True"),
        ("[[corpora]]\ncorpus = 'folder'\nfolder = 3", "folder is 3"),
        ("[[corpora]]\ncorpus = 'folder'\nfolder = 'a'\nlabels = { anger = 3 }", "'anger' is mapped to 3"),
        ("[[corpora]]\ncorpus = 'folder'\nfolder = 'a'\nlabels = { angr = 'fear' }", "has no emotion 'angr'"),
        ("[[corpora]]\ncorpus = 'folder'\nfolder = 'a'\nlabels = { anger = '', fear = '' }", "drops every emotion"),
        ("[[corpora]]\ncorpus = 'folder'\nfolder = 'a'\nlabels = { anger = 'fear' }", "leaves one emotion only"),
        ("[[corpora]]\ncorpus = 'foldr'\nfolder = 'a'", "no corpus format named"),
        ("[[corpora]]\ncorpus = 'folder'\nfolder = 'c'", "does not exist"),
        ("[[corpora]]\ncorpus = 'folder'\nfolder = 'a'\n" * 2, "two corpora called 'folder'"),
        (
            "[[corpora]]\ncorpus = 'folder'\nfolder = 'a'\n[[corpora]]\nname = 'x'\ncorpus = 'folder'\nfolder = 'a'",
            "share recordings",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_one_line(touch: Touch, text: str, message: str) -> None:
    path = touch(names("a", ("anger", "fear"))) / "corpora.toml"
    path.write_text(text)
    with pytest.raises(CorpusError, match=message) as caught:
        load_joined(path)
    assert caught.value.hint
    assert "\n" not in str(caught.value.message)


def test_a_name_to_leave_out_must_be_there_and_not_be_all(touch: Touch) -> None:
    path = write(touch(names("a", ("anger", "fear"))), OWN)
    with pytest.raises(BadCorpora, match="has no corpus 'foldr'"):
        load_joined(path, "foldr")
    with pytest.raises(BadCorpora, match="no corpus besides"):
        load_joined(path, "folder")
    with pytest.raises(BadCorpora, match="cannot be read"):
        load_joined(path.parent / "none.toml")


def test_each_corpus_needs_three_speakers(touch: Touch) -> None:
    place = touch([*names("a", ("anger", "fear")), *names("b", ("anger", "fear"), ("ann", "bea"))])
    path = write(place, {**OWN, "name": "a"}, {**OWN, "folder": "b", "name": "b"})
    with pytest.raises(SplitError, match="corpus 'b' has only 2 speakers"):
        make_split(load_joined(path))


def test_a_corpus_without_its_dev_speakers_is_refused(touch: Touch, tmp_path: Path) -> None:
    for utterance in load_corpus("demo").utterances:
        if utterance.speaker not in load_corpus("demo").splits["quick"].dev:
            (tmp_path / "d").mkdir(exist_ok=True)
            (tmp_path / "d" / utterance.path.name).touch()
    place = touch(names("a", ("anger", "happiness", "neutral", "sadness")))
    path = write(place, {**OWN, "name": "a"}, {"corpus": "demo", "folder": "d"})
    with pytest.raises(SplitError, match="corpus 'demo' has nobody in its dev part"):
        make_split(load_joined(path))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(("corpus", "folder", "labels", "name", "weight")) | st.text(max_size=4)
VALUES = JSON.filter(lambda value: value is not None) | st.sampled_from(("folder", "a", "demo", 1, 0.5))


def has_none(value: object) -> bool:
    """TOML knows no null."""
    if isinstance(value, dict):
        return any(map(has_none, value.values()))
    return value is None or (isinstance(value, list) and any(map(has_none, value)))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables=st.lists(st.dictionaries(KEYS, VALUES, max_size=5).filter(lambda each: not has_none(each)), max_size=3))
def test_any_file_is_read_or_refused_with_a_hint(tmp_path: Path, tables: list[dict[str, object]]) -> None:
    found, hint = (), "none was needed"
    try:
        found = read_entries(write(tmp_path, *tables))
    except EdgeserError as error:
        hint = error.hint
    assert hint
    assert len({entry.name for entry in found}) == len(found) in (0, len(tables))


ENTRIES = st.builds(
    lambda names, weight, label: Entry("x", "demo", None, dict.fromkeys(names, label), weight),
    st.lists(st.sampled_from(("anger", "happiness", "sadness")), max_size=3, unique=True),
    st.floats(0.01, 100),
    st.sampled_from(("joy", "calm", "")),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entry=ENTRIES)
def test_what_is_written_is_read_again(tmp_path: Path, entry: Entry) -> None:
    (found,) = read_entries(write(tmp_path, entry.to_toml()))
    again = write(tmp_path, found.to_toml())
    assert read_entries(again) == (found,)
    assert (found.weight, set(found.labels)) == (entry.weight, set(entry.labels))


COUNTS = st.dictionaries(
    st.tuples(st.sampled_from("abc"), st.sampled_from(("anger", "fear", "neutral"))), st.integers(1, 30), min_size=1
)


@settings(max_examples=60, deadline=None)
@given(counts=COUNTS, weights=st.tuples(*[st.floats(0.1, 10)] * 3))
def test_the_balance_gives_every_emotion_and_every_corpus_its_share(
    counts: dict[tuple[str, str], int], weights: tuple[float, float, float]
) -> None:
    share = dict(zip("abc", weights, strict=True))
    clips = [
        Utterance(Path(f"{name}/{emotion}/{number}"), emotion, f"{name}/ann")
        for (name, emotion), count in counts.items()
        for number in range(count)
    ]
    parts = tuple(Corpus(name, Path(name), (), (), UNSTATED, weight=share[name]) for name in "abc")
    whole = Corpus("corpora", Path(), tuple(clips), sorted_labels(tuple(clips)), UNSTATED, parts=parts)
    found = balance(whole, clips).astype(float)
    assert found.mean() == pytest.approx(1, rel=1e-4)
    cells = {
        cell: sum(
            one for one, clip in zip(found, clips, strict=True) if (corpus_in(clip.speaker), clip.emotion) == cell
        )
        for cell in counts
    }
    by_emotion = [sum(value for (_, own), value in cells.items() if own == emotion) for emotion in whole.labels]
    assert by_emotion == pytest.approx([len(clips) / len(whole.labels)] * len(whole.labels), rel=1e-3)
    for (one, emotion), value in cells.items():
        for (other, theirs), another in cells.items():
            if emotion == theirs:
                assert value / another == pytest.approx(share[one] / share[other], rel=1e-3)


def test_a_single_corpus_is_not_weighed() -> None:
    demo = load_corpus("demo")
    assert np.array_equal(balance(demo, demo.utterances), np.ones(len(demo.utterances)))
