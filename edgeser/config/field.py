"""What one setting is: its default, what is allowed, and what it means, written beside the field of a dataclass.

@dataclass(frozen=True)
class Mtt(Group):
    prefix: ClassVar[str] = "mtt."
    expert_span: int = setting(4, "Epochs from the start of a match to its target.", low=1, high=1000)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from edgeser.errors import SettingsError
from edgeser_export.errors import choice_hint

Value = int | float | str
KINDS: dict[str, tuple[type[int | float | str], tuple[type, ...], str, str]] = {
    "int": (int, (int,), "a whole number", "N"),
    "float": (float, (int, float), "a number", "X"),
    "str": (str, (str,), "a word", "NAME"),
}
"""By the annotation of a field: the type, what is taken for it, the same in words, and its place in a usage line."""


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        key: Its name in files and after ``--set``: ``ipc``, ``mtt.expert_span``.
        kind: The type as annotated: ``int``, ``float`` or ``str``.
        default: The value where nothing is given.
        help: What it means, as one sentence without its default.
        low: The smallest value of a number without ``choices``.
        high: The largest value of such a number.
        choices: The only values; empty where all from ``low`` to ``high``, or all words, are allowed.
        decides: What decides where the default is left, in words; empty where the default itself is used.
        flag: The option of ``distill`` that gives it; empty where only ``--set`` and files do.
        panel: The heading under which it is shown; empty in a group, which is its own.
    """

    key: str
    kind: str
    default: Value
    help: str
    low: float
    high: float
    choices: tuple[Value, ...]
    decides: str
    flag: str
    panel: str

    @property
    def name(self) -> str:
        """How messages call it: its flag, or its key."""
        return self.flag or self.key

    @property
    def usual(self) -> str:
        """The default in words."""
        return self.decides or shown(self.default)

    @property
    def allowed(self) -> str:
        """The values that it can have, in words."""
        if self.choices:
            return ", ".join(map(shown, self.choices))
        return "" if self.kind == "str" else f"{shown(self.low)} to {shown(self.high)}"

    def parse(self, text: str) -> Value:
        """The value that a text of the command line stands for.

        Raises:
            SettingsError: The text is none, or its value is not allowed.
        """
        try:
            value = KINDS[self.kind][0](text)
        except ValueError as error:
            raise self._refused(text, f", not {KINDS[self.kind][2]}") from error
        self.check(value)
        return value

    def check(self, value: object) -> None:
        """Check the type, the bounds and the choices.

        Raises:
            SettingsError: The value is not allowed.
        """
        _, types, noun, _ = KINDS[self.kind]
        if isinstance(value, bool) or not isinstance(value, types):
            raise self._refused(value, f", not {noun}")
        if self.choices and value not in (*self.choices, self.default):
            raise SettingsError(
                f"{self.name} is {shown(value)!r}" if self.kind == "str" else f"{self.name} is {shown(value)}",
                choice_hint(str(value), map(shown, self.choices)),
            )
        if self.kind != "str" and not self.choices and not self.low <= value <= self.high:  # type: ignore[operator]
            raise self._refused(value)

    def _refused(self, value: object, but: str = "") -> SettingsError:
        hint = f"give {KINDS[self.kind][2]}" + (f" from {self.allowed}" if not self.choices and self.allowed else "")
        return SettingsError(f"{self.name} is {shown(value) if not but else repr(value)}{but}", hint)


def setting(
    default: Value,
    help: str,  # noqa: A002  what it is called everywhere else
    *,
    low: float = 0,
    high: float = 0,
    choices: tuple[Value, ...] = (),
    decides: str = "",
    flag: str = "",
    panel: str = "",
) -> Any:
    """Declare a setting; the arguments are attributes of :class:`Setting`."""
    more = {"help": help, "low": low, "high": high, "choices": choices, "decides": decides}
    return dataclasses.field(default=default, metadata={**more, "flag": flag, "panel": panel})


class Group:
    """Settings that belong together; a dataclass whose values are checked when it is made."""

    prefix: ClassVar[str] = ""
    """The beginning of the keys of its settings: ``mtt.``; empty for those of every run."""

    def __post_init__(self) -> None:
        for each in settings_in(type(self), nested=False):
            each.check(getattr(self, each.key.removeprefix(self.prefix)))


def settings_in(kind: type[Group], nested: bool = True) -> Iterator[Setting]:
    """The settings that a group declares, and with ``nested`` those of the groups in it."""
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        default: Any = field.default
        if field.metadata:
            yield Setting(kind.prefix + field.name, str(field.type), default, **field.metadata)
        elif nested:
            yield from settings_in(type(default))


def shown(value: object) -> str:
    """A value as a user would type it."""
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
