"""What holds for the arguments of all verbs, whoever declared them."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

import typer

from edgeser_export.numbers import read_number, read_whole


def _read_path(text: str) -> str:
    if not text:
        raise ValueError("it is empty")  # an unset variable of a shell, which would mean the current folder
    return text


READERS: dict[str, Callable[[str], Any]] = {
    "float": read_number,
    "int": read_whole,
    "integer": read_whole,  # before typer 0.26
    "path": _read_path,
}
"""How the words for a type of click are read first, by the beginning of the type's name."""


def read_strictly(command: Any) -> Any:
    """Let a command, and those below it, take only finite numbers in plain digits, and no empty paths.

    Args:
        command: A command or group of click, in whichever copy typer uses; it is changed.

    Returns:
        The same.
    """
    for below in getattr(command, "commands", {}).values():
        read_strictly(below)
    for parameter in command.params:
        if reader := READERS.get(parameter.type.name.partition(" ")[0]):
            parameter.type = _strict(parameter.type, reader)
    return command


def _strict(usual: Any, reader: Callable[[str], Any]) -> Any:
    strict = copy(usual)

    def convert(value: Any, parameter: Any, context: Any) -> Any:
        try:
            given = reader(value) if isinstance(value, str) else value
        except ValueError as error:
            raise typer.BadParameter(str(error), ctx=context, param=parameter) from error
        return usual.convert(given, parameter, context)

    strict.convert = convert
    return strict
