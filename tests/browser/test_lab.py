"""Every panel as a reader meets it: JupyterLab in a browser, Run All, each slider moved by keyboard, each list by choice.

All cells of all notebooks are run by `pytest --nbval`; here it is those that show a panel, below the first, which imports.

A picture of what the browser showed at the end is kept in pytest's temporary folder, for a person to look at.
"""

import json
import operator
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
MINUTE = 60_000  # milliseconds, as playwright counts

# A page that asks nothing of the network, and keeps all cells in the document even where they are out of sight.
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
}
QUIET = "--disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update"

# A digest of the bytes behind a panel's picture, and its message: what a reader sees of it.
SHOWN = """async panel => {
    const image = panel.querySelector('img.widget-image');
    const digest = await crypto.subtle.digest('SHA-256', await (await fetch(image.src)).arrayBuffer());
    return panel.querySelector('.widget-html').innerText + new Uint8Array(digest).join();
}"""

NAME = "control => control.closest('.widget-inline-hbox').innerText"


@pytest.fixture(scope="module")
def browser(chromium) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Chromium refuses its sandbox to root, as in a container.
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", *QUIET.split()])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[tuple[Path, str]]:
    """A JupyterLab of this environment: the folder that it serves, and its address with a {} for the page."""
    home, served = tmp_path_factory.mktemp("jupyter"), tmp_path_factory.mktemp("notebooks")
    for name, setting in SETTINGS.items():
        path = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(setting))
    folders = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime"}
    folders |= {"JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "work", "IPYTHONDIR": "ipython"}
    environment = os.environ | {name: str(home / folder) for name, folder in folders.items()}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex()
    options = ["--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}"]
    options += [f"--ServerApp.root_dir={served}", "--no-browser", "--allow-root", "--LabApp.news_url=None"]
    log = home / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options], env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token={token}")
                break
            except OSError:
                assert server.poll() is None, log.read_text()
                time.sleep(0.5)
        yield served, f"http://127.0.0.1:{port}/{{}}?token={token}"
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.new_page(viewport={"width": 1400, "height": 1000}) as page:
        yield page


def run_all(page: Page, lab: tuple[Path, str], path: Path) -> None:
    """Open a copy of the notebook without its outputs, run what shows a panel, and see each cell end without an error."""
    served, address = lab
    notebook = nbformat.read(path, as_version=4)
    imports, *others = [cell for cell in notebook.cells if cell.cell_type == "code"]
    cells = [imports, *(cell for cell in others if "explore." in cell.source)]
    for cell in cells:
        cell.outputs, cell.execution_count = [], None
    notebook.cells = [cell for cell in notebook.cells if cell.cell_type == "markdown" or cell in cells]
    nbformat.write(notebook, served / path.name)
    # With its kernel running before the page opens, Lab never asks which kernel to take, however slow the machine.
    session = {"path": path.name, "name": path.name, "type": "notebook", "kernel": {"name": "python3"}}
    response = page.request.post(address.format("api/sessions"), data=session, timeout=MINUTE)
    assert response.ok, response.text()
    page.goto(address.format(f"lab/tree/{path.name}") + "&reset")
    expect(page.locator(".jp-StatusBar-TextItem", has_text="| Idle")).to_be_visible(timeout=MINUTE)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    # A cell's number comes when it has ended; after a failed cell the rest keep none.
    last = page.locator(".jp-CodeCell .jp-InputPrompt").last
    error = page.locator("[data-mime-type$='.error'], [data-mime-type$='.stderr']")  # newer Labs show one as the other
    expect(last.filter(has_text=f"[{len(cells)}]:").or_(error).first).to_be_visible(timeout=5 * MINUTE)
    assert error.all_inner_texts() == []


def controls_of(panel: Locator) -> list[tuple[Locator, Callable, Callable]]:
    """Each control that a reader reaches, with what moves it and what moves it back."""
    found = []
    for handle in panel.get_by_role("slider").all():
        keys = ["ArrowRight", "ArrowLeft"]
        if handle.get_attribute("aria-valuenow") == handle.get_attribute("aria-valuemax"):
            keys.reverse()
        found.append((handle, *(partial(handle.press, key) for key in keys)))
    for dropdown in panel.locator("select").all():
        chosen = dropdown.evaluate("list => list.selectedIndex")
        found.append((dropdown, *(partial(dropdown.select_option, index=index) for index in (int(chosen == 0), chosen))))
    for box in panel.locator("input[type=checkbox]").all():
        found.append((box, box.click, box.click))
    return found


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


LIVE = """
import ipywidgets
import torch

from stdcf_lib import STDCFConv3d, explorables

torch.manual_seed(0)
layer = STDCFConv3d(1, 1, 3)
view, kernel, button = explorables.Filter(layer), ipywidgets.Label(), ipywidgets.Button(description="from Python")


def tell(change=None):
    kernel.value = f"in the kernel: {layer.alpha[0, 0, 0, 0].item():.4f}"


def press(_):
    with torch.no_grad():
        layer.alpha[0, 0, 0, 0] = -1.25
    view.refresh()


view.observe(tell, "alpha")
button.on_click(press)
tell()
display(kernel, button, view)
"""


def test_an_explorable_and_its_layer_move_each_other(page, lab, tmp_path):
    cell = nbformat.v4.new_code_cell(LIVE)
    path = tmp_path / "live.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    run_all(page, lab, path)
    canvas, cell_slider = page.locator(".stdcf canvas"), page.locator(".stdcf input").first
    in_kernel = page.locator(".widget-label", has_text="in the kernel:")
    expect(cell_slider).to_be_visible()
    expect(page.locator(".stdcf label").first).to_contain_text("α₁₁")
    canvas.scroll_into_view_if_needed()
    before = in_kernel.inner_text()
    box = canvas.bounding_box()
    assert box
    x, y = box["x"] + 0.17 * box["width"], box["y"] + 0.35 * box["height"]  # the cell α₁₁
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 30, y, steps=5)
    page.mouse.up()
    expect(in_kernel).not_to_have_text(before, timeout=MINUTE)
    shown = float(cell_slider.input_value())
    expect(in_kernel).to_contain_text(f"{shown:.1f}"[:-1])
    canvas.focus()  # and by keys, which Lab must not take for its own
    after_drag = in_kernel.inner_text()
    page.keyboard.press("+")
    expect(in_kernel).not_to_have_text(after_drag, timeout=MINUTE)
    page.get_by_role("button", name="from Python").click()
    expect(cell_slider).to_have_value("-1.25", timeout=MINUTE)
    page.screenshot(path=tmp_path / "live.png")
