"""The explorables as a reader without a kernel meets them: one page in Chromium, by pointer, touch and keys."""

import html
from contextlib import contextmanager
from typing import Any

import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from stdcf_lib.explorables.base import bring_to_life, page

NAMES = ["voxel", "filter", "rank"]
SIZES: dict[str, Any] = {
    "desktop": {"viewport": {"width": 1100, "height": 900}},
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2},
}
# A digest of the canvas, after the frame that is due.
SHOWN = """async () => {
    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
    const canvas = document.querySelector('canvas'), all = [0, 0, canvas.width, canvas.height];
    let hash = 0;
    for (const value of canvas.getContext('2d').getImageData(...all).data) hash = (hash * 31 + value) | 0;
    return hash;
}"""
STATE = "() => window.view.state()"
# The middle of a spot on the screen; of the cell with this name, or of the pad with this number.
PLACE = """which => {
    const stage = window.view.stage, spots = stage.spots(), canvas = stage.canvas.getBoundingClientRect();
    const spot = typeof which === 'string' ? spots.find(s => s.name === which) : spots.filter(s => s.move)[which];
    const scale = canvas.width / ((stage.narrow ? 358 : 940) + 8);
    const [x, y] = [4 + spot.x + spot.w / 2, 4 + spot.y + spot.h / 2];
    return {x: canvas.left + x * scale, y: canvas.top + y * scale, w: spot.w * scale};
}"""


def until(tab, condition):
    """Wait for a condition in the page, which allows no `eval` and so no `wait_for_function`."""
    for _ in range(200):
        if tab.evaluate(condition):
            return
        tab.wait_for_timeout(50)
    pytest.fail(f"this never came true: {condition}")


@pytest.fixture(scope="module", params=["light", "dark"])
def scheme(request):
    return request.param


@pytest.fixture(scope="module", params=list(SIZES))
def size(request):
    return request.param


@pytest.fixture(scope="module")
def tab(browser, size, scheme):
    """One for all tests of a size and a scheme, as Chromium begins a process for each."""
    with browser.new_context(reduced_motion="reduce", color_scheme=scheme, **SIZES[size]) as context:
        yield context.new_page()


@contextmanager
def listening(tab, **heard):
    for event, hear in heard.items():
        tab.on(event, hear)
    yield
    for event, hear in heard.items():
        tab.remove_listener(event, hear)


@pytest.fixture
def opened(tab, make, scheme):
    """Open an explorable's own page, whose view a test can ask, and see that nothing fails and nothing is asked for."""
    faults = []
    tab.goto("about:blank")  # another window, in which nothing is left of the test before
    tab.emulate_media(color_scheme=scheme)

    def opening(name):
        view = make[name]()
        source = page(name, view.state, view.title)
        tab.set_content(source.replace("\nmount(here", "\nObject.assign(window, { arithmetic });\nwindow.view = mount(here"))
        until(tab, "Boolean(window.view)")
        return tab

    with listening(
        tab,
        pageerror=lambda error: faults.append(str(error)),
        console=lambda message: faults.append(message.text) if message.type == "error" else None,
        request=lambda request: faults.append(request.url),
    ):
        yield opening
    assert faults == []


@pytest.mark.parametrize("name", NAMES)
def test_it_fits_the_page_and_follows_its_theme(opened, name, size, scheme, tmp_path):
    tab = opened(name)
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    inside = tab.evaluate("""() => { const s = window.view.stage; return s.spots().every(o => o.x >= -12 && o.y >= 0
        && o.x + o.w <= (s.narrow ? 358 : 940) + 12 && o.h > 0) }""")
    assert inside
    assert tab.evaluate("window.view.stage.narrow") == (size == "phone")
    paper, ink = tab.evaluate("[window.view.stage.paper, window.view.stage.ink]")
    assert (paper, ink) == (("#fff", "rgb(0, 0, 0)") if scheme == "light" else ("#111", "rgb(255, 255, 255)"))
    before = tab.evaluate(SHOWN)
    tab.emulate_media(color_scheme="dark" if scheme == "light" else "light")
    until(tab, f"view.stage.paper !== '{paper}'")  # also while it is open
    assert tab.evaluate(SHOWN) != before
    for control in tab.locator("button, input").all():
        assert control.bounding_box()["height"] >= (40 if size == "phone" else 28)
    tab.screenshot(path=tmp_path / f"{name}-{size}-{scheme}.png", full_page=True)


