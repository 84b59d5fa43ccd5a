"""Pictures: drawn from what evaluation gives, the same bytes for the same figures, and whole or not at all."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from edgeser.errors import SettingsError
from edgeser.report.pictures import (
    FORMATS,
    budget_picture,
    check_picture,
    drawing,
    save,
)


def row(mean: float, spread: float | None = 0.02) -> dict[str, object]:
    return {"uar_mean": mean, "uar_std": spread, "dev_uar_mean": mean + 0.03}


LINE = [{"share": share, "uar_mean": mean, "uar_std": 0.01} for share, mean in ((0.015, 0.4), (0.056, 0.5))]
PANEL = {"lines": {"mtt": LINE, "random bank": LINE[:1]}, "levels": {"full": row(0.6)}}


def picture() -> Figure:
    return budget_picture({"demo": PANEL, "other": PANEL})


def words(figure: Figure) -> set[str]:
    figure.draw_without_rendering()
    return {text.get_text() for text in figure.findobj(lambda each: hasattr(each, "get_text"))}


def test_a_picture_repeats_byte_for_byte_and_names_no_time(tmp_path: Path) -> None:
    for place in ("a.svg", "b.svg"):
        save(picture(), tmp_path / place)
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert text == (tmp_path / "b.svg").read_text(encoding="utf-8")
    assert ElementTree.fromstring(text).tag.endswith("svg")
    assert not re.search(r"20\d\d-\d\d-\d\d", text)


@pytest.mark.parametrize("suffix", [suffix for suffix in FORMATS if suffix != ".svg"])
def test_other_formats_repeat_too(suffix: str, tmp_path: Path) -> None:
    for place in ("a", "b"):
        save(picture(), (tmp_path / place).with_suffix(suffix))
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_axes_say_what_they_show() -> None:
    seen = words(picture())
    assert {"UAR on the test speakers", "budget (% of the training items)"} <= seen
    assert {"mtt", "random bank", "full", "demo", "5.6"} <= seen


def test_nothing_is_cut_off(tmp_path: Path) -> None:
    """The outermost pixels of a picture are white."""
    save(picture(), tmp_path / "a.png")
    image = Image.open(io.BytesIO((tmp_path / "a.png").read_bytes())).convert("L")
    width, height = image.size
    edges = [(0, 0, width, 1), (0, height - 1, width, height), (0, 0, 1, height), (width - 1, 0, width, height)]
    assert all(image.crop(edge).getextrema() == (255, 255) for edge in edges)


def test_words_are_drawn_as_they_are(tmp_path: Path) -> None:
    with drawing():
        figure = Figure()
        figure.suptitle("a $x_{$ \N{SLEEPING FACE} \u5e78")
    save(figure, tmp_path / "words.svg")
    save(figure, tmp_path / "words.png")


def test_a_name_without_a_known_format_is_refused(tmp_path: Path) -> None:
    for name in ("rows.gif", "rows"):
        with pytest.raises(SettingsError, match=r"\.svg"):
            raise_with_hint(tmp_path / name)
        assert not (tmp_path / name).exists()


def raise_with_hint(path: Path) -> None:
    try:
        check_picture(path)
    except SettingsError as error:
        raise SettingsError(f"{error.message}: {error.hint}", "") from error


def test_the_module_alone_does_not_load_matplotlib() -> None:
    program = "import edgeser.report.pictures, sys; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
