"""Representations: what a clip becomes before a student reads it. Adding one is one module and one row here.

representation = representation_of(settings.corpus)
features = representation.extract(settings, workers)
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from edgeser.representation.base import Representation
from edgeser.representation.logmel import LogMel
from edgeser.representation.vector_file import CORPUS
from edgeser.representation.vectors import Vectors

REPRESENTATIONS: Mapping[str, type[Representation]] = MappingProxyType({"log-mel": LogMel, "vectors": Vectors})
"""All of them by name."""


def representation_of(corpus: str) -> Representation:
    """The representation in which a corpus of that name is distilled, not fitted to it yet."""
    return REPRESENTATIONS["vectors" if corpus == CORPUS else "log-mel"]()
