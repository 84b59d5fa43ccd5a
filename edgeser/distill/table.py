"""The one table of methods. Adding a method is one module, one row here, and one test."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType

from edgeser.distill import coresets, mtt
from edgeser.distill.method import Method
from edgeser.errors import SettingsError

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "mtt": Method("trajectory matching", mtt.begin, mtt.improve, needs_trajectories=True),
        "random": Method("random real items", coresets.random_items),
        "herding": Method("real items whose mean feature follows the class's", coresets.herding),
        "kcenter": Method("real items that cover the class's features", coresets.k_center),
    }
)


def find_method(name: str) -> Method:
    """The row of a method.

    Raises:
        SettingsError: There is no such method.
    """
    if name not in METHODS:
        near = get_close_matches(name, METHODS, n=1)
        raise SettingsError(
            f"there is no method {name!r}",
            f"did you mean {near[0]!r}?" if near else f"choose one of: {', '.join(METHODS)}",
        )
    return METHODS[name]