def hold(tab, size, which, dx, dy=0.0):
    """Drag from the middle of a spot: by finger on the phone, by mouse on the desktop."""
    place = tab.evaluate(PLACE, which)
    path = [(place["x"] + share * dx, place["y"] + share * dy) for share in (0, 0.5, 1)]
    if size == "desktop":
        tab.mouse.move(*path[0])
        tab.mouse.down()
        for x, y in path[1:]:
            tab.mouse.move(x, y)
        tab.mouse.up()
        return
    finger = tab.context.new_cdp_session(tab)
    for kind, (x, y) in zip(("touchStart", "touchMove", "touchMove"), path, strict=True):
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
        tab.wait_for_timeout(20)
    finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    tab.wait_for_timeout(20)


def test_voxel_by_pointer_touch_and_keys(opened, size):
    tab = opened("voxel")
    before, first = tab.evaluate(SHOWN), tab.evaluate(STATE)
    side = tab.evaluate(PLACE, 0)["w"]
    hold(tab, size, 0, side / 3, -side / 4)
    moved = tab.evaluate(STATE)
    assert moved["x"] > first["x"] and moved["y"] < first["y"]
    assert tab.evaluate(SHOWN) != before
    tab.locator("canvas").focus()
    for key, axis, step in [("ArrowLeft", "x", -1), ("ArrowDown", "y", 1), ("PageUp", "t", 1), ("PageDown", "t", -1)]:
        now = tab.evaluate(STATE)
        tab.keyboard.press(key)
        assert tab.evaluate(STATE)[axis] == now[axis] + step
    assert "27 products and 15 products, both" in tab.locator("[role=status]").inner_text()
    tab.locator("input").first.fill("5")
    assert tab.evaluate(STATE)["t"] == 5


def test_the_mouse_alone_moves_the_voxel(opened, size):
    if size == "phone":
        pytest.skip("a phone has no mouse")
    tab = opened("voxel")
    place = tab.evaluate(PLACE, 0)
    tab.mouse.move(place["x"], place["y"] + 30)
    assert tab.evaluate(STATE)["y"] > 4


def test_play_moves_the_clip_only_when_asked_where_motion_is_reduced(opened):
    tab = opened("voxel")
    frame = tab.evaluate(STATE)["t"]
    tab.get_by_role("button", name="Play the clip").click()
    until(tab, f"view.state().t !== {frame}")
    tab.get_by_role("button", name="Pause").click()
    assert not tab.evaluate("window.view.stage.playing")


def test_filter_by_pointer_touch_and_keys(opened, size):
    tab = opened("filter")
    assert not tab.evaluate("window.view.stage.playing")  # motion is to be reduced
    for cell, path in {"α₂₁": ("alpha", 1, 0), "φ₂, frame 2": ("phi", 1, 1), "ψ₁, row 2, column 2": ("psi", 0, 1, 1)}.items():
        before, value = tab.evaluate(SHOWN), value_at(tab, path)
        hold(tab, size, cell, 40)
        assert value_at(tab, path) > value + 0.1
        assert tab.evaluate(SHOWN) != before
    tab.locator("canvas").focus()
    name, value = tab.evaluate("[view.stage.cell().name, view.stage.cell().get()]")
    tab.keyboard.press("-")
    assert tab.evaluate("view.stage.cell().get()") == pytest.approx(value - 0.1)
    tab.keyboard.press("0")
    assert tab.evaluate("view.stage.cell().get()") == 0
    assert tab.locator("[role=status]").inner_text() == f"{name}: 0.00"
    tab.keyboard.press("ArrowRight")
    assert tab.evaluate("view.stage.cell().name") == "ψ₁, row 2, column 3"
    tab.keyboard.press("ArrowRight")
    assert tab.evaluate("view.stage.cell().name") == "α₁₁"
    tab.locator("input").first.fill("0.5")  # the slider of the chosen cell
    assert value_at(tab, ("alpha", 0, 0)) == 0.5
    radius = tab.evaluate(PLACE, 0)["w"] / 2
    hold(tab, size, 0, 0, -0.6 * radius)
    assert tab.evaluate(STATE)["direction"] == 90


