"""Representations: what a clip becomes before a student reads it. Adding one is one module and one row here.

representation = representation_of(settings)
features = representation.extract(settings, workers)
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from edgeser.config.settings import Settings, representation_name
from edgeser.representation.base import Representation
from edgeser.representation.encoded import Encoded
from edgeser.representation.logmel import LogMel
from edgeser.representation.vectors import Vectors

REPRESENTATIONS: Mapping[str, type[Representation]] = MappingProxyType(
    {"log-mel": LogMel, "vectors": Vectors, "encoder": Encoded}
)
"""All of them by name."""


def representation_of(settings: Settings) -> Representation:
    """The representation of a run of these settings, not fitted to its corpus yet."""
    return REPRESENTATIONS[representation_name(settings.corpus, settings.encoder)]()
