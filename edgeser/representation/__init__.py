"""Representations: what a clip becomes before a student reads it. Adding one is one module and one row here.

representation = representation_of(settings.corpus)
features = representation.extract(settings, workers)
"""

from __future__ import annotations

from edgeser.representation.base import Representation
from edgeser.representation.logmel import LogMel
from edgeser.representation.vector_file import CORPUS
from edgeser.representation.vectors import Vectors

REPRESENTATIONS: tuple[type[Representation], ...] = (LogMel, Vectors)
"""All of them; the matrix of tests walks them."""


def representation_of(corpus: str) -> Representation:
    """The representation in which a corpus of that name is distilled, not fitted to it yet."""
    return Vectors() if corpus == CORPUS else LogMel()
