"""The page of a report in a real browser: it loads, sorts, scrolls, and changes its colours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from builders.browser import NO_BROWSER, Browser, find_browser, install_browser, started_browser
from builders.reports import write_model, write_predictions
from builders.tiny import use_folders
from PIL import Image as PillowImage

from samnet.cli.main import main

ARROW_DOWN, ARROW_UP, END, TAB = "\ue015", "\ue013", "\ue010", "\ue004"
VIEWER = "#case-1"
CANVAS = f"{VIEWER} canvas"
FIRST_CASE = "document.querySelector('.sortable tbody th').textContent"
BACKGROUND = "getComputedStyle(document.body).backgroundColor"
LIGHT, DARK = "rgb(255, 255, 255)", "rgb(20, 24, 29)"
SLICE = f"Number(document.querySelector('{CANVAS}').dataset.slice)"
# Colours that are no grey: lines and areas over the image.
COLOURED = f"""
const canvas = document.querySelector('{CANVAS}');
const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
let count = 0;
for (let at = 0; at < pixels.length; at += 4)
  count += Math.abs(pixels[at] - pixels[at + 1]) + Math.abs(pixels[at] - pixels[at + 2]) > 20;
return count;
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report")
    file = root / "a report.html"
    with pytest.MonkeyPatch.context() as patch:
        use_folders(root, root / "results", patch)
        model = write_model(root / "raw", root / "results")
        assert main(["report", "-m", str(model), "-o", str(file)]) == 0
    return file


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if find_browser() is None:
        install_browser()
    programs = find_browser()
    if programs is None:
        pytest.skip(NO_BROWSER)
    with started_browser(programs, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, report: Path) -> Browser:
    """Return the page as it is opened, wide and light."""
    browser.resize(1280, 900)
    browser.prefer("light")
    browser.open(report)
    browser.wait_until(f"document.querySelector('{CANVAS}').dataset.slice")
    return browser


def test_the_page_loads_without_errors(page: Browser) -> None:
    assert page.messages() == []
    assert page.run("return performance.getEntriesByType('resource').length") == 0
    assert page.run("return document.querySelectorAll('.viewer').length") == 6
    # Every table has headings, every drawing a description, and headings have an order.
    assert page.run("return [...document.querySelectorAll('table')].every(t => t.tHead)")
    unnamed = "svg:not([aria-label]), canvas:not([aria-label]), input[type=range]:not([aria-label])"
    assert page.run(f"return document.querySelectorAll('{unnamed}').length") == 0
    assert page.run("return document.querySelectorAll('h1').length") == 1


def test_the_table_sorts(page: Browser) -> None:
    assert page.run(f"return {FIRST_CASE}") == "case_05"
    button = ".sortable th:first-child button"
    page.click(button)
    assert page.run(f"return {FIRST_CASE}") == "case_00"
    page.click(button)
    assert page.run(f"return {FIRST_CASE}") == "case_05"
    page.click(".sortable th:nth-child(3) button")  # the mean Dice, from the lowest
    assert page.run(f"return {FIRST_CASE}") == "case_05"
    sorts = "return [...document.querySelectorAll('[aria-sort]')].map(h => h.ariaSort)"
    assert page.run(sorts) == ["ascending"]


def test_slices_scroll_by_wheel_keys_and_slider(page: Browser) -> None:
    first = page.run(f"return {SLICE}")
    page.turn_wheel(CANVAS, 100)
    page.wait_until(f"{SLICE} === {first + 1}")
    page.turn_wheel(CANVAS, -100)
    page.wait_until(f"{SLICE} === {first}")
    page.run(f"document.querySelector('{CANVAS}').focus()")
    page.press(ARROW_DOWN)
    page.wait_until(f"{SLICE} === {first + 1}")
    page.press(ARROW_UP)
    page.press(END)
    last = page.run(f"return Number(document.querySelector('{VIEWER} input[type=range]').max)")
    page.wait_until(f"{SLICE} === {last}")
    page.run(f"document.querySelector('{VIEWER} input[type=range]').focus()")
    page.press(ARROW_UP)  # a slider counts the other way round
    page.press("\ue012")  # arrow to the left
    page.wait_until(f"{SLICE} === {last - 1}")
    shown = page.run(f"return document.querySelector('{VIEWER} output').textContent")
    assert "largest error" not in shown