def test_filter_buttons_and_sliders(opened):
    tab = opened("filter")
    first = tab.evaluate(STATE)
    tab.get_by_role("button", name="Turn the probe round").click()
    assert tab.evaluate(STATE)["direction"] == 180
    tab.get_by_role("button", name="Make it separable").click()
    assert tab.evaluate("arithmetic.rank(view.state().alpha).rank") == 1
    tab.get_by_role("button", name="Show a bar").click()
    assert tab.evaluate(STATE)["probe"] == "bar"
    for name, value in {"speed": "2", "wavelength": "6", "slow motion": "2", "temporal dilation": "3"}.items():
        before = tab.evaluate(SHOWN)
        tab.get_by_role("slider", name=name).fill(value)
        assert name == "wavelength" or tab.evaluate(SHOWN) != before
    tab.get_by_role("button", name="Start again").click()
    assert tab.evaluate(STATE) == first


def value_at(tab, path):
    value = tab.evaluate(STATE)
    for step in path:
        value = value[step]
    return value


def test_rank_by_pointer_touch_and_keys(opened, size):
    tab = opened("rank")
    first = tab.evaluate(STATE)["alpha"]
    hold(tab, size, "α, channel 1 → 2, ψ₂ φ₁", 30)
    assert value_at(tab, ("alpha", 1, 0, 1, 0)) > first[1][0][1][0]
    tab.locator("canvas").focus()
    tab.keyboard.press("ArrowRight")
    assert tab.evaluate("view.stage.cell().name") == "α, channel 1 → 2, ψ₂ φ₂"
    tab.keyboard.press("+")
    assert value_at(tab, ("alpha", 1, 0, 1, 1)) > first[1][0][1][1]
    before = tab.evaluate(SHOWN)
    tab.get_by_role("slider", name="gauge").fill("0.8")
    assert tab.evaluate(SHOWN) != before
    tab.get_by_role("slider", name="C″").fill("3")
    assert tab.evaluate(STATE)["middle"] == 3
    tab.get_by_role("button", name="Make α what m·n is").click()
    assert tab.evaluate("arithmetic.factors(arithmetic.unfold(view.state().alpha)).strengths[3]") < 1e-3
    hold(tab, size, 2, -1000)  # the bars of singular values
    assert tab.evaluate(STATE)["middle"] == 1
    tab.get_by_role("button", name="Start again").click()
    assert tab.evaluate(STATE)["alpha"] == first


@pytest.mark.parametrize("name", NAMES)
def test_a_frame_in_a_page_takes_its_height_and_its_theme(tab, make, name, scheme):
    data = make[name]()._repr_mimebundle_()[0]
    notebook, _ = bring_to_life(new_notebook(cells=[new_code_cell(outputs=[new_output("display_data", data=data)])]))
    frame = notebook.cells[0].outputs[0].data["text/html"]
    assert html.escape("<script") in frame and "<script" not in frame
    color = "black" if scheme == "light" else "white"
    style = f'<meta name="viewport" content="width=device-width"><body style="color:{color}">'
    asked = []
    tab.goto("about:blank")
    with listening(tab, request=lambda request: asked.append(request.url)):
        tab.set_content(style + frame.replace("loading=", "data-loading="))
        inside = tab.frame_locator("iframe")
        inside.locator("canvas").wait_for()
        until(tab, "document.querySelector('iframe').offsetHeight !== 700")
        fits = "e => { const root = e.ownerDocument.documentElement; return root.scrollHeight <= innerHeight + 1 }"
        assert inside.locator("canvas").evaluate(fits.replace("innerHeight", "e.ownerDocument.defaultView.innerHeight"))
        assert inside.locator("html").get_attribute("class") == scheme
    assert [url for url in asked if not url.startswith("about:")] == []
