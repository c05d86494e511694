"""The book as a reader without a kernel or a network meets it: from disk on a phone, from a server at a desk."""

import json
import re
import runpy
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect

from stdcf_lib.explorables.base import MIME
from tests.browser.lab import MINUTE, NOTEBOOKS, browsing

MEGABYTE = 2**20
READERS: dict[str, dict[str, Any]] = {
    "phone": {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True, "device_scale_factor": 2},
    "desk": {"viewport": {"width": 1280, "height": 900}},
}
# What is wrong with a page that has come to rest, in words.
FAULTS = """async () => {
    await window.MathJax?.startup?.promise;
    const all = selector => [...document.querySelectorAll(selector)], root = document.documentElement, faults = [];
    if (root.scrollWidth > innerWidth) faults.push(`${root.scrollWidth} pixels wide`);
    const bare = all(".math").filter(e => !e.querySelector("mjx-container svg"));
    for (const e of [...bare, ...all("[data-mml-node=merror], mjx-container [fill=red]")]) faults.push(`maths: ${e.innerHTML}`);
    await Promise.all(all("img").map(image => image.decode().catch(() => faults.push(`no picture: ${image.src}`))));
    return faults;
}"""
# A digest of a canvas, after the frame that is due.
SHOWN = """async canvas => {
    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
    const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(canvas.toDataURL()));
    return new Uint8Array(digest).join();
}"""


class Anatomy(HTMLParser):
    """Of one page: the names that a link can lead to, what it links to, what it shows, and each element's attributes."""

    def __init__(self, path: Path):
        super().__init__()
        self.names: set[str | None] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.elements.append((tag, values))
        self.names |= {values.get("id"), values.get("name")}
        if address := values.get("href") or values.get("src"):
            (self.links if tag == "a" else self.loaded).append(address)


@pytest.fixture(scope="module")
def pages(book) -> dict[Path, Anatomy]:
    return {path: Anatomy(path) for path in book.rglob("*.html") if "_static" not in path.parts}


def test_every_link_leads_somewhere(book, pages):
    faults = []
    for path, page in pages.items():
        for link in page.links + page.loaded:
            address = urlsplit(link)
            if not (address.scheme or address.netloc):
                target = (path.parent / unquote(address.path)).resolve() if address.path else path
                if not target.is_file() or not target.is_relative_to(book):
                    faults.append(f"{path.name}: {link} is no file of the book")
                elif address.fragment and unquote(address.fragment) not in pages[target].names:
                    faults.append(f"{path.name}: {link} has no such place")
            elif link in page.loaded and address.scheme != "data":
                faults.append(f"{path.name}: {link} is loaded from elsewhere")
    assert faults == []


def test_the_notebooks_follow_one_another(book, pages):
    path, seen = book / "index.html", []
    while not seen or seen[-1] != "06_itsl":
        (after,) = (values["href"] for tag, values in pages[path].elements if tag == "link" and values.get("rel") == "next")
        path = (path.parent / str(after)).resolve()
        seen.append(path.stem)
    assert seen == [notebook.stem for notebook in NOTEBOOKS][: len(seen)]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_all_pictures_are_there_and_explorables_alive(book, pages, notebook):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    stored = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    elements = pages[book / "notebooks" / f"{notebook.stem}.html"].elements
    pictures = [values for tag, values in elements if tag == "img" and "_images" in str(values["src"])]
    assert len(pictures) == sum("image/png" in data and MIME not in data for data in stored)
    assert [tag for tag, _ in elements].count("iframe") == sum(MIME in data for data in stored)
    folds = [values for tag, values in elements if tag == "details"]
    assert len(folds) >= sum("".join(cell["source"]).count("<details>") for cell in cells)
    assert not any("open" in values for values in folds)


def test_it_is_small_enough_to_take_along(book):
    assert sum(path.stat().st_size for path in book.rglob("*")) < 40 * MEGABYTE


