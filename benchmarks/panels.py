"""How long a reader waits for a panel: from a key press to the new picture, decoded and painted, in JupyterLab in Chromium."""

import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Locator, Page

from tests.browser.lab import NOTEBOOKS, PANEL, browsing, controls_of, run_all, serving

PRESSES = 8

# From the event that a control gets to the frame after the one that shows the panel's next picture, in milliseconds.
WATCH = """panel => {
    const image = panel.querySelector('img.widget-image');
    window.waited = new Promise(resolve => {
        let start = null;
        const begin = event => { start ??= event.timeStamp; };
        const painted = async () => {
            if (start === null) return;  // of an earlier press
            const source = image.src;
            await image.decode();
            requestAnimationFrame(() => setTimeout(() => {
                for (const kind of ['keydown', 'change']) document.removeEventListener(kind, begin, true);
                image.removeEventListener('load', painted);
                resolve(performance.now() - start);
            }));
        };
        for (const kind of ['keydown', 'change']) document.addEventListener(kind, begin, true);
        image.addEventListener('load', painted);
    });
}"""


def waits(page: Page, panel: Locator) -> dict[str, float]:
    """The median wait for each control of a panel, in milliseconds, over presses there and back."""
    found = {}
    for control, there, back in controls_of(panel):
        times = []
        for action in (there, back) * (PRESSES // 2):
            panel.evaluate(WATCH)
            action()
            times.append(page.evaluate("Promise.race([window.waited, new Promise(r => setTimeout(r, 5000, null))])"))
            page.wait_for_timeout(100)
        name = control.evaluate("control => control.closest('.widget-inline-hbox').querySelector('label').innerText")
        found[name] = round(statistics.median(time for time in times if time is not None))
    return found


def panels(paths: list[Path] = NOTEBOOKS) -> dict[str, dict[str, float]]:
    """The waits for each panel of the notebooks, by notebook and number."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        return {}
    found = {}
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as lab, browsing(chromium) as browser:
        for path in paths:
            with browser.new_page(viewport={"width": 1400, "height": 1000}) as page:
                run_all(page, lab, path, text=True)  # as a reader has it
                for number, panel in enumerate(page.locator(PANEL).all(), 1):
                    found[f"{path.stem}, panel {number}"] = waits(page, panel)
                    print(path.stem, number, found[f"{path.stem}, panel {number}"], flush=True)
    return found


if __name__ == "__main__":  # `python -m benchmarks.panels 02 06`: of these notebooks alone, and nothing is recorded
    panels([path for path in NOTEBOOKS if not sys.argv[1:] or path.stem[:2] in sys.argv[1:]])
