"""The one table of methods. Adding a method is one module, one row here, and one test."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from edgeser.config.settings import STARTS, Settings
from edgeser.distill import coresets, gan, gan_files, invert, match, mtt, unroll
from edgeser.distill.method import Method
from edgeser.errors import SettingsError
from edgeser_device.formations import FORMATS

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "mtt": Method(
            mtt.begin,
            mtt.improve,
            needs_trajectories=True,
            rates=("mtt.item_rate", "mtt.student_steps"),
        ),
        "invert": Method(invert.begin, invert.improve, needs_experts=True, rates=("invert.item_rate",)),
        "match": Method(match.begin, match.improve, needs_experts=True, rates=("match.item_rate",)),
        "unroll": Method(
            unroll.begin,
            unroll.improve,
            rates=("peak_rate", "unroll.window", "unroll.item_rate"),
            labels=unroll.labels,
            schedule=unroll.schedule,
        ),
        "gan": Method(
            gan.begin,
            gan.improve,
            needs_experts=True,
            rates=("gan.generator_rate", "gan.critic_rate"),
            items=gan.items,
            files=gan_files.files,
            fewest_clips=gan.PER_CLASS,
            stops_itself=True,
            makes_more=True,
        ),
        "random": Method(coresets.random_items),
        "herding": Method(coresets.herding, needs_experts=True),
        "kcenter": Method(coresets.k_center, needs_experts=True),
    }
)
"""The functions of each method; :mod:`edgeser.config.settings` has its settings and what it is in words."""


def find_method(name: str) -> Method:
    """The row of a method."""
    return METHODS[name]


def as_many_as_clips(ipc: int, wanted: int, rarest: int) -> int:
    """The most log-mels in an item, ``wanted`` at most, with which ``ipc`` items need no more than ``rarest`` clips."""
    return max((number for number in FORMATS if number <= wanted and ipc * number <= rarest), default=1)


def has_starts(settings: Settings) -> bool:
    """Whether items begin as what ``start`` says; chosen and generated ones do not."""
    method = find_method(settings.method)
    return method.improve is not None and method.items is None


def require_start(settings: Settings) -> None:
    """Check that nobody asks for a beginning of the items that the method does not read.

    Raises:
        SettingsError: The method makes its items of something else.
    """
    if find_method(settings.method).items is not None and settings.start not in ("", STARTS[True]):
        raise SettingsError(f"--method {settings.method} has no other start", "leave out --from")


def takes_clips(settings: Settings) -> bool:
    """Whether every log-mel begins as a clip of its own, so that there cannot be more of them."""
    return find_method(settings.method).improve is None or settings.start == "real"
