"""Root of the tree of errors, and the leaves of the exporters.

The root lives in the lowest package so that every package can raise it while imports keep pointing one way.
The whole tree is drawn in :mod:`edgeser.errors`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any, TypeVar

Row = TypeVar("Row")


class EdgeserError(Exception):
    """Something a user can act on.

    Attributes:
        message: One line: what was wrong, and where.
        hint: One line: what to do about it.
        exit_code: Exit code of the command line: 2 for wrong use or input, 1 when work was done and a gate failed.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors cross from worker processes to the one that reports them; Exception would call the class with the
        # message alone, which fails there and hides what happened.
        return rebuild, (type(self), self.message, self.hint), vars(self)


def rebuild(kind: type[EdgeserError], message: str, hint: str) -> EdgeserError:
    """An error of any kind with this message and hint, whatever else its class takes when it is made."""
    builtin: Any = kind
    while builtin.__module__ != "builtins":  # kind.__new__ may be another builtin's, which Python refuses
        builtin = builtin.__base__
    error: EdgeserError = builtin.__new__(kind)
    EdgeserError.__init__(error, message, hint)
    return error


class MissingExtra(EdgeserError, ImportError):
    """A verb needs a package that this installation does not have."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"this needs the package {package!r}, which is not installed",
            f"install it with: pip install '.[{extra}]' in the checkout of edgeser",
        )


class MissingRuntime(EdgeserError, ImportError):
    """No installed package runs, or writes, files of a format on this machine."""


class StorageError(EdgeserError, OSError):
    """A file or folder could not be written or read: full disk, read-only card, missing permission."""


class OutputTaken(StorageError):
    """Something that edgeser did not write, or of another kind, stands in an output's place and is not overwritten."""


class TextError(EdgeserError, ValueError):
    """Text from outside cannot be carried by a kit, or a label cannot be one."""


class ExportError(EdgeserError, ValueError):
    """A student could not be written in the asked format."""


class GraphError(ExportError):
    """An op graph is not well formed, or asks for an op or a size that a writer does not know."""


class ParityError(ExportError):
    """A written file was loaded again and does not compute what its source computes."""

    exit_code = 1


class ModelFileError(ExportError):
    """A model file cannot be read by its runtime, or does not have the inputs and outputs that the writers give it."""


def require_module(module: str, package: str, what: str) -> Any:
    """Import a module of a package that may be missing.

    Args:
        module: The module's dotted name; one of ours that imports the package will do.
        package: The package's name for pip.
        what: The work that needs it: "writing this format".

    Raises:
        MissingRuntime: It cannot be imported.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingRuntime(
            f"{what} needs the package {package!r}, which cannot be imported: {error}",
            f"install it with: pip install {package}",
        ) from error


def choice_hint(name: str, known: Iterable[str]) -> str:
    """A hint for a name that is not in a table: the nearest one, or all of them."""
    from difflib import get_close_matches  # half a megabyte, for mistakes only

    names = list(known)
    near = get_close_matches(name.lower(), names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"choose one of: {', '.join(names)}"


def find_row(table: Mapping[str, Row], name: str, what: str, error: type[EdgeserError]) -> Row:
    """The row ``name`` of a table.

    Args:
        table: Rows by name.
        name: The name as a user wrote it.
        what: A row in words: "format".
        error: The kind of error that is raised where there is no such row, with the nearest name as its hint.
    """
    if name not in table:
        raise error(f"there is no {what} {name!r}", choice_hint(name, table))
    return table[name]
