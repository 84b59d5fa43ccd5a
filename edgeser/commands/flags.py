"""Options that verbs share, and those of ``distill``, which are made of the settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer
from typer.core import TyperCommand

from edgeser.config.field import KINDS, Setting, shown
from edgeser.config.renamed import FLAGS
from edgeser.config.settings import SETTINGS
from edgeser.errors import SettingsError

RUN, MACHINE = "Run", "Machine"
"""Headings of the options that are no settings."""
Moved: TypeAlias = Annotated[
    Path | None, typer.Option("--folder", metavar="DIR", help="Where the corpus is now, if it was moved.")
]
Picture: TypeAlias = Annotated[
    Path | None, typer.Option("--picture", metavar="FILE", help="Draw what is measured, as SVG, PNG or PDF.")
]
Backend: TypeAlias = Annotated[
    str, typer.Option(metavar="NAME", help="Where jobs run: local, or ray for a cluster.", rich_help_panel=MACHINE)
]
Jobs: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        min=1,
        max=256,
        metavar="N",
        help="Number of processes.",
        show_default="all cores",
        rich_help_panel=MACHINE,
    ),
]
Sets: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any other setting, such as mtt.expert_span=6; may be repeated. edgeser methods NAME shows them.",
        show_default="none",
        rich_help_panel=RUN,
    ),
]


class SettingsCommand(TyperCommand):
    """A verb that understands the old options of settings: ``--expert-span 6`` is read as ``--set expert_span=6``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of the command line."""
        return super().parse_args(ctx, list(_with_sets(args)))


def with_settings(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb with an option for each setting that has a flag, in place of its parameter ``given``.

    ``given`` is then the text of each setting that was given, by its key, those after ``--set`` too.
    """
    options = [_option(each) for each in SETTINGS.values() if each.flag]
    keys = {option.name: key for option, key in zip(options, (k for k, s in SETTINGS.items() if s.flag), strict=True)}

    def call(context: typer.Context, **values: Any) -> None:
        named = {keys[name]: values.pop(name) for name in keys if _was_given(context, name)}
        own = {name: value for name, value in values.items() if name not in keys}
        verb(given={**named, **_assignments(own.pop("sets") or ())}, **own)

    parameters = []
    for parameter in inspect.signature(verb, eval_str=True).parameters.values():
        parameters += options if parameter.name == "given" else [parameter]
    context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    call.__signature__ = inspect.Signature([context, *parameters])  # type: ignore[attr-defined]
    call.__annotations__ = {each.name: each.annotation for each in [context, *parameters]}
    call.__doc__ = verb.__doc__
    return call


def _option(setting: Setting) -> inspect.Parameter:
    """The parameter of a verb from which typer makes the option of a setting."""
    option = typer.Option(
        setting.flag,
        metavar=KINDS[setting.kind][3],
        help=setting.help,
        show_default=setting.decides or True,
        rich_help_panel=setting.panel,
    )
    return inspect.Parameter(
        setting.flag.removeprefix("--").replace("-", "_") + "_",  # an own name may be a word of Python, as from is
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        default=None if setting.decides else shown(setting.default),
        annotation=Annotated[str | None, option],
    )


def _was_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


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
