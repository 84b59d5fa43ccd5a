"""One setting: a field of a dataclass with a default, what is allowed, and its meaning as the text below.

@dataclass(frozen=True)
class Mtt:
    expert_span: int = setting(4, 1, 1000)
    \"\"\"Distance from the start of a match to its target, P, in epochs of the experts.\"\"\"
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

from edgeser.errors import SettingsError
from edgeser_export.utilities.errors import choice_hint

Value = int | float | str
KINDS: dict[str, tuple[type[Value], str, str]] = {
    "int": (int, "a whole number", "N"),
    "float": (float, "a number", "X"),
    "str": (str, "a word", "NAME"),
}
"""By the annotation of a field: the type, the same in words, and its place in a usage line."""


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        key: Its name in files and after ``--set``: ``ipc``, ``mtt.expert_span``.
        kind: The type as annotated: ``int``, ``float`` or ``str``.
        default: The value where nothing is given.
        help: The meaning, as one sentence.
        low: The smallest value of a number without ``choices``.
        high: The largest value of such a number.
        choices: The only values besides the default; empty where there are bounds, or all words are allowed.
        decides: The rule that decides where nothing is given, in words; empty where the default itself is used.
        panel: The heading under which it is shown; empty in a group, which is its own.
        flag: The option of ``distill`` that gives it; empty where only ``--set`` and files do.
    """

    key: str
    kind: str
    default: Value
    help: str
    low: float = 0
    high: float = 0
    choices: tuple[Value, ...] = ()
    decides: str = ""
    panel: str = ""
    flag: str = ""

    @property
    def name(self) -> str:
        """The name in messages: its option, or its key."""
        return self.flag or self.key

    @property
    def usual(self) -> str:
        """The default in words."""
        return self.decides or shown(self.default)

    @property
    def allowed(self) -> str:
        """The values that it can have, in words."""
        if self.choices or self.kind == "str":
            return ", ".join(map(shown, self.choices))
        return f"{shown(self.low)} to {shown(self.high)}"

    def parse(self, text: str) -> Value:
        """The value that a text of the command line stands for; what stands for none is refused by :meth:`check`."""
        try:
            return KINDS[self.kind][0](text)
        except ValueError:
            return text

    def check(self, value: Any) -> None:
        """Check type, bounds and choices.

        Raises:
            SettingsError: The value is not allowed.
        """
        kind = KINDS[self.kind][0]
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise self._refused(repr(value))
        if self.choices and value not in (*self.choices, self.default):
            raise SettingsError(f"{self.name} is {value!r}", choice_hint(str(value), map(shown, self.choices)))
        if not self.choices and not isinstance(value, str) and not self.low <= value <= self.high:
            raise self._refused(shown(value))

    def _refused(self, value: str) -> SettingsError:
        bounds = "" if self.choices or self.kind == "str" else f" from {self.allowed}"
        return SettingsError(f"{self.name} is {value}", f"give {KINDS[self.kind][1]}{bounds}")


def setting(default: Value, low: float = 0, high: float = 0, **more: Any) -> Any:
    """Declare a setting; the arguments are attributes of :class:`Setting`. One below a panel has a flag of its name."""
    return dataclasses.field(default=default, metadata={"low": low, "high": high, **more})


def settings_in(kind: type) -> Iterator[Setting]:
    """The settings that a dataclass declares, and those of the groups in it."""
    for field in dataclasses.fields(kind):
        default: Any = field.default
        if field.metadata:
            text = _texts(kind.__module__)[kind.__name__, field.name]
            flag = {"flag": f"--{field.name}"} if "panel" in field.metadata else {}
            yield Setting(field.name, str(field.type), default, text, **{**flag, **field.metadata})
        else:
            for each in settings_in(type(default)):
                yield dataclasses.replace(each, key=f"{field.name}.{each.key}")


@cache
def _texts(module: str) -> dict[tuple[str, str], str]:
    """The text below each field, on one line, by the names of class and field."""
    found = {}
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    for declared in (each for each in tree.body if isinstance(each, ast.ClassDef)):
        for field, text in pairwise(declared.body):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                words = str(ast.literal_eval(text.value)).split()
                found[declared.name, ast.unparse(field.target)] = " ".join(words)
    return found


def shown(value: object) -> str:
    """A value as a user would type it."""
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
