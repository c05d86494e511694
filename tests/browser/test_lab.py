"""Every panel as a reader meets it: JupyterLab in a browser, Run All, each slider moved by keyboard, each list by choice.

All cells of all notebooks are run by `pytest --nbval`; here it is those that show a panel, below the first, which imports.

A picture of what the browser showed at the end is kept in pytest's temporary folder, for a person to look at.
"""

import operator
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, Locator, Page, ViewportSize, expect

from tests.browser.lab import MINUTE, NOTEBOOKS, PANEL, PANEL_CALL, SHOWN, browsing, controls_of, run_all, serving

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


VIEWPORT: ViewportSize = {"width": 1400, "height": 1000}


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    """One Lab for all notebooks, one after the other."""
    with browser.new_page(viewport=VIEWPORT) as page:
        yield page


def move(control: Locator, action: Callable, panel: Locator, until: Callable) -> None:
    """Move a control, and wait until what the panel shows satisfies `until`."""
    action()
    for _ in range(300):
        if until(panel.evaluate(SHOWN)):
            return
        time.sleep(0.1)
    pytest.fail(f"'{control.evaluate(NAME)}' does not move the picture, or not back to what it was")


@pytest.mark.parametrize(
    "path", [path for path in NOTEBOOKS if PANEL_CALL.search(path.read_text())], ids=lambda path: path.stem
)
def test_notebook_runs_and_its_controls_move_the_picture(page, lab, path, tmp_path):
    run_all(page, lab, path)
    panels = page.locator(PANEL)
    assert panels.count() == len(PANEL_CALL.findall(path.read_text()))
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


WATCHED = """
watch = explore.Watch(folder, seconds=0.2)
display(watch)
line = "noise --small --frames 4 --size 32 --batch-size 4 --epochs 5 --final-epochs 5 --workers 0 --quiet --log-every 1"
command.main([*line.split(), "--folder", str(folder)], watch)
print("over")
"""


def test_a_run_is_seen_while_it_goes(browser, lab, tmp_path):
    imports = "import tempfile\nfrom pathlib import Path\nfrom IPython.display import display\n"
    imports += "from stdcf_lib import explore\nfrom stdcf_lib.itsl import command\nfolder = Path(tempfile.mkdtemp(), 'run')"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in (imports, WATCHED)])
    path = tmp_path / "watched.ipynb"
    nbformat.write(notebook, path)
    pictures: list[str] = []
    with browser.new_page(viewport=VIEWPORT) as page:
        page.expose_function("seen", lambda picture: pictures.append(picture))
        page.add_init_script("""setInterval(async () => {
            const image = document.querySelector("img.widget-image");
            const over = document.body.innerText.includes("test top-1");
            if (image) seen(over + new Uint8Array(await crypto.subtle.digest(
                "SHA-256", await (await fetch(image.src)).arrayBuffer())).join());
        }, 100);""")
        run_all(page, lab, path, re.compile("Watch"))
    assert len({picture for picture in pictures if picture.startswith("false")}) > 3


SLOW = """
def draw(n):
    if n:
        with open("drawn", "a") as file:
            print(n, file=file)
        time.sleep(0.4)
    figure = Figure()
    figure.text(0.1, 0.5, n)
    return Drawing(figure, {})

explore.Panel(draw, n=IntSlider(min=0, max=60))
"""


@pytest.fixture
def slow(page, lab, tmp_path) -> Locator:
    """A panel that takes 0.4 s to draw, and writes down what it draws."""
    imports = "import time\nfrom ipywidgets import IntSlider\nfrom matplotlib.figure import Figure\n"
    imports += "from stdcf_lib import explore\nfrom stdcf_lib.plots.style import Drawing"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in (imports, SLOW)])
    path = tmp_path / f"{tmp_path.name}.ipynb"  # of its own, as its name is its kernel
    nbformat.write(notebook, path)
    (lab[0] / "drawn").unlink(missing_ok=True)
    run_all(page, lab, path)
    return page.locator(PANEL)


def test_a_slow_picture_is_marked_until_it_is_there(page, slow):
    marked = """panel => getComputedStyle(panel.querySelector('img')).opacity < 0.5
        && getComputedStyle(panel, '::after').content.includes('drawing')
        && getComputedStyle(panel, '::after').visibility === 'visible'"""
    assert not slow.evaluate(marked)
    at_rest = slow.evaluate(SHOWN)
    slow.get_by_role("slider").press("ArrowRight")
    page.wait_for_function(marked, arg=slow.element_handle(), polling=20)
    assert slow.evaluate(SHOWN) == at_rest, "the mark came with the picture, not before it"
    page.wait_for_function(f"panel => !({marked})(panel)", arg=slow.element_handle(), polling=20)
    move(slow.get_by_role("slider"), lambda: None, slow, until=partial(operator.ne, at_rest))


def test_a_dragged_slider_leaves_no_queue(page, lab, slow):
    handle = slow.get_by_role("slider")
    box, track = handle.bounding_box(), slow.locator(".noUi-base").bounding_box()
    assert box and track
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, y)
    page.mouse.down()
    values = []
    for step in range(1, 41):
        page.mouse.move(track["x"] + track["width"] * step / 50, y)
        values.append(handle.get_attribute("aria-valuenow"))
        time.sleep(0.03)
    page.mouse.up()
    during = len((lab[0] / "drawn").read_text().split())
    last = int(float(values[-1]))
    drawn: list[int] = []
    for _ in range(100):
        drawn = [int(n) for n in (lab[0] / "drawn").read_text().split()]
        if drawn[-1] == last:
            break
        time.sleep(0.1)
    assert drawn[-1] == last and drawn == sorted(set(drawn))
    # However slow the machine: what was being drawn when the hand let go, what was next then, and the last.
    assert len(set(values)) > 30 and len(drawn) - during <= 3


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
    end = time.monotonic() + MINUTE / 1000
    while abs(float(cell_slider.input_value()) - float(in_kernel.inner_text().split()[-1])) > 0.006:  # its steps are of 0.01
        assert time.monotonic() < end, (cell_slider.input_value(), in_kernel.inner_text())
        page.wait_for_timeout(50)
    canvas.focus()  # and by keys, which Lab must not take for its own
    after_drag = in_kernel.inner_text()
    page.keyboard.press("+")
    expect(in_kernel).not_to_have_text(after_drag, timeout=MINUTE)
    page.get_by_role("button", name="from Python").click()
    expect(cell_slider).to_have_value("-1.25", timeout=MINUTE)
    page.screenshot(path=tmp_path / "live.png")
