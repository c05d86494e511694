"""From pointer to picture: `python -m benchmarks.explorables` drags in each explorable in Chromium, and keeps the medians.

At 1100 pixels by mouse, and at 390 by finger on a processor slowed down four times. A wait begins with the time stamp of the
pointer's event and ends after the frame that shows its picture was handed over for painting. It includes the wait for the
screen's next frame, up to 16.7 ms.
"""

import shutil
import statistics
import sys
from typing import Any

import numpy as np
import torch
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.record import keep
from stdcf_lib import STDCFConv3d, explorables
from stdcf_lib.data.probes import moving_bar

MOVES, ROUNDS = 40, 4
QUIET = "--disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update"
# On a capture listener of the window, so that the picture is asked for after this, and painted in the same frame.
WATCH = """window.waits = []; window.addEventListener('pointermove', event => requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => window.waits.push(performance.now() - event.timeStamp);
    channel.port2.postMessage(0);
}), true);"""
# Where a drag begins, as shares of the canvas, at 1100 and at 390 pixels: the clip; a cell of α; a cell of α.
STARTS = {"voxel": ((0.07, 0.13), (0.22, 0.11)), "filter": ((0.20, 0.40), (0.45, 0.19)), "rank": ((0.08, 0.4), (0.12, 0.3))}


def pointer_to_picture() -> dict[str, dict[str, float]]:
    """The median wait in milliseconds, by explorable and place, in the quietest of some rounds. Empty without Chromium."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        return {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", *QUIET.split()])
        rounds = [{view.title: _waits(browser, view) for view in _views()} for _ in range(ROUNDS)]
        browser.close()
    best: dict[str, dict[str, float]] = {}
    for title, places in rounds[0].items():
        best[title] = {place: min(waits[title][place] for waits in rounds) for place in places}
    return best


def _views() -> list[explorables.Explorable]:
    torch.manual_seed(0)
    small = STDCFConv3d(1, 4, kernel_size=3)
    large = STDCFConv3d(1, 1, 5, spatial_atoms=3, temporal_atoms=3)
    alpha = np.random.default_rng(0).normal(size=(3, 3, 5, 3))
    clip = moving_bar(frames=8, size=12, length=7)
    return [explorables.Voxel(small, clip, t=2, y=4, x=4), explorables.Filter(large), explorables.Rank(alpha, middle=3)]


def _waits(browser: Browser, view: explorables.Explorable) -> dict[str, float]:
    phone: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    found = {}
    with browser.new_page(viewport={"width": 1100, "height": 900}) as page:
        x, y = _open(page, view, 0)
        page.mouse.move(x, y)
        page.mouse.down()
        for step in range(MOVES):
            page.mouse.move(x + step % 20, y + step % 13)
            page.wait_for_timeout(25)
        found["1100 px, ms"] = _median(page)
    with browser.new_page(device_scale_factor=2, **phone) as page:
        x, y = _open(page, view, 1)
        finger = page.context.new_cdp_session(page)
        finger.send("Emulation.setCPUThrottlingRate", {"rate": 4})
        for step in range(MOVES):
            point = {"type": "touchMove" if step else "touchStart", "touchPoints": [{"x": x + 2 * step % 60, "y": y}]}
            finger.send("Input.dispatchTouchEvent", point)
            page.wait_for_timeout(250)  # so that no move waits for the one before, nor for the sliders that follow it
        found["390 px, four times slower, ms"] = _median(page)
    return found


def _open(page: Page, view: explorables.Explorable, place: int) -> tuple[float, float]:
    page.set_content(view.page())
    page.evaluate(WATCH)
    page.wait_for_timeout(500)
    box: Any = page.locator("canvas").bounding_box()
    across, down = STARTS[view.name][place]
    return box["x"] + across * box["width"], box["y"] + down * box["height"]


def _median(page: Page) -> float:
    waits = page.evaluate("window.waits")
    assert len(waits) > MOVES / 2, "the drag did not reach the page"
    return round(statistics.median(waits), 1)


def main() -> None:
    waits = pointer_to_picture()
    if not waits:
        sys.exit("chromium is not installed: nothing to measure in")
    keep({"Explorables, from pointer to picture": waits})


if __name__ == "__main__":
    main()
