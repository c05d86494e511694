"""What the explorables have in common: one ES module each that draws in the page, and three places to be read.

In a running notebook an explorable is a widget that is tied to Python objects (anywidget). The notebook file keeps a PNG and
the explorable's state, no script; from the state `bring_to_life` and `page` make a page that runs alone, without a kernel or
a network. Whatever runs no scripts shows the PNG.
"""

import json
import weakref
from base64 import b64encode
from html import escape
from pathlib import Path
from typing import Any, ClassVar

import anywidget
import numpy as np
import traitlets
from IPython import get_ipython
from matplotlib.colors import to_hex

from stdcf_lib.plots import style
from stdcf_lib.plots.style import Drawing

MIME = "application/vnd.stdcf.explorable+json"
"""Of what a notebook stores of an explorable: {"name": of the module, "state": …}."""

WIDGET = "application/vnd.jupyter.widget-view+json"
FOLDER = Path(__file__).parent
COLOURS = {
    "signed": [to_hex(style.SIGNED(place)) for place in np.linspace(0, 1, 33)],
    "blue": style.BLUE,
    "vermillion": style.VERMILLION,
    "psi": style.PSI,  # of the three symbols
    "phi": style.PHI,
    "alpha": style.ALPHA,
}
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>TITLE</title>
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'">
<style>:root{color-scheme:light dark}:root.light{color-scheme:light}:root.dark{color-scheme:dark}
body{margin:0;padding:4px;background:transparent;color:CanvasText}</style></head><body><div id="here"></div>
<script type="module">
MODULE
const here = document.getElementById("here"), frame = window.frameElement;
if (frame) { // as light or dark as the page around it, and as tall as it needs to be
  const around = frame.ownerDocument, follow = () => {
    const dark = lightness(getComputedStyle(frame.parentElement).color) > 0.5;
    document.documentElement.className = dark ? "dark" : "light";
  };
  const themes = new MutationObserver(follow);
  for (const node of [around.documentElement, around.body]) themes.observe(node, { attributes: true });
  follow();
  new ResizeObserver(() => { frame.style.height = `${here.scrollHeight + 12}px`; }).observe(here);
}
mount(here, STATE);
</script></body></html>"""


def module(name: str) -> str:
    """The ES module of an explorable, whole: the colours of the house, `common.js`, and its own text."""
    shared, own = ((FOLDER / f"{part}.js").read_text(encoding="utf-8") for part in ("common", name))
    source = f"const STYLE = {json.dumps(COLOURS)};\n{shared}\n{own}"
    if "</script" in source.lower() or "<!--" in source:
        raise ValueError(f"{name}.js would end the script element that it is put into")
    return source


def page(name: str, state: dict[str, Any], title: str) -> str:
    """A page, complete in itself, that shows the explorable in a state. It asks nothing of any network."""
    packed = json.dumps(state, separators=(",", ":"), sort_keys=True).replace("<", "\\u003c")
    return PAGE.replace("TITLE", escape(title)).replace("MODULE", module(name)).replace("STATE", packed)


def rounded(values: Any) -> list:
    """Nested lists of numbers to four decimals: the same bytes on every machine, and what the page keeps itself."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    return (np.round(np.asarray(values, dtype=float), 4) + 0.0).tolist()


class Explorable(anywidget.AnyWidget):
    """A view in the page with a state, which a subclass declares as traits tagged `sync=True, state=True`.

    `tied` names the traits that are arrays of a layer. What the page changes in them is written into the layer, cell by cell,
    and after every notebook cell, or on `refresh()`, the page follows the layer.
    """

    name: ClassVar[str]
    title: ClassVar[str]

    _names = traitlets.List().tag(sync=True)

    def __init__(self, **state: Any) -> None:
        names = self.trait_names(state=True)
        super().__init__(_names=sorted(names), **state)
        self._tied: dict[str, Any] = {}

    def tie(self, **arrays: Any) -> None:
        """Let traits follow tensors of a layer and the other way round. Each tensor is given as a function that returns it."""
        self._tied = arrays
        self.observe(self._write, names=list(arrays))
        if shell := get_ipython():
            itself = weakref.ref(self)

            def follow(*_: Any) -> None:
                if alive := itself():
                    alive.refresh()

            shell.events.register("post_run_cell", follow)

    def refresh(self) -> None:
        """Show the layer as it is now. In a notebook this happens by itself after every cell."""
        for name, tensor in self._tied.items():
            now = rounded(tensor())
            if now != getattr(self, name):
                setattr(self, name, now)

    def _write(self, change: Any) -> None:
        tensor = self._tied[change.name]().detach()
        new, old = (np.asarray(values, dtype=float) for values in (change.new, change.old))
        if new.shape != tuple(tensor.shape):
            raise ValueError(f"{change.name} of shape {new.shape}: the layer's is {tuple(tensor.shape)}")
        # Cells that the page left alone keep all their decimals.
        for place in np.argwhere(new != old):
            tensor[tuple(place)] = float(new[tuple(place)])

    @property
    def state(self) -> dict[str, Any]:
        """All that the page needs to draw the view as it is now."""
        return {name: getattr(self, name) for name in self._names}

    def drawing(self) -> Drawing:
        """The state as a still figure."""
        raise NotImplementedError

    def page(self) -> str:
        """The view as an HTML page that needs nothing else: neither a kernel nor a network."""
        return page(self.name, self.state, self.title)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        bundle: Any = super()._repr_mimebundle_(**options) or {}
        data, *metadata = bundle if isinstance(bundle, tuple) else (bundle,)
        stored = {"name": self.name, "state": self.state}
        # No text/html: an untrusted notebook would show its sanitised remains rather than the picture.
        data = data | {"text/plain": repr(self), "image/png": b64encode(self.drawing().png()).decode(), MIME: stored}
        return (data, *metadata)


def bring_to_life(notebook: Any, resources: Any = None) -> tuple[Any, Any]:
    """Give every explorable that a notebook stores its page, as an `<iframe srcdoc>` in `text/html`, in place.

    It is an nbconvert preprocessor as it stands:
    `jupyter nbconvert --to html --HTMLExporter.preprocessors=stdcf_lib.explorables.bring_to_life NOTEBOOK`.

    Returns:
        The notebook, and `resources` as given.
    """
    titles = {kind.name: kind.title for kind in Explorable.__subclasses__()}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if stored := data.pop(MIME, None):
                data.pop(WIDGET, None)
                title = titles[stored["name"]]
                source = escape(page(stored["name"], stored["state"], title))
                look = "width:100%;height:700px;border:0;color-scheme:normal"
                data["text/html"] = f'<iframe title="{escape(title)}" loading="lazy" style="{look}" srcdoc="{source}"></iframe>'
    return notebook, resources
