"""edgeser: from a corpus of emotional speech to a kit from which a small board trains its own emotion recogniser.

This package is the host side and the command line. Importing it loads nothing heavy; the subpackages do the work:
``edgeser.corpora`` (recordings to features), ``edgeser.distill`` (features to a distilled set), ``edgeser.pack`` (a set
to a kit). What runs on the board is in ``edgeser_device``, what writes model files in ``edgeser_export``.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("edgeser")
except PackageNotFoundError:  # the sources are on the path, but the distribution is not installed
    __version__ = "0+unknown"

__all__ = ["__version__"]
