"""Templates to HTML. Whatever comes from files is escaped; only figures that edgeser drew are markup."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from edgeser import __version__
from edgeser_export.outputs import holds, require_output

MARK = b'<meta name="generator" content="edgeser'
"""What base.html says of itself."""


def render(name: str, context: Mapping[str, Any]) -> str:
    """A page of ``templates``.

    Args:
        name: File of the template.
        context: What it shows.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("edgeser.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "figure": figure,
        "spread": spread,
        "interval": interval,
        "percent": percent,
        "kb": kilobytes,
    }
    style = files("edgeser.report").joinpath("templates", "style.css").read_text(encoding="utf-8")
    return environment.get_template(name).render(**context, style=style, version=__version__)


def require_page(path: Path) -> None:
    """Check that a page may be written; OutputTaken where something else than one of ours is there."""
    require_output(path, "page", lambda place: holds(place, MARK))


def figure(value: float | None) -> str:
    """Three decimals, or nothing."""
    return "" if value is None else f"{value:.3f}"


def spread(value: float | None) -> str:
    """A standard deviation behind a mean, or nothing."""
    return "" if value is None else f"± {value:.3f}"


def interval(found: Mapping[str, float] | None) -> str:
    """From low to high, or a dash where there is none."""
    return "-" if found is None else f"{found['low']:.3f} to {found['high']:.3f}"


def percent(value: float) -> str:
    """A share in whole percents."""
    return f"{value:.0%}"


def kilobytes(count: float) -> str:
    """Bytes as kB."""
    return f"{count / 1000:,.0f} kB"
