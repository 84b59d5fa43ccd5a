"""The rule for text from outside: what it changes, what it refuses, and that asking twice changes nothing."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeser_export.utilities.errors import TextError
from edgeser_export.utilities.outside import (
    MOST_LABEL,
    MOST_WORDS,
    is_label,
    is_text,
    require_label,
    require_path,
    require_text,
    spelling,
    tidy,
)

anything = st.text(st.characters(exclude_categories=()), max_size=60)
"""Any string that Python can hold, with halves of surrogate pairs."""


@given(anything)
def test_a_tidy_text_is_composed_and_stays_as_it_is(text: str) -> None:
    found = tidy(text)
    assert found == tidy(found) == unicodedata.normalize("NFC", found)
    assert found == found.strip()
    assert "  " not in found


@given(anything)
def test_a_label_is_refused_or_is_one_for_host_and_board_and_names_a_folder(text: str) -> None:
    if not is_label(tidy(text)):
        with pytest.raises(TextError) as caught:
            require_label(text, "here")
        assert (caught.value.message + caught.value.hint).isprintable()
        return
    label = require_label(text, "here")
    assert label == tidy(text) == require_label(label, "here")
    assert is_label(label)
    assert is_text(label)
    assert Path("a", label).parts == ("a", label)
    assert len(label.encode()) < 200
    assert not label.startswith((".", "-"))


@given(anything)
def test_what_is_text_for_the_host_is_text_for_the_board(text: str) -> None:
    try:
        found = require_text(text, "here")
    except TextError:
        return
    assert is_text(found)
    assert is_text(f"title: {found}, {found}")


@given(anything, st.sampled_from([str.upper, str.title, lambda text: f" {text} ", lambda text: text.replace(" ", "_")]))
def test_spellings_of_one_name(text: str, change: object) -> None:
    assert spelling(tidy(text)) == spelling(text)
    if text.isascii():
        assert spelling(change(text)) == spelling(text)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Anna", "anna ", True),
        ("José", "Jose\u0301", True),
        ("m 1", "M-01", True),
        ("\uff10\uff11", "1", True),
        ("3", "03", True),
        ("1-1", "11", False),
        ("1.05", "1.5", False),
        ("anna", "anne", False),
        ("Nuñez", "Nunez", False),
    ],
)
def test_which_names_are_one(one: str, other: str, same: bool) -> None:
    assert (spelling(one) == spelling(other)) == same


@pytest.mark.parametrize(
    "label",
    [
        "anger",
        "so-so (neutral)",
        "幸せ",
        "\u0628\u06cc\u200c\u062a",
        "😮\u200d💨",
        "a\u00a0b",
        "a $x_{$",
        "b<b>&'\"",
        "7",
    ],
)
def test_unusual_labels_that_are_legal(label: str) -> None:
    assert require_label(label, "here") == label.replace("\u00a0", " ")


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("", "'' is empty"),
        (" \t\u3000", "'' is empty"),
        ("a/b", "holds the sign /"),
        ("a\\b", r"holds the sign \\"),
        ("a=b", "holds the sign ="),
        ("a#b", "holds the sign #"),
        (".hidden", "does not begin"),
        ("-x", "does not begin"),
        ("\u0301a", "does not begin"),
        ("an\u00adger", r"U\+00AD \(SOFT HYPHEN\)"),
        ("anger\u200e", "LEFT-TO-RIGHT MARK"),
        ("\ufeffanger", "ZERO WIDTH NO-BREAK SPACE"),
        ("caf\udce9", "is not UTF-8"),
        ("a\x1b[31m", r"U\+001B \(without a name\)"),
        ("x" * (MOST_LABEL + 1), "49 characters, more than 48"),
    ],
)
def test_labels_that_are_refused(label: str, words: str) -> None:
    with pytest.raises(TextError, match=rf"list\.csv, line 3: the label .*{words}"):
        require_label(label, "list.csv, line 3")


def test_long_texts() -> None:
    assert require_text("x" * MOST_WORDS, "here")
    with pytest.raises(TextError, match="more than 4000"):
        require_text("x" * (MOST_WORDS + 1), "here")


def test_names_of_files() -> None:
    assert require_path(Path("caf\u00e9")) == Path("caf\u00e9")
    with pytest.raises(TextError, match="is not UTF-8"):
        require_path(Path("caf\udce9") / "x")