@pytest.fixture(scope="module")
def browser(chromium) -> Iterator[Browser]:
    with browsing(chromium) as browser:
        yield browser


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def server(book) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(book))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(params=["phone, from disk", "desk, from a server"])
def reader(request, book, browser) -> Iterator[tuple[BrowserContext, str]]:
    """A reader's browser, and the address of the book. No page may complain, nor ask for anything but the book."""
    size, place = request.param.split(", ")
    address = f"{book.as_uri()}/" if place == "from disk" else request.getfixturevalue("server")
    faults: list[str] = []

    def watch(page: Page) -> None:
        page.on("pageerror", lambda error: faults.append(f"{page.url}: {error}"))
        page.on("console", complaint)

    def complaint(message: ConsoleMessage) -> None:
        # Any server is asked for an icon, and the book has none.
        if message.type == "error" and "favicon.ico" not in message.location["url"]:
            faults.append(f"{message.location['url']}: {message.text}")

    def asked(request: Request) -> None:
        if not request.url.startswith((address, "data:", "about:", "blob:")):
            faults.append(request.url)

    context = browser.new_context(reduced_motion="reduce", **READERS[size])
    context.set_default_timeout(MINUTE)
    context.on("page", watch)
    context.on("request", asked)
    yield context, address
    context.close()
    assert faults == []


def test_every_page_is_read_without_a_network(reader, book, pages):
    context, address = reader
    faults = {}
    with context.new_page() as page:
        for path in pages:
            if "_modules" not in path.parts:
                page.goto(f"{address}{path.relative_to(book).as_posix()}")
                faults[path.name] = page.evaluate(FAULTS)
    assert {name: found for name, found in faults.items() if found} == {}


def test_explorables_answer_the_hand(reader):
    context, address = reader
    with context.new_page() as page:
        moved = set()
        for name in ("01_capacity", "02_joint_convolution"):
            page.goto(f"{address}notebooks/{name}.html")
            for frame in page.locator("iframe").all():
                frame.scroll_into_view_if_needed()
                inside = frame.content_frame
                canvas, slider = inside.locator("canvas"), inside.get_by_role("slider").first
                before = canvas.evaluate(SHOWN)
                box = slider.bounding_box()
                assert box
                place: Any = {"x": 0.9 * box["width"], "y": box["height"] / 2}
                slider.tap(position=place) if page.viewport_size == READERS["phone"]["viewport"] else slider.click(
                    position=place
                )
                assert canvas.evaluate(SHOWN) != before
                moved.add(frame.get_attribute("title"))
    assert len(moved) == 3


def test_search_finds(reader):
    context, address = reader
    with context.new_page() as page:
        page.goto(f"{address}search.html?q=dilation")
        found = page.locator("#search-results li a")
        expect(found.filter(has_text=re.compile("^05"))).not_to_have_count(0)
        expect(found.filter(has_text=re.compile(r"STDCFConv3d\.dilation"))).not_to_have_count(0)
        found.filter(has_text=re.compile("^05")).first.click()
        expect(page).to_have_title(re.compile("^05"))


@pytest.mark.usefixtures("book")  # without which what makes it may be absent
def test_a_build_that_was_broken_off_is_made_anew(tmp_path):
    """Sphinx takes a page for whole that is half there and newer than its source."""
    conf = runpy.run_path(str(Path(__file__).parents[2] / "book/conf.py"))
    app = SimpleNamespace(outdir=tmp_path / "html", doctreedir=tmp_path / "doctrees")
    for folder in (app.outdir, app.doctreedir):
        folder.mkdir()
    conf["_begin"](app)
    (app.outdir / "page.html").write_text("<html")
    conf["_begin"](app)
    assert not (app.outdir / "page.html").exists()
    (app.outdir / "page.html").write_text("<html></html>")
    conf["_end"](app, None)
    conf["_begin"](app)
    assert (app.outdir / "page.html").exists()
