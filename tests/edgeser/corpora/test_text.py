"""Any string, by every way in: it is refused by each, or each gives the same label or speaker."""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from edgeser.corpora import load_corpus
from edgeser.corpora.emotions import ALIASES, EMOTIONS, is_emotion, plain_name
from edgeser.evaluation.cross_corpus import label_map
from edgeser.representation.vector_file import read_vectors
from edgeser_device.errors import AudioError
from edgeser_device.listen.record import find_label, record_clips
from edgeser_device.listen.speech import SpeechSettings
from edgeser_export.utilities.errors import EdgeserError
from edgeser_export.utilities.outside import is_label, is_text, require_label, require_text, tidy

texts = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=50),
    st.text("aé\u0301 -_.,;'\"#=/\\\t\n\u00a0\u200c\u200e\udce9😀", max_size=8),
)


def from_folder(folder: Path, text: str) -> str:
    assume(text and "/" not in text and "\0" not in text and not text.startswith((".", "__MACOSX")) and encodable(text))
    (folder / text).mkdir()
    for name in ("anna_1.wav", "anna_2.wav"):
        (folder / text / name).touch()
    return load_corpus("folder", folder).labels[0]


def encodable(text: str) -> bool:
    with suppress(UnicodeEncodeError):
        return len(os.fsencode(text)) < 256
    return False


def declare(folder: Path, text: str) -> None:
    (folder / "1.wav").touch()
    with suppress(EdgeserError):
        (folder / "labels.txt").write_text(require_label(text, ""), encoding="utf-8")


def from_csv(folder: Path, text: str) -> str:
    declare(folder, text)
    with (folder / "manifest.csv").open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        csv.writer(file).writerows([("path", "emotion", "speaker"), ("1.wav", text, "anna")])
    return load_corpus("manifest", folder).labels[0]


def from_json(folder: Path, text: str) -> str:
    declare(folder, text)
    (folder / "manifest.jsonl").write_text(json.dumps({"path": "1.wav", "emotion": text, "speaker": "anna"}))
    return load_corpus("manifest", folder).labels[0]


def from_vectors(folder: Path, text: str) -> str:
    assume("\0" not in text[-1:])  # numpy cuts them off
    np.savez(folder / "a.npz", features=np.ones((1, 2)), labels=np.array([text]), speakers=np.array(["anna"]))
    return plain_name(read_vectors(folder / "a.npz").names[0])


def from_record(folder: Path, text: str) -> str:
    label, _ = find_label(text, folder, ())
    try:
        record_clips(label, folder, 1, folder / "a.wav", None, None, "level", SpeechSettings(), lambda _: None)
    except AudioError:  # the label is one, and there is no recording
        return plain_name(label)
    raise AssertionError


def from_map(_: Path, text: str) -> str:
    assume("=" not in text)
    ours = [plain_name(text)] if is_label(plain_name(text)) else ["calm"]
    assume(ours[0] not in ("joy", "anger", "x"))
    found = label_map([*ours, "anger"], ["anger", "x"], [f"{text}=x"])
    return next(name for name, other in found.items() if other == "x")


def expected(text: str) -> str | None:
    with suppress(EdgeserError):
        return require_label(plain_name(text), "")
    return None


@pytest.mark.parametrize("way", [from_folder, from_csv, from_json, from_vectors, from_record, from_map])
@settings(max_examples=60)
@given(texts)
@example("cole\u0301re")
@example("anger ")
@example("a\u200eb")
@example("x" * 49)
@example("İ" * 30)
@example("caf\udce9")
def test_a_label_enters_alike_or_is_refused_by_every_way(way: Callable[[Path, str], str], text: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        try:
            found: str | None = way(Path(place), text)
        except EdgeserError:
            found = None
        assert found == expected(text)


@settings(max_examples=40)
@given(texts)
def test_a_speaker_enters_as_text_or_is_refused(text: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "1.wav").touch()
        row = {"path": "1.wav", "emotion": "anger", "speaker": text}
        (folder / "manifest.jsonl").write_text(json.dumps(row))
        try:
            speaker = load_corpus("manifest", folder).speakers[0]
        except EdgeserError:
            assert not tidy(text) or not is_text(tidy(text))
            return
        assert speaker in (tidy(text), tidy(text).partition(".0")[0])
        assert is_text(speaker)


@given(texts)
def test_plain_names_stay_as_they_are(text: str) -> None:
    assert plain_name(plain_name(text)) == plain_name(text) == plain_name(f"  {text}\n")


def test_emotions_are_known_in_any_spelling() -> None:
    for word in (
        *EMOTIONS,
        *ALIASES,
        "Wut",
        "colère",
        "cole\u0300re",
        "Rabbia",
        "ANG",
        "02_Angry",
        "Pleasant surprise",
    ):
        assert is_emotion(word), word
    for word in ("anna", "f1", "0001", "a", "train", "spk3", ""):
        assert not is_emotion(word), word


@settings(max_examples=40)
@given(st.dictionaries(st.sampled_from(["title", "licence", "consent", "notes", "language"]), texts, min_size=1))
def test_a_card_is_tidy_or_refused(stated: dict[str, str]) -> None:
    import tomli_w

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name in ("anger/anna_1.wav", "anger/anna_2.wav"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).touch()
        (folder / "card.toml").write_bytes(tomli_w.dumps(stated).encode("utf-8", "surrogatepass"))
        try:
            card = load_corpus("folder", folder).card.describe()
        except EdgeserError:
            assert any(not is_text(tidy(text)) or "\r" in text for text in stated.values())
            return
        assert {key: card[key] for key in stated} == {key: require_text(text, "") for key, text in stated.items()}
