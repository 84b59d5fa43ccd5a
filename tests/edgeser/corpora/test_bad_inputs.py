"""Each bad input has an error of its own: one line on what is wrong, one on what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from edgeser.corpora import CORPORA, load_corpus
from edgeser.corpora.errors import CorpusNotFound, EmptyCorpus, UnknownCorpus, WrongCorpus
from edgeser_device.data.recordings import ENDINGS

Touch = Callable[[Iterable[str]], Path]
NAMED = [name for name, form in CORPORA.items() if form.load is None or name == "iemocap"]


def test_an_unknown_corpus_suggests_a_near_name() -> None:
    with pytest.raises(UnknownCorpus, match="'ravdes'") as caught:
        load_corpus("ravdes", Path())
    assert caught.value.hint.startswith("did you mean 'ravdess'? known: demo, ")


def test_a_corpus_without_a_folder() -> None:
    with pytest.raises(CorpusNotFound, match="'ravdess' needs a folder"):
        load_corpus("ravdess")


@pytest.mark.parametrize("name", CORPORA)
def test_a_folder_that_does_not_exist(name: str, tmp_path: Path) -> None:
    with pytest.raises(CorpusNotFound, match="does not exist"):
        load_corpus(name, tmp_path / "nowhere")


@pytest.mark.parametrize("name", [*NAMED, "folder"])
def test_a_file_instead_of_a_folder(name: str, touch: Touch) -> None:
    with pytest.raises(CorpusNotFound, match="is not a folder"):
        load_corpus(name, touch(["a.txt"]) / "a.txt")


@pytest.mark.parametrize("name", [*NAMED, "folder"])
def test_an_empty_folder_says_what_is_expected(name: str, tmp_path: Path) -> None:
    with pytest.raises(EmptyCorpus, match="holds no recording") as caught:
        load_corpus(name, tmp_path)
    assert caught.value.hint == f"expected: {CORPORA[name].layout}"


@pytest.mark.parametrize("name", [*NAMED, "folder"])
def test_recordings_in_other_forms_are_counted_and_named(name: str, touch: Touch) -> None:
    folder = touch(["anger/a_1.m4a", "anger/a_2.M4A", "anger/a_3.wma", "anger/notes.txt"])
    with pytest.raises(EmptyCorpus, match=r"2 left out: \.m4a files are not read.*; 1 left out: \.wma files"):
        load_corpus(name, folder)


def test_every_ending_that_is_read_counts_and_others_are_left_out(touch: Touch) -> None:
    endings = sorted(ENDINGS)
    folder = touch([*(f"anger/a_{number}{end}" for number, end in enumerate(endings)), "anger/b_1.aac", "anger/b.txt"])
    corpus = load_corpus("folder", folder)
    assert sorted(one.path.suffix for one in corpus.utterances) == endings
    assert [(one.path.name, one.reason[:18]) for one in corpus.skipped] == [("b_1.aac", ".aac files are not")]


@pytest.mark.parametrize("name", NAMED)
def test_names_of_no_corpus_say_what_is_expected(name: str, touch: Touch) -> None:
    with pytest.raises(WrongCorpus, match=rf"fits --corpus {name} \(for example 'x/1.wav'\)") as caught:
        load_corpus(name, touch(["x/1.wav", "x/2.wav"]))
    assert caught.value.hint == f"wrong --corpus? expected: {CORPORA[name].layout}"


@pytest.mark.parametrize(
    ("asked", "names", "fitting"),
    [
        ("emodb", ["Actor_01/03-01-05-01-01-01-01.wav"], "ravdess"),
        ("ravdess", ["wav/03a01Fa.wav"], "emodb"),
        ("iemocap", ["DEMOS/NP_m_23_tri00a.wav"], "demos"),
        ("cremad", ["Angry/SM1_F10_A010.wav"], "urdu"),
        ("folder", ["1001_DFA_ANG_XX.wav"], "cremad"),
        ("audformat", ["wav/03a01Fa.wav"], "emodb"),
    ],
)
def test_the_wrong_corpus_names_the_right_one(asked: str, names: list[str], fitting: str, touch: Touch) -> None:
    with pytest.raises(WrongCorpus) as caught:
        load_corpus(asked, touch(names))
    assert caught.value.hint == f"wrong --corpus? the names look like --corpus {fitting}"


def test_iemocap_without_labels(touch: Touch) -> None:
    folder = touch(["Session1/sentences/wav/Ses01F_impro04/Ses01F_impro04_F000.wav"])
    with pytest.raises(WrongCorpus) as caught:
        load_corpus("iemocap", folder)
    assert "EmoEvaluation" in caught.value.hint


def test_iemocap_labels_are_found_behind_links(touch: Touch, tmp_path_factory: pytest.TempPathFactory) -> None:
    wav = "sentences/wav/Ses01F_impro04/Ses01F_impro04_F00{}.wav"
    text = "dialog/EmoEvaluation/Ses01F_impro04.txt"
    raters = "dialog/EmoEvaluation/Categorical/Ses01F_impro04_e1_cat.txt"
    session = touch([*(wav.format(number) for number in range(3)), text, raters])
    line = "[6.2901 - 8.2357]\tSes01F_impro04_F00{}\t{}\t[2.5000, 2.5000, 2.5000]\n"
    (session / text).write_text(line.format(0, "exc") + line.format(1, "fru"))
    folder = tmp_path_factory.mktemp("above")
    (folder / "Session1").symlink_to(session)
    corpus = load_corpus("iemocap", folder)
    assert [(one.emotion, one.speaker, one.session) for one in corpus.utterances] == [
        ("happiness", "Ses01_F", "Session1")
    ]
    assert [skipped.reason for skipped in corpus.skipped] == [
        "an emotion outside the customary four",
        "no label in EmoEvaluation",
    ]


def test_names_that_do_not_fit_are_counted(touch: Touch) -> None:
    corpus = load_corpus(
        "ravdess",
        touch(["Actor_01/03-01-05-01-01-01-01.wav", "Actor_01/03-02-05-01-01-01-01.wav", "._x.wav", "README"]),
    )
    assert len(corpus.utterances) == 1
    assert [(skipped.path.name, skipped.reason) for skipped in corpus.skipped] == [
        ("03-02-05-01-01-01-01.wav", "the name does not fit")
    ]


def test_links_to_folders_are_followed_and_circles_end(touch: Touch, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = touch(["Actor_01/03-01-05-01-01-01-01.wav"])
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "03-01-05-01-01-01-02.wav").touch()
    (folder / "Actor_02").symlink_to(elsewhere)
    (folder / "Actor_01" / "up").symlink_to(folder)
    assert load_corpus("ravdess", folder).speakers == ("01", "02")


def test_a_tilde_is_the_home_folder(touch: Touch, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = touch(["data/wav/03a01Fa.wav"])
    monkeypatch.setenv("HOME", os.fspath(folder))
    assert load_corpus("emodb", "~/data").speakers == ("03",)


def test_reading_names_loads_nothing_heavy(touch: Touch) -> None:
    folder = touch(["wav/03a01Fa.wav"])
    program = (
        "import sys, edgeser.corpora.check, edgeser.corpora.downloads, edgeser.corpora.check\n"
        f"edgeser.corpora.load_corpus('emodb', {str(folder)!r})\n"
        "print({'numpy', 'soundfile', 'joblib', 'rich', 'audformat', 'pandas'} & set(sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "set()"
