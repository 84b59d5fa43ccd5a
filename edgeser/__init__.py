"""edgeser: from a corpus of emotional speech to a kit from which a small board trains its own emotion recogniser.

This package is the host side and the command line. Importing it loads nothing heavy; the subpackages do the work:
``edgeser.corpora`` (recordings), ``edgeser.representation`` (what a student reads), ``edgeser.distill`` (a distilled
set), ``edgeser.packaging`` (a kit). What runs on the board is in ``edgeser_device``, what writes model files in
``edgeser_export``.
"""

from __future__ import annotations

__version__: str
__all__ = ["__version__"]


def __getattr__(name: str) -> str:
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Asked for when it is needed: the package costs 4 MB and a tenth of a second, on a board at each start.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("edgeser")
    except PackageNotFoundError:  # the sources are on the path, but the distribution is not installed
        return "0+unknown"
