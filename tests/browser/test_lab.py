"""Every panel as a reader meets it: JupyterLab in a browser, Run All, each slider moved by keyboard, each list by choice.

All cells of all notebooks are run by `pytest --nbval`; here it is those that show a panel, below the first, which imports.

A picture of what the browser showed at the end is kept in pytest's temporary folder, for a person to look at.
"""

import operator
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page

from tests.browser.lab import NOTEBOOKS, SHOWN, browsing, controls_of, run_all, serving

NAME = "control => control.closest('.widget-inline-hbox').innerText"


@pytest.fixture(scope="module")
def browser(chromium) -> Iterator[Browser]:
    with browsing(chromium) as browser:
        yield browser


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[tuple[Path, str]]:
    """The folder that a JupyterLab serves, and its address with a {} for the page."""
    with serving(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.new_page(viewport={"width": 1400, "height": 1000}) as page:
        yield page


def move(control: Locator, action: Callable, panel: Locator, until: Callable) -> None:
    """Move a control, and wait until what the panel shows satisfies `until`."""
    action()
    for _ in range(300):
        if until(panel.evaluate(SHOWN)):
            return
        time.sleep(0.1)
    pytest.fail(f"'{control.evaluate(NAME)}' does not move the picture, or not back to what it was")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_and_its_controls_move_the_picture(page, lab, path, tmp_path):
    run_all(page, lab, path)
    panels = page.locator(".widget-vbox:has(> img.widget-image)")
    assert panels.count() == path.read_text().count("explore.")
    for number, panel in enumerate(panels.all()):
        at_rest = panel.evaluate(SHOWN)
        for control, there, back in controls_of(panel):
            move(control, there, panel, until=partial(operator.ne, at_rest))
            move(control, back, panel, until=partial(operator.eq, at_rest))
        panel.scroll_into_view_if_needed()
        page.screenshot(path=tmp_path / f"{path.stem}-{number}.png")
    reached = sum(len(controls_of(panel)) for panel in panels.all())
    outside = page.locator(".jp-OutputArea").locator("[role=slider], select, input[type=checkbox]").count() - reached
    assert outside == 0, "a control moves nothing that this test can see: put it into a Panel"
    page.screenshot(path=tmp_path / f"{path.stem}.png")
