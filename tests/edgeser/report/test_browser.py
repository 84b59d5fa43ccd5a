"""The page as people see it, in a real browser: on a phone and a screen, light, dark and on paper."""

from __future__ import annotations

from pathlib import Path

import pytest
from e2e.chromium import Page, chromium
from PIL import Image

from edgeser.report.comparison import write_comparison
from edgeser.run import Run

CONTRAST = """(() => {
  const channels = (text) => text.match(/[\\d.]+/g).slice(0, 3).map((value) => value / 255)
    .map((value) => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const light = (text) => { const [r, g, b] = channels(text); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const page = light(getComputedStyle(document.body).backgroundColor);
  const ratio = (text) => (Math.max(light(text), page) + 0.05) / (Math.min(light(text), page) + 0.05);
  const shown = [...document.querySelectorAll('p, th, td, dt, dd, figcaption, a, .chart text')];
  return Math.min(...shown.map((each) => ratio(each.closest('svg') ? getComputedStyle(each).fill
    : getComputedStyle(each).color)));
})()"""
"""The least contrast of any text with the page (WCAG 2, relative luminance)."""
READABLE = 4.5
"""What WCAG 2 asks of text, level AA."""
SMALLEST = """Math.min(...[...document.querySelectorAll('.chart text')].map((text) =>
  parseFloat(getComputedStyle(text).fontSize) * text.ownerSVGElement.getScreenCTM().a))"""
"""Size of the smallest letters in any picture, in pixels of the page."""
SMALL = 9
"""Pixels; small print of phones is of ten."""
LOADED = "performance.getEntriesByType('resource').filter((each) => !each.name.startsWith('data:')).length"


@pytest.fixture
def browser() -> object:
    with chromium() as page:
        yield page


def open_file(browser: Page, path: Path, width: int, height: int) -> None:
    browser.open(path.as_uri(), width, height)
    browser.wait_for(f"document.readyState === 'complete' && location.href === '{path.as_uri()}'")


@pytest.mark.parametrize(("width", "height"), [(360, 740), (1280, 900)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_readable(browser: Page, page: Path, width: int, height: int, scheme: str, tmp_path: Path) -> None:
    browser.use_colours(scheme)
    open_file(browser, page, width, height)
    assert browser.ask("document.documentElement.scrollWidth <= window.innerWidth")  # nothing is cut off at the side
    assert browser.ask(CONTRAST) >= READABLE
    assert browser.ask(SMALLEST) >= SMALL
    assert browser.ask("parseFloat(getComputedStyle(document.querySelector('#summary p')).fontSize)") >= 16
    browser.screenshot(tmp_path / "seen.png")
    ground = Image.open(tmp_path / "seen.png").convert("L").getpixel((2, 2))
    assert ground > 240 if scheme == "light" else ground < 40


def test_everything_in_it_loads_and_nothing_else_does(browser: Page, page: Path) -> None:
    open_file(browser, page, 390, 844)
    assert browser.ask("[...document.images].every((image) => image.complete && image.naturalWidth === 96)")
    assert browser.ask("document.images.length") == 8
    assert (
        browser.ask("document.querySelectorAll('.chart svg').length") == 5
    )  # UAR, classes, speakers, time, membership
    assert browser.ask("[...document.querySelectorAll('.chart svg')].every((svg) => svg.getBBox().width > 100)")
    browser.ask("document.querySelectorAll('audio').forEach((sound) => { sound.preload = 'auto'; sound.load(); })")
    browser.wait_for("[...document.querySelectorAll('audio')].every((sound) => sound.readyState >= 2)")
    assert browser.ask("[...document.querySelectorAll('audio')].every((s) => s.duration > 3 && s.duration < 3.4)")
    assert browser.ask(LOADED) == 0


def test_the_policy_keeps_out_what_is_not_in_the_file(browser: Page, page: Path, tmp_path: Path) -> None:
    """Were a script or a picture from elsewhere ever in it, the browser would load neither."""
    foreign = tmp_path / "foreign.html"
    (tmp_path / "other.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"/>')
    more = '<img id="foreign" src="other.svg"><script>document.title = "ran"</script>'
    foreign.write_text(page.read_text(encoding="utf-8").replace("<main>", f"<main>{more}"), encoding="utf-8")
    open_file(browser, foreign, 390, 844)
    assert browser.ask("document.getElementById('foreign').naturalWidth") == 0
    assert browser.ask("document.title") != "ran"


def test_a_printer_gets_all_of_it_in_black_on_white(browser: Page, page: Path, tmp_path: Path) -> None:
    browser.use_colours("dark")
    open_file(browser, page, 1280, 900)
    browser.print(tmp_path / "page.pdf")
    data = (tmp_path / "page.pdf").read_bytes()
    assert data.startswith(b"%PDF")
    assert 3 <= data.count(b"/Type /Page\n") <= 20
    browser.print_media()
    assert browser.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.ask("getComputedStyle(document.querySelector('audio')).display") == "none"
    assert browser.ask("getComputedStyle(document.querySelector('nav')).display") == "none"


def test_a_comparison_is_a_page_too(browser: Page, evaluated_run: Run, tmp_path: Path) -> None:
    path = tmp_path / "runs.html"
    write_comparison([evaluated_run.folder, evaluated_run.folder], path)
    open_file(browser, path, 390, 844)
    assert browser.ask("document.documentElement.scrollWidth <= window.innerWidth")
    assert browser.ask("document.querySelectorAll('#results tbody tr').length") == 2
    metrics = evaluated_run.metrics()
    assert metrics is not None
    assert f"{metrics['distilled']['uar_mean']:.3f}" in browser.ask("document.querySelector('#results').innerText")
    assert browser.ask(CONTRAST) >= READABLE
    assert browser.ask(SMALLEST) >= SMALL
    assert browser.ask(LOADED) == 0
