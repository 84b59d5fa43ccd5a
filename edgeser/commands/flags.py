"""Options that verbs share, and those of ``distill``, which are made of the settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, TypeAlias

import typer

from edgeser.commands.common import Verb, option
from edgeser.config.field import KINDS, Setting, shown
from edgeser.config.renamed import FLAGS
from edgeser.config.settings import SETTINGS
from edgeser.errors import SettingsError

RUN, MACHINE = "Run", "Machine"
"""Headings of the options that are no settings."""
Moved: TypeAlias = Annotated[Path | None, option("--folder", "Where the corpus is now, if it was moved.", "DIR")]
Picture: TypeAlias = Annotated[Path | None, option("--picture", "Draw what is measured, as SVG, PNG or PDF.", "FILE")]
Backend: TypeAlias = Annotated[
    str, option("--backend", "Where jobs run: local, or ray for a cluster.", "NAME", rich_help_panel=MACHINE)
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
        SettingsError: What follows ``--set`` names no value.
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
