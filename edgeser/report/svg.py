"""Figures as SVG within a page: the page's own colours and fonts, so that light, dark and paper show the same figure.

markup = inline_svg(figure, "uar", "UAR of every row")
"""

from __future__ import annotations

import io
import re
from html import escape
from typing import TYPE_CHECKING

from edgeser.pictures import BASELINE, DISTILLED, FULL, STYLE, drawing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, LINE = "#010101", "#dededf"
"""What figures are drawn with where the page's text colour and the colour of its thin lines are meant."""
VARIABLES = {
    INK: "var(--ink)",
    "#000000": "var(--ink)",
    LINE: "var(--line)",
    DISTILLED.lower(): "var(--distilled)",
    FULL.lower(): "var(--full)",
    BASELINE.lower(): "var(--baseline)",
}
"""Colours of a figure, and the page's variables that they become."""
PAGE_STYLE = STYLE | {
    "svg.fonttype": "none",  # text stays text: small, to be searched, in the reader's own font
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": LINE,
}


def inline_svg(figure: Figure, name: str, words: str) -> str:
    """A figure as an ``<svg>`` element.

    Args:
        figure: Drawn within ``PAGE_STYLE``, with colours of ``VARIABLES``.
        name: Begins the ids, so that no two figures of a page share one.
        words: What it shows, for those who do not see it.
    """
    data = io.StringIO()
    with drawing(PAGE_STYLE):
        figure.savefig(data, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = data.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    text = re.sub(r"font-family: '[^;\"]*", "font-family: var(--font)", text)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)  # it would reach the whole page
    text = re.sub(r' xmlns(:xlink)?="[^"]*"| version="1.1"', "", text)  # known to HTML
    text = re.sub(r"\s*\n\s*", " ", text)
    for colour, variable in VARIABLES.items():
        text = re.sub(re.escape(colour), variable, text, flags=re.IGNORECASE)
    text = re.sub(r' (width|height)="[^"]*pt"', "", text, count=2)
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(words)}" ', 1).strip()
