"""The tree of errors is the one that is drawn, says what to do, and survives the way between processes."""

from __future__ import annotations

import pickle
import re
from importlib import import_module

import pytest
from sources import classes_below

import edgeser.errors
from edgeser.corpora.errors import CorpusNotFound, UnsafeArchive
from edgeser_export.utilities.errors import EdgeserError, MissingExtra, StorageError


def drawn_tree() -> dict[str, tuple[str, str | None]]:
    """{name: (parent, the builtin beside it)}, read from the docstring of edgeser.errors."""
    tree: dict[str, tuple[str, str | None]] = {}
    above = {0: "EdgeserError"}
    for line in (edgeser.errors.__doc__ or "").splitlines():
        found = re.match(r"^    ([│ ]*)[├└]── (\w+)(?:\s+\((\w+)\))?", line)
        if found:
            depth = len(found[1]) // 4 + 1
            above[depth] = found[2]
            tree[found[2]] = (above[depth - 1], found[3])
    return tree


def kind_of(name: str) -> type[EdgeserError]:
    """A class of the tree, from the module that defines it."""
    module = "edgeser_export.utilities.errors" if name == "EdgeserError" else classes_below("EdgeserError")[name].module
    kind: type[EdgeserError] = getattr(import_module(module), name)
    return kind


def test_the_drawn_tree_is_the_tree_in_the_sources() -> None:
    drawn = {name: parent for name, (parent, _) in drawn_tree().items()}
    assert drawn == {name: entry.parent for name, entry in classes_below("EdgeserError").items()}


@pytest.mark.parametrize("name", sorted(drawn_tree()))
def test_every_leaf_has_its_builtin_and_its_meaning(name: str) -> None:
    kind = kind_of(name)
    parent, builtin = drawn_tree()[name]
    assert issubclass(kind, EdgeserError)
    assert kind.__doc__
    assert kind.__doc__ != EdgeserError.__doc__
    builtins = [base.__name__ for base in kind.__bases__ if base.__module__ == "builtins"]
    assert builtins == ([] if builtin is None else [builtin])
    assert parent in {base.__name__ for base in kind.__bases__}


@pytest.mark.parametrize("name", sorted(["EdgeserError", *drawn_tree()]))
def test_an_error_crosses_processes_whole(name: str) -> None:
    kind = kind_of(name)
    constructor, arguments, _ = EdgeserError("what was wrong", "what to do").__reduce__()
    error = constructor(kind, *arguments[1:])
    error.more = "an attribute of its own"
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(copy) == "what was wrong"
    assert vars(copy) == vars(error)


@pytest.mark.parametrize(
    "error", [MissingExtra("torch", "host"), UnsafeArchive("a.zip", "x"), CorpusNotFound("emodb", None)]
)
def test_an_error_with_words_of_its_own_crosses_too(error: EdgeserError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.hint) == (type(error), str(error), error.hint)


def test_the_text_is_the_message_alone() -> None:
    # OSError would make "[Errno message] hint" of two arguments.
    assert str(StorageError("cannot write x: No space left on device", "check the free space")) == (
        "cannot write x: No space left on device"
    )


def test_a_missing_extra_names_the_command_to_run() -> None:
    assert "pip install '.[mic]'" in MissingExtra("sounddevice", "mic").hint
