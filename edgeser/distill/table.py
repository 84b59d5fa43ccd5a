"""The one table of methods. Adding a method is one module, one row here, and one test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from edgeser.distill import coresets, gan, gan_files, invert, match, mtt, unroll
from edgeser.distill.label_bank import LABELS
from edgeser.distill.memory import find_memory
from edgeser.distill.method import Method
from edgeser.distill.starts import SMALL_SHARE, find_start
from edgeser.errors import SettingsError
from edgeser.representation import representation_of
from edgeser.settings import Settings, with_budget, with_views
from edgeser.students import build
from edgeser_device.formations import FORMATS
from edgeser_export.errors import choice_hint

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "mtt": Method(
            "trajectory matching",
            mtt.begin,
            mtt.improve,
            needs_trajectories=True,
            defaults=mtt.DEFAULTS,
            rates=("item_rate", "student_steps"),
        ),
        "invert": Method(
            "items that the experts take for their class",
            invert.begin,
            invert.improve,
            needs_experts=True,
            defaults=invert.DEFAULTS,
            start_defaults=invert.START_DEFAULTS,
        ),
        "match": Method(
            "items whose features are distributed as those of the clips",
            match.begin,
            match.improve,
            needs_experts=True,
            defaults=match.DEFAULTS,
        ),
        "unroll": Method(
            "items, labels and learning rates, learnt through the student's own training",
            unroll.begin,
            unroll.improve,
            defaults=unroll.DEFAULTS,
            rates=("peak_rate", "unroll_window", "item_rate"),
            labels=unroll.labels,
            schedule=unroll.schedule,
        ),
        "gan": Method(
            "items drawn from a generator, which can be shipped itself",
            gan.begin,
            gan.improve,
            needs_experts=True,
            defaults=gan.DEFAULTS,
            rates=("generator_rate", "critic_rate"),
            items=gan.items,
            files=gan_files.files,
            fewest_clips=gan.PER_CLASS,
            stops_itself=True,
            makes_more=True,
        ),
        "random": Method("random real items", coresets.random_items),
        "herding": Method("real items whose mean feature follows the class's", coresets.herding, needs_experts=True),
        "kcenter": Method("real items that cover the class's features", coresets.k_center, needs_experts=True),
    }
)


def find_method(name: str) -> Method:
    """The row of a method.

    Raises:
        SettingsError: There is no such method.
    """
    if name not in METHODS:
        raise SettingsError(f"there is no method {name!r}", choice_hint(name, METHODS))
    return METHODS[name]


MANY, FEW = 8, 2
"""Maps in an item below ``SMALL_SHARE`` of the clips, where number counts more than sharpness, and from it on."""


def require_possible(settings: Settings) -> None:
    """Check that method, representation, start, labels, students and what is shipped go together.

    Everything that documents do not allow is refused here, before a recording is read.

    Raises:
        SettingsError: They do not.
    """
    method, representation = find_method(settings.method), representation_of(settings.corpus)
    if not method.makes_more and (settings.ratio, settings.ship) != ("balanced", "items"):
        raise SettingsError(
            f"--method {settings.method} has no generator", "use --method gan, or leave out --ratio and --ship"
        )
    if settings.ship != "items" and settings.formations > 1:
        raise SettingsError(f"--ship {settings.ship} makes whole log-mels", "use --formations 1")
    if settings.start_from and method.items is not None and settings.start_from != representation.usual_starts[0]:
        raise SettingsError(f"--method {settings.method} has no other start", "leave out --from")
    start = find_start(settings.start_from or representation.usual_starts[0])
    find_memory(settings.memory)
    if settings.labels not in LABELS:
        raise SettingsError(f"there is no kind of labels {settings.labels!r}", choice_hint(settings.labels, LABELS))
    for arch, width in ((settings.arch, settings.width), (settings.label_arch, settings.label_width or 1.0)):
        build(arch, 2, width, representation.input_shape)
    asked = {
        f"--ship {settings.ship}": settings.ship != "items",
        f"--from {settings.start_from}": start.needs_time,
        f"--formations {settings.formations}": settings.formations > 1,
        f"--dp {settings.dp:g}": settings.dp > 0,
    }
    for flag, is_asked in asked.items():
        if is_asked and not representation.has_time:
            raise SettingsError(f"{flag} works on log-mels, not on {representation.name}", f"leave out {flag}")


def decided(settings: Settings, train_items: int, classes: int, rarest: int) -> Settings:
    """The settings with everything decided that depends on the corpus, the method and its own values too.

    Args:
        settings: Settings as the user gave them.
        train_items: Training clips.
        classes: Emotions.
        rarest: Training clips of the rarest of them.

    Raises:
        SettingsError: There is no such method.
    """
    method = find_method(settings.method)
    settings = with_budget(settings, train_items, classes)
    own = method.defaults_from(settings.start_from)
    settings = replace(settings, **{key: value for key, value in own.items() if not getattr(settings, key)})
    share = settings.ipc * classes / train_items
    if method.has_starts and not settings.start_from:
        few, many = representation_of(settings.corpus).usual_starts
        settings = replace(settings, start_from=few if share < SMALL_SHARE else many)
    formations = settings.formations or formations_of(settings, share, rarest)
    return with_views(replace(settings, formations=formations), classes)


def formations_of(settings: Settings, share: float, rarest: int) -> int:
    """Log-mels in an item, for a budget of ``share`` of the clips; what a board draws from a generator is whole.

    Methods that take clips get no more than there are: ``rarest`` of the class that has the fewest.
    """
    method = find_method(settings.method)
    if method.makes_more:
        return FEW if settings.ship == "items" else 1
    wanted = MANY if share < SMALL_SHARE else FEW
    if not method.takes_clips(settings.start_from):
        return wanted
    return as_many_as_clips(settings.ipc, wanted, rarest)


def as_many_as_clips(ipc: int, wanted: int, rarest: int) -> int:
    """The most log-mels in an item, ``wanted`` at most, with which ``ipc`` items need no more than ``rarest`` clips."""
    return max((number for number in FORMATS if number <= wanted and ipc * number <= rarest), default=1)


def defaults_of(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Defaults of the representation, the method and the start that ``values`` name; the values come before them.

    Raises:
        SettingsError: There is no such method.
    """
    own = representation_of(str(values.get("corpus", ""))).defaults
    name = str(values.get("method", own.get("method", Settings.method)))
    start = str(values.get("start_from", Settings.start_from))
    return {**own, "method": name, **find_method(name).defaults_from(start)}


def with_start(settings: Settings, start: str) -> Settings:
    """The settings for another start, with its defaults where they had those of the start before."""
    method = find_method(settings.method)
    before, after = method.defaults_from(settings.start_from), method.defaults_from(start)
    changed = {
        name: value
        for name, value in after.items()
        if getattr(settings, name) == before.get(name, getattr(Settings, name))
    }
    return replace(settings, start_from=start, **changed)


def settings_for(method: str, **values: Any) -> Settings:
    """Settings with the defaults of a representation and a method below ``values``."""
    values = {"method": method, **values}
    return Settings(**{**defaults_of(values), **values})
