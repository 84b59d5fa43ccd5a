"""Helpers that all verbs share: options with one spelling, and results printed for people or for programs."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, TypeAlias

import typer
from typer.core import TyperCommand, TyperOption

from edgeser.config.field import KINDS, Setting, shown
from edgeser.config.renamed import FLAGS
from edgeser.config.settings import SETTINGS
from edgeser.errors import SettingsError
from edgeser_export.utilities.outside import expand, read_number, read_whole

NONE: Mapping[str, str] = MappingProxyType({})


def option(flag: str, text: str, value: str | None = None, usual: str | bool = True, **more: Any) -> Any:
    """An option: flag, help, what stands for its value there, and its default in words; ``more`` is typer's."""
    return typer.Option(flag, help=text, metavar=value, show_default=usual, **more)


Json = Annotated[bool, option("--json", "Print one JSON object on stdout and nothing else there.")]
Trust = Annotated[Path | None, option("--trust", "Refuse kits that are not signed with this public key.", "KEY")]


class Verb(TyperCommand):
    """A verb whose help shows the default of every option that takes a value; where there is none it says so."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        for option in self.params:
            if not isinstance(option, TyperOption) or option.is_flag or option.required:
                continue
            # The parser's own mark for "nothing given" differs between versions; it is none of these types.
            if not isinstance(option.default, (str, int, float, Path)) and not isinstance(option.show_default, str):
                option.show_default = "none"


def refuse_ignored(context: typer.Context, needs: Mapping[str, str] = NONE, excludes: Mapping[str, str] = NONE) -> None:
    """Refuse flags that would have no effect beside the others.

    Args:
        context: The context of the verb, which knows what was given.
        needs: Parameters without effect, each with the one that it needs.
        excludes: Parameters without effect, each with the one that excludes it.

    Raises:
        SettingsError: Such a flag was given.
    """
    flags = {parameter.name: parameter.opts[0] for parameter in context.command.params}
    given = {name for name in flags if getattr(context.get_parameter_source(str(name)), "name", "") == "COMMANDLINE"}
    for name, other in needs.items():
        if name in given and other not in given:
            raise SettingsError(
                f"{flags[name]} has no effect without {flags[other]}", f"leave it out, or give {flags[other]} too"
            )
    for name, other in excludes.items():
        if {name, other} <= given:
            raise SettingsError(f"{flags[name]} has no effect with {flags[other]}", "leave out one of them")


def whole_path(folder: Path | None) -> str:
    """An absolute path, or an empty text where no folder is given."""
    return str(expand(folder).resolve()) if folder else ""


PIPE_WIDTH = 240
"""Columns of a table that goes into a pipe or file: no row is folded, so that grep and cut find whole lines."""


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on stdout; numbers that are not finite are refused rather than printed.

    It is ASCII: names of files may be in any encoding, and so may be the terminal.
    """
    typer.echo(json.dumps(value, allow_nan=False))


def show(value: Mapping[str, Any], words: Callable[[], object], as_json: bool) -> None:
    """Print a result.

    Args:
        value: The result as JSON.
        words: A function that makes of it what people read: a text, or what rich prints.
        as_json: Whether programs read it.
    """
    if as_json:
        print_json(value)
        return
    found = words()
    typer.echo(found) if isinstance(found, str) else print_rich(found)


def add_verbs(app: typer.Typer, *verbs: tuple[str, Callable[..., None], str]) -> None:
    """Add verbs to a command line, each with its name and an example."""
    for name, verb, example in verbs:
        app.command(name, epilog=f"Example: {example}")(verb)


def say(text: str) -> None:
    """Tell the user something that is not a result: on stderr, so that stdout stays clean."""
    typer.echo(text, err=True)