def test_layers_can_be_switched_off(page: Browser) -> None:
    with_errors = page.run(COLOURED)
    assert with_errors > 0
    page.click(f"{VIEWER} input[name=errors]")
    with_lines = page.run(COLOURED)
    assert 0 < with_lines < with_errors
    legend = f"return document.querySelector('{VIEWER} .legend').textContent"
    assert "Übergang" in page.run(legend)
    page.click(f"{VIEWER} input[name=prediction]")
    page.click(f"{VIEWER} input[name=reference]")
    assert page.run(COLOURED) == 0


def test_an_image_in_colour_is_grey_under_errors(browser: Browser, tmp_path: Path) -> None:
    folder = write_predictions(
        tmp_path, num_cases=1, file_ending=".png", channels=("R", "G", "B"), shape=(1, 40, 50)
    )
    for image in sorted((folder / "imagesTr").iterdir()):
        image.unlink()
    pixels = np.zeros((40, 50), np.uint8)
    pixels[10:20, 10:20] = 1
    PillowImage.fromarray(pixels).save(folder / "labelsTr" / "case_00.png")
    purple = np.array([160, 60, 200], np.uint8) + 20 * pixels[..., None]
    PillowImage.fromarray(purple).save(folder / "imagesTr" / "case_00_0000.png")
    words = []
    for option, name in (("-p", "preds"), ("-i", "imagesTr"), ("-r", "labelsTr")):
        words += [option, str(folder / name)]
    assert main(["report", *words, "-np", "0"]) == 0
    browser.resize(1280, 900)
    browser.open(folder / "preds" / "report.html")
    browser.wait_until(f"document.querySelector('{CANVAS}').dataset.slice")
    with_errors = browser.run(COLOURED)
    assert with_errors > 0
    browser.click(f"{VIEWER} input[name=errors]")
    assert browser.run(COLOURED) > 2 * with_errors


def test_a_case_of_the_table_leads_to_its_slices(page: Browser) -> None:
    page.click(".sortable tbody a")
    page.wait_until("location.hash === '#case-1'")
    shown = page.run(f"return document.querySelector('{VIEWER} h3').textContent")
    assert shown == page.run(f"return {FIRST_CASE}")


def test_colours_follow_the_system_and_the_button(page: Browser) -> None:
    assert page.run(f"return {BACKGROUND}") == LIGHT
    page.click("#theme")
    assert page.run(f"return {BACKGROUND}") == DARK
    page.prefer("dark")
    assert page.run(f"return {BACKGROUND}") == DARK
    page.click("#theme")
    assert page.run(f"return {BACKGROUND}") == LIGHT
    assert page.run("return document.getElementById('theme').textContent") == "dark colours"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_cuts_nothing_off(page: Browser, scheme: str) -> None:
    page.prefer(scheme)
    page.resize(400, 800)
    page.wait_until(f"document.querySelector('{CANVAS}').clientWidth < 400")
    wide = "return [...document.querySelectorAll('main *')].filter(e => !e.closest('.wide'))"
    wide += ".map(e => e.getBoundingClientRect().right).reduce((a, b) => Math.max(a, b))"
    assert page.run(wide) <= 400
    assert page.run("return document.documentElement.scrollWidth") <= 400


def test_the_page_prints_light_and_unfolded(page: Browser) -> None:
    page.prefer("dark", medium="print")
    assert page.run(f"return {BACKGROUND}") == LIGHT
    data = page.command("Page.printToPDF", {"printBackground": True})["data"]
    assert len(data) > 10_000
    assert page.run("return [...document.querySelectorAll('details')].every(d => d.open)")
    page.prefer("light")
