"""The one table of methods. Adding a method is one module, one row here, and one test."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from edgeser.distill import coresets, gan, gan_files, invert, match, mtt, unroll
from edgeser.distill.method import Method
from edgeser.distill.starts import SMALL_SHARE, USUAL, find_start, start_of
from edgeser.errors import SettingsError
from edgeser.settings import Settings, with_budget, with_views
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


_MTT = (
    "trajectories", "expert_span", "earliest_start", "first_window", "start_window", "window_growth",
    "trajectory_rate", "trajectory_momentum", "flatness", "student_steps", "student_batch", "step_size",
    "label_rate", "gate", "item_average",
)  # fmt: skip
_GAN = (
    "latent", "pretraining", "generator_rate", "critic_rate", "critic_steps", "penalty_weight", "adversarial_weight",
    "feature_weight", "probability_weight", "diversity_weight", "polish", "ratio", "ship",
)  # fmt: skip
READ_BY: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("iterations", "check_every", "patience"), ("mtt", "invert", "match", "unroll", "gan")),
    **dict.fromkeys(("item_rate", "start_from"), ("mtt", "invert", "match", "unroll")),
    **dict.fromkeys(_MTT, ("mtt",)),
    **dict.fromkeys(_GAN, ("gan",)),
    "memory": ("mtt", "unroll"),
    "statistics_weight": ("invert", "gan"),
    "label_weight": ("match",),
    "dp": ("match",),
    "unroll_window": ("unroll",),
}
"""The methods that read a setting; a setting without a row is read by all."""
_OF_INIT = ("trajectory_rate", "trajectory_momentum", "flatness")
"""Settings that every method reads whose initialisation is trained."""
_OF_EXPERTS = ("experts", "label_arch", "label_width", "expert_steps")
"""Settings that nobody reads where no experts are trained."""
NOT_OF_VECTORS = (
    "arch", "init_epoch", "label_arch", "views", "peak_rate", "weight_decay", "check_every", "patience", "candidates",
)  # fmt: skip
"""Settings that are read for log-mels only."""


def require_read(settings: Settings, given: Iterable[str], vectors: bool = False) -> None:
    """Check that settings which somebody chose are read.

    Args:
        settings: All of them.
        given: Names of those that were chosen.
        vectors: Whether the run is of vectors.

    Raises:
        SettingsError: One has no effect.
    """
    method = find_method(settings.method)
    trains = settings.labels != "hard" or (method.needs_experts and not settings.dp)
    for name in given:
        readers = READ_BY.get(name, METHODS)
        if settings.method not in readers and not (settings.init_epoch and name in _OF_INIT):
            this, those = f"--method {settings.method}", " or ".join(f"--method {each}" for each in readers)
        elif vectors and name in NOT_OF_VECTORS:
            this, those = "a run of vectors", "a run of recordings"
        elif not trains and name in _OF_EXPERTS:
            this, those = "a run of hard labels", "a run of --labels soft or bank"
        else:
            continue
        flag = "--from" if name == "start_from" else f"--{name.replace('_', '-')}"
        raise SettingsError(f"{flag} has no effect: {this} does not read it", f"leave it out; {those} reads it")


def find_method(name: str) -> Method:
    """The row of a method.

    Raises:
        SettingsError: There is no such method.
    """
    if name not in METHODS:
        raise SettingsError(f"there is no method {name!r}", choice_hint(name, METHODS))
    return METHODS[name]


MANY, FEW = 8, 2
"""Log-mels in an item below ``SMALL_SHARE`` of the clips, where number counts more than sharpness, and from it on."""


def decided(settings: Settings, train_items: int, classes: int, rarest: int) -> Settings:
    """The settings with everything decided that depends on the corpus, the method and its own values too.

    Args:
        settings: As the user gave them.
        train_items: Training clips.
        classes: Emotions.
        rarest: Training clips of the rarest of them.

    Raises:
        SettingsError: There is no such method.
    """
    settings = with_budget(settings, train_items, classes)
    own = defaults_of(settings.method, settings.start_from)
    settings = replace(settings, **{key: value for key, value in own.items() if not getattr(settings, key)})
    share = settings.ipc * classes / train_items
    if has_starts(settings):
        settings = replace(settings, start_from=settings.start_from or start_of(share))
    formations = settings.formations or formations_of(settings, share, rarest)
    return with_views(replace(settings, formations=formations), classes)


def formations_of(settings: Settings, share: float, rarest: int) -> int:
    """Log-mels in an item, for a budget of ``share`` of the clips; what a board draws from a generator is whole.

    Methods that take clips get no more than there are: ``rarest`` of the class that has the fewest.
    """
    if find_method(settings.method).makes_more:
        return FEW if settings.ship == "items" else 1
    wanted = MANY if share < SMALL_SHARE else FEW
    if not takes_clips(settings):
        return wanted
    return as_many_as_clips(settings.ipc, wanted, rarest)


def as_many_as_clips(ipc: int, wanted: int, rarest: int) -> int:
    """The most log-mels in an item, ``wanted`` at most, with which ``ipc`` items need no more than ``rarest`` clips."""
    return max((number for number in FORMATS if number <= wanted and ipc * number <= rarest), default=1)


def has_starts(settings: Settings) -> bool:
    """Whether items begin as what ``start_from`` says; chosen and generated ones do not."""
    method = find_method(settings.method)
    return method.improve is not None and method.items is None


def require_start(settings: Settings) -> None:
    """Check that the items' beginning exists, and that nobody asks for one that the method does not read.

    Raises:
        SettingsError: There is no such start, or the method makes its items of something else.
    """
    if settings.start_from:
        find_start(settings.start_from)
    if find_method(settings.method).items is not None and settings.start_from not in ("", USUAL):
        raise SettingsError(f"--method {settings.method} has no other start", "leave out --from")


def takes_clips(settings: Settings) -> bool:
    """Whether every log-mel begins as a clip of its own, so that there cannot be more of them."""
    return find_method(settings.method).improve is None or settings.start_from == "real"


def defaults_of(name: str, start_from: str = Settings.start_from) -> Mapping[str, Any]:
    """The settings that a method has by itself from such a start, where they differ from the defaults of all.

    Raises:
        SettingsError: There is no such method.
    """
    method = find_method(name)
    return {**method.defaults, **method.start_defaults.get(start_from, {})}


def with_start(settings: Settings, start: str) -> Settings:
    """The settings for another start, with its defaults where they had those of the start before."""
    before, after = (defaults_of(settings.method, each) for each in (settings.start_from, start))
    changed = {
        name: value
        for name, value in after.items()
        if getattr(settings, name) == before.get(name, getattr(Settings, name))
    }
    return replace(settings, start_from=start, **changed)


def settings_for(method: str, **values: Any) -> Settings:
    """Settings with a method's own defaults below ``values``."""
    start = values.get("start_from", Settings.start_from)
    return Settings(**{"method": method, **defaults_of(method, start), **values})