def print_rich(renderable: object) -> None:
    """Print a table or panel on stdout; plain text when stdout is no terminal.

    Nothing in it is read as markup: names of files and labels are data. Style is given with rich's ``Text``.
    """
    from rich.console import Console

    wide = None if sys.stdout.isatty() else PIPE_WIDTH
    Console(width=wide, markup=False, emoji=False, highlight=False).print(renderable)


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
"""The reader that a word is given to before click's own type, by the beginning of the type's name."""


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


RUN, MACHINE = "Run", "Machine"
"""Headings of the options that are no settings."""
Moved: TypeAlias = Annotated[Path | None, option("--folder", "Present folder of the corpus, if it was moved.", "DIR")]
Backend: TypeAlias = Annotated[
    str, option("--backend", "Place where jobs run: local, or ray for a cluster.", "NAME", rich_help_panel=MACHINE)
]
Jobs: TypeAlias = Annotated[
    int | None,
    option("--jobs", "Number of processes.", "N", min=1, max=256, usual="all cores", rich_help_panel=MACHINE),
]
SETS = "Any other setting, such as mtt.expert_span=6; may be repeated. edgeser methods NAME shows them."
Sets: TypeAlias = Annotated[list[str] | None, option("--set", SETS, "KEY=VALUE", rich_help_panel=RUN)]


class SettingsVerb(Verb):
    """A verb that understands the old options of settings: ``--expert-span 6`` is read as ``--set expert_span=6``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of the command line."""
        return super().parse_args(ctx, list(_with_sets(args)))


def with_settings(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb with ``--set`` and an option for each setting that has a flag, in place of its parameter ``given``.

    ``given`` is then what the user gave: the texts of settings by their keys.
    """
    own = inspect.signature(verb, eval_str=True).parameters

    def call(context: typer.Context, **values: Any) -> None:
        verb(given=texts_in(context), **{name: value for name, value in values.items() if name in own})

    parameters = [_parameter("context", typer.Context, inspect.Parameter.empty)]
    for name, parameter in own.items():
        parameters += [*map(_option, OPTIONS.values()), _parameter("sets", Sets)] if name == "given" else [parameter]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {each.name: each.annotation for each in parameters}
    call.__name__, call.__doc__ = verb.__name__, verb.__doc__
    return call


def texts_in(context: typer.Context) -> dict[str, str]:
    """The texts of the settings that were given on the command line, by their keys.

    Raises:
        SettingsError: The text after ``--set`` names no value.
    """
    sources = {name: context.get_parameter_source(name) for name in OPTIONS}
    given = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    return {**{OPTIONS[name].key: context.params[name] for name in given}, **_assignments(context.params["sets"] or ())}


OPTIONS: Mapping[str, Setting] = MappingProxyType(
    {f"setting_{key}": each for key, each in SETTINGS.items() if each.flag}
)
"""The settings that have an option, by the names of the parameters that typer makes it of."""


def _option(setting: Setting) -> inspect.Parameter:
    usual, default = setting.decides or True, None if setting.decides else shown(setting.default)
    place = KINDS[setting.kind][2]
    made = option(setting.flag, setting.help, place, usual=usual, rich_help_panel=setting.panel)
    return _parameter(f"setting_{setting.key}", Annotated[str | None, made], default)


def _parameter(name: str, annotation: Any, default: Any = None) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=annotation)


def _assignments(sets: Iterable[str]) -> dict[str, str]:
    """The texts by keys of what was given as ``--set KEY=VALUE``.

    Raises:
        SettingsError: One is not written so.
    """
    for text in sets:
        if "=" not in text:
            raise SettingsError(f"--set {text} names no value", "write it like this: --set mtt.expert_span=6")
    return {key.strip(): value.strip() for key, _, value in (text.partition("=") for text in sets)}


def _with_sets(words: Iterable[str]) -> Iterator[str]:
    """The words of a command line with ``--set NAME=VALUE`` for each old option and its value."""
    rest = iter(words)
    for word in rest:
        flag, equals, value = word.partition("=")
        if flag in FLAGS:
            yield from ("--set", f"{FLAGS[flag]}={value if equals else next(rest, '')}")
        else:
            yield word
