"""A JupyterLab of this environment, seen in Chromium: what the browser tests and the benchmark of the panels share."""

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import nbformat
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
MINUTE = 60_000  # milliseconds, as playwright counts

# A page that asks nothing of the network, and keeps all cells in the document even where they are out of sight.
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
}
QUIET = "--disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update"

PANEL = ".widget-vbox:has(> img.widget-image)"

# A digest of the bytes behind a panel's picture, and its message: what a reader sees of it.
SHOWN = """async panel => {
    const image = panel.querySelector('img.widget-image');
    const digest = await crypto.subtle.digest('SHA-256', await (await fetch(image.src)).arrayBuffer());
    return panel.querySelector('.widget-html').innerText + new Uint8Array(digest).join();
}"""


@contextmanager
def browsing(chromium: str) -> Iterator[Browser]:
    """Chromium without a window, from its executable."""
    with sync_playwright() as playwright:
        # Chromium refuses its sandbox to root, as in a container.
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", *QUIET.split()])
        yield browser
        browser.close()


@contextmanager
def serving(folder: Path) -> Iterator[tuple[Path, str]]:
    """A JupyterLab that keeps all it writes in `folder`: the folder that it serves, and its address with a {} for the page."""
    home, served = folder / "jupyter", folder / "notebooks"
    served.mkdir()
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
    options += ["--LabApp.expose_app_in_browser=True"]
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


# A notebook in place of whatever is open, in the Lab of the page.
OPEN = """async path => {
    while (!window.jupyterapp) await new Promise(resolve => setTimeout(resolve, 50));
    const {commands, restored, shell} = window.jupyterapp;
    await restored;
    if (shell.currentWidget?.context) await commands.execute('docmanager:save');  // or closing it would ask
    await commands.execute('application:close-all');
    await commands.execute('docmanager:open', {path, factory: 'Notebook'});
}"""
PANEL_CALL = re.compile(r"explore\.(?!Watch)")


def run_all(page: Page, lab: tuple[Path, str], path: Path, chosen: re.Pattern[str] = PANEL_CALL, text: bool = False) -> None:
    """Open a copy of the notebook without its outputs, run its first cell and those that are chosen, by default what shows a
    panel, and see each end without an error. Without its text the page is lighter, and each change of it sooner laid out."""
    served, address = lab
    notebook = nbformat.read(path, as_version=4)
    imports, *others = [cell for cell in notebook.cells if cell.cell_type == "code"]
    cells = [imports, *(cell for cell in others if chosen.search(cell.source))]
    for cell in cells:
        cell.outputs, cell.execution_count = [], None
    notebook.cells = [cell for cell in notebook.cells if cell in cells or (text and cell.cell_type == "markdown")]
    nbformat.write(notebook, served / path.name)
    # With its kernel running before it opens, Lab never asks which kernel to take, however slow the machine. One kernel serves
    # all notebooks, as most of the wait would be for imports.
    running = page.request.get(address.format("api/kernels"), timeout=MINUTE).json()
    kernel = {"id": running[0]["id"]} if running else {"name": "python3"}
    session = {"path": path.name, "name": path.name, "type": "notebook", "kernel": kernel}
    response = page.request.post(address.format("api/sessions"), data=session, timeout=MINUTE)
    assert response.ok, response.text()
    if "/lab" not in page.url:  # Lab itself is opened once, as that takes longer than all that is asked of it
        page.goto(address.format("lab") + "&reset")
    page.evaluate(OPEN, path.name)
    expect(page.locator(".jp-StatusBar-TextItem", has_text="| Idle")).to_be_visible(timeout=MINUTE)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    # A cell's number comes when it has ended; after a failed cell the rest keep none.
    last = page.locator(".jp-CodeCell .jp-InputPrompt").last
    error = page.locator("[data-mime-type$='.error'], [data-mime-type$='.stderr']")  # newer Labs show one as the other
    expect(last.filter(has_text=re.compile(r"\[\d+\]:")).or_(error).first).to_be_visible(timeout=5 * MINUTE)
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
