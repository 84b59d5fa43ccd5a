"""The one table of methods. Adding a method is one module, one row here, and one test."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from edgeser.config.settings import SETTINGS, Settings
from edgeser.config.values import given_in
from edgeser.distill.method import Method
from edgeser.distill.methods import centroids, coresets, gan, gradmatch, invert, kip, match, mtt, unroll
from edgeser.distill.methods import gan as gan_files
from edgeser.distill.starts import find_start
from edgeser.errors import SettingsError
from edgeser.models.students import build
from edgeser.privacy.release import require_releasable
from edgeser.representation import representation_of
from edgeser_device.data.sample_storage import FORMATS
from edgeser_export.utilities.errors import choice_hint

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "mtt": Method(
            mtt.begin,
            mtt.improve,
            needs_trajectories=True,
            rates=("mtt.item_rate", "mtt.student_steps"),
            labels=mtt.labels,
            schedule=mtt.schedule,
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
        "gaussian": Method(centroids.draw, makes_more=True, of_vectors=True),
        "random": Method(coresets.random_items),
        "herding": Method(coresets.herding, needs_experts=True),
        "kcenter": Method(coresets.k_center, needs_experts=True),
        "centroids": Method(centroids.begin, of_vectors=True),
        "gradmatch": Method(
            gradmatch.begin,
            gradmatch.improve,
            rates=("gradmatch.item_rate",),
            usual_start="centroids",
            of_vectors=True,
        ),
        "kip": Method(kip.begin, kip.improve, rates=("kip.item_rate",), usual_start="centroids", of_vectors=True),
    }
)
"""The functions of each method; :mod:`edgeser.config.settings` has its settings and what it is in words."""
OF_ITERATIONS = ("start", "check_every", "patience")
"""Settings that methods without iterations do not read."""


def find_method(name: str) -> Method:
    """The row of a method.

    Raises:
        SettingsError: There is no such method.
    """
    if name not in METHODS:
        raise SettingsError(f"there is no method {name!r}", choice_hint(name, METHODS))
    return METHODS[name]


def require_possible(settings: Settings) -> None:
    """Check that method, representation, start, students and what is shipped go together.

    Everything that documents do not allow is refused here, before a recording is read.

    Raises:
        SettingsError: They do not.
    """
    method, representation = find_method(settings.method), representation_of(settings)
    if settings.gan.ship != "items" and settings.samples_per_item > 1:
        raise SettingsError(f"gan.ship={settings.gan.ship} makes whole log-mels", "set samples_per_item to 1")
    if method.items is not None and settings.start not in ("", representation.usual_starts[0]):
        raise SettingsError(f"--method {settings.method} has no other start", "leave out --from")
    _require_read(settings, method)
    require_releasable(settings, representation.has_time)
    start = find_start(settings.start or representation.usual_starts[0])
    for arch, width in ((settings.arch, settings.width), (settings.experts.arch, settings.experts.width or 1.0)):
        build(arch, 2, width, representation.input_shape)  # a wrong name shows before hours of reading
    of_vectors = {
        f"--method {settings.method}": method.of_vectors,
        f"--from {settings.start}": start.of_vectors,
    }
    for words, is_asked in of_vectors.items():
        if is_asked and representation.has_time:
            raise SettingsError(
                f"{words} works on vectors, not on log-mels", "choose an encoder, such as --encoder smart-turn-2"
            )
    asked = {
        f"gan.ship={settings.gan.ship}": settings.gan.ship != "items",
        f"--from {settings.start}": start.needs_time,
        f"samples_per_item={settings.samples_per_item}": settings.samples_per_item > 1,
        f"gan.codebook={settings.gan.codebook}": settings.gan.codebook > 0,
        f"gan.pretraining={settings.gan.pretraining:g}": "gan.pretraining" in given_in(settings),
        f"match.dp={settings.match.dp:g}": settings.match.dp > 0,
    }
    for words, is_asked in asked.items():
        if is_asked and not representation.has_time:
            raise SettingsError(f"{words} works on log-mels, not on {representation.name}", f"leave out {words}")


def _require_read(settings: Settings, method: Method) -> None:
    """Raise SettingsError if something is given that this method does not read."""
    for key in OF_ITERATIONS if method.improve is None else ():
        if key in given_in(settings):
            words = f"--method {settings.method} makes no iterations and does not read it"
            raise SettingsError(f"{SETTINGS[key].name} has no effect: {words}", "leave it out")
    if settings.method == "mtt" and settings.mtt.plain_steps and settings.views > max(1, settings.samples_per_item):
        words = "mtt.plain_steps trains on the items themselves"
        raise SettingsError(f"--views {settings.views} has no effect: {words}", "leave it out")


def as_many_as_clips(ipc: int, wanted: int, rarest: int) -> int:
    """The most log-mels in an item, ``wanted`` at most, with which ``ipc`` items need no more than ``rarest`` clips."""
    return max((number for number in FORMATS if number <= wanted and ipc * number <= rarest), default=1)
