"""How every figure of this repository looks, and what a plotting function returns.

A plotting function is decorated with `@styled`, takes its axes from `new_figure`, and returns a `Drawing`::

    @styled
    def energy(kept: np.ndarray) -> Drawing:
        figure, axes = new_figure()
        axes.plot(kept)
        axes.set(xlabel="joint terms kept", ylabel="energy kept", title="Few terms carry most of the energy")
        return Drawing(figure, {"kept": kept})

Where a reader moves sliders, making a figure is most of the wait. Such a function is a `Plot`: it makes its axes and artists
once, and returns the function that gives them values::

    @Plot
    def energy() -> Made:
        figure, axes = new_figure()
        (line,) = axes.plot([], [], animated=True)  # it moves; all else is rendered once
        axes.set(xlabel="joint terms kept", ylabel="energy kept", xlim=(0, 14), ylim=(0, 1))

        def show(kept: np.ndarray) -> Arrays:
            line.set_data(range(len(kept)), kept)
            return {"kept": kept}

        return figure, show

`energy(kept)` is a plotting function like any other; `energy.scene()` is one that moves the artists of one figure.

Where the idea moves, it returns a `Film`, which also has a function that brings the figure to each of its frames.
"""

import io
import os
import struct
import zlib
from base64 import b64encode
from collections.abc import Callable
from functools import update_wrapper, wraps
from pathlib import Path
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.transforms import Bbox, TransformedBbox
from PIL import Image

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")

# Okabe and Ito's eight colours, which stay apart for every common kind of colour vision.
BLACK, ORANGE, SKY_BLUE, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"

# Of a film: enough for gray clips, signed values and smooth letters.
COLORS = 128

# What a colour means, in every figure, film and explorable: the three symbols of W = Σ α ψ ⊗ φ …
PSI, PHI, ALPHA = GREEN, ORANGE, PURPLE
# … and the three families of filters: joint coefficients (STDCF), first space and then time (rank-1), full 3D.
JOINT, SEPARABLE, FULL = BLUE, VERMILLION, BLACK
# Of what is neither, but stands beside them: chance, random numbers, training at full size.
NEUTRAL = "#707070"

# For signed values. Zero is a plain grey that has no colour at all, and a tenth of the scale away from it the side is plain:
# blue below, yellow above, which common kinds of colour vision tell apart. White in the middle would give both ends the
# same grey in print, so lightness rises all the way from negative to positive, and the sign survives there too.
SIGNED = LinearSegmentedColormap.from_list(
    "signed",
    [
        (0, "#08233B"),
        (0.28, "#1F6AA5"),
        (0.44, "#7FA9CC"),
        (0.5, "#B0B0B0"),
        (0.56, "#DDBE83"),
        (0.72, "#F6C445"),
        (1, "#FFF6C8"),
    ],
    N=257,  # odd, so that zero has a colour of its own
)

# Colour and line style change together, so that lines stay apart in grey. Yellow is left out: too faint on white.
_LINES = cycler(color=[BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY_BLUE, BLACK]) + cycler(
    linestyle=["-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1))]
)

_LOOK: dict[Any, Any] = {  # a key is one of matplotlib's literals, in its newest versions
    "axes.grid": True,
    "axes.prop_cycle": _LINES,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": "medium",
    "figure.constrained_layout.use": True,
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that machines agree
    "font.size": 10,
    "grid.alpha": 0.3,
    "image.cmap": "gray",
    "image.interpolation": "nearest",
    "image.interpolation_stage": "rgba",  # the same pixels, and quicker: a small array is coloured before it is enlarged
    "legend.frameon": False,
    "savefig.dpi": "figure",
    "svg.hashsalt": "stdcf",  # otherwise every SVG draws new random ids
}

with mpl.rc_context():
    mpl.rcdefaults()
    mpl.rcParams.update(_LOOK)
    _SETTINGS = {name: mpl.rcParams[name] for name in mpl.rcParams if name != "backend"}  # the backend is the reader's


def styled(draw: Callable[Parameters, Returned]) -> Callable[Parameters, Returned]:
    """Run a plotting function under the common look; it does not touch the reader's own matplotlib settings."""

    @wraps(draw)
    def wrapper(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned:
        with mpl.rc_context():
            dict.update(mpl.rcParams, _SETTINGS)  # as `rc_context` puts back the reader's, without validating 300 values anew
            return draw(*args, **kwargs)

    return wrapper


class Drawing(NamedTuple):
    """A figure and exactly the arrays drawn in it. Shows itself as a PNG in a notebook."""

    figure: Figure
    arrays: dict[str, np.ndarray]

    def __repr__(self) -> str:
        shapes = (f"{name} {np.shape(array)}" for name, array in self.arrays.items())
        return f"<Drawing: {', '.join(shapes)}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": repr(self), "image/png": b64encode(_small(self.png())).decode()}

    @styled
    def png(self) -> bytes:
        """The picture as PNG bytes; equal drawings give equal bytes on one machine."""
        canvas = self.figure.canvas
        if not isinstance(canvas, _Canvas):
            canvas = _Canvas(self.figure)
        canvas.draw()
        # A slider waits for these bytes, hence the canvas itself: `savefig` would measure every text once more.
        return _quick(np.asarray(canvas.buffer_rgba())[..., :3])

    @styled
    def save(self, stem: str | Path) -> None:
        """Write `stem.svg`, `stem.png` and `stem.npz` (the arrays), each whole or not at all, and reproducibly."""
        _settle(self.figure)
        for artist in self.figure.findobj(Artist.get_animated):  # which matplotlib leaves out of a saved figure
            artist.set_animated(False)
        png = io.BytesIO()
        self.figure.savefig(png, format="png", metadata={"Software": None}, dpi=2 * self.figure.dpi)
        _save(stem, self.figure, self.arrays, png.getvalue())


def _quick(pixels: np.ndarray) -> bytes:
    """A PNG of pixels (H, W, 3), 8-bit, in half the time that Pillow takes: each line as what differs from the one above, and
    lightly compressed, where Pillow tries five ways for every line."""
    height, width, _ = pixels.shape
    lines = np.full((height, 1 + 3 * width), 2, np.uint8)  # 2 is the filter "up" (PNG specification, 9.2)
    lines[:, 1:] = pixels.reshape(height, -1)
    lines[1:, 1:] -= lines[:-1, 1:].copy()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 1)), (b"IEND", b""))
    packed = (struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def _small(png: bytes) -> bytes:
    """The same picture in fewer bytes, for notebooks that keep it, and a gray one as gray."""
    picture = Image.open(io.BytesIO(png))
    gray = picture.convert("L")
    buffer = io.BytesIO()
    (gray if gray.convert("RGB").tobytes() == picture.tobytes() else picture).save(buffer, "PNG")
    return buffer.getvalue()


Arrays = dict[str, np.ndarray]


class Scene(Generic[Parameters]):
    """One figure and `show`, which moves its artists to other values and returns the arrays drawn. Call it for a `Drawing`.

    All that `show` touches is made with `animated=True`, an artist, an axis or whole axes: it is drawn last, over a picture of
    the rest that is rendered once. The layout is settled once too, before any value is shown, so that a drawing depends on its
    values alone: titles and labels that move hold a text of their height, and of the width of the widest tick label, when made.
    """

    @styled
    def __init__(self, figure: Figure, show: Callable[Parameters, Arrays]) -> None:
        self._canvas, self._show = _Canvas(figure), styled(show)

    def __call__(self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Drawing:
        return Drawing(self._canvas.figure, self._show(*args, **kwargs))


Made = tuple[Figure, Callable[Parameters, Arrays]]


class Plot(Generic[Parameters]):
    """A plotting function from `make`, which returns a new figure and the function that shows values in it; a decorator."""

    def __init__(self, make: Callable[[], Made[Parameters]]) -> None:
        self._make = styled(make)
        update_wrapper(self, make)

    def scene(self) -> Scene[Parameters]:
        """One figure for any number of values."""
        return Scene(*self._make())

    def __call__(self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Drawing:
        return self.scene()(*args, **kwargs)


class _Canvas(FigureCanvasAgg):
    """Renders what stands still once, and over it, for every picture, what moves."""

    def __init__(self, figure: Figure) -> None:
        super().__init__(figure)
        _settle(figure)
        self._moving = sorted(figure.findobj(Artist.get_animated), key=Artist.get_zorder)
        if self._moving:
            super().draw()
            self._still = self.copy_from_bbox(figure.bbox)

    def draw(self) -> None:
        if not self._moving:  # a figure that was made for one picture, and may have been changed by hand since
            return super().draw()
        self.restore_region(self._still)
        for artist in self._moving:
            artist.draw(self.renderer)


class Film(NamedTuple):
    """A figure that moves, and exactly the arrays drawn in it. Shows itself as an animated PNG in a notebook.

    Where pictures stand still, an animated PNG is its first frame.

    `show(k)` brings the figure to frame k, of `frames` in all, which are shown for `pause` milliseconds each and over again.
    """

    figure: Figure
    arrays: dict[str, np.ndarray]
    frames: int
    show: Callable[[int], object]
    pause: int = 100

    def __repr__(self) -> str:
        shapes = (f"{name} {np.shape(array)}" for name, array in self.arrays.items())
        return f"<Film of {self.frames} frames: {', '.join(shapes)}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": repr(self), "image/png": b64encode(self.png()).decode()}

    @styled
    def png(self, scale: int = 1) -> bytes:
        """The film as bytes of an animated PNG, `scale` times as fine; equal films give equal bytes on one machine."""
        _settle(self.figure)
        canvas = FigureCanvasAgg(self.figure)
        pictures, dpi = [], self.figure.dpi
        self.figure.dpi = scale * dpi
        for k in range(self.frames):
            self.show(k)
            canvas.draw()
            pictures.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())
        self.figure.dpi = dpi
        self.show(0)
        # One palette for all frames, as the format has only one.
        palette = Image.fromarray(np.concatenate(pictures)).quantize(COLORS, dither=Image.Dither.NONE)
        palette.putpalette([255 if value > 249 else value for value in palette.getpalette() or []])  # the page stays white
        first, *others = (Image.fromarray(picture).quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures)
        buffer = io.BytesIO()
        first.save(buffer, "PNG", save_all=True, append_images=others, duration=self.pause, loop=0, optimize=True)
        return buffer.getvalue()

    @styled
    def save(self, stem: str | Path) -> None:
        """Write `stem.png`, which moves, `stem.svg`, its first frame, and `stem.npz`, each whole or not at all."""
        _save(stem, self.figure, self.arrays, self.png(scale=2))


def _settle(figure: Figure) -> None:
    # Laying out a second time moves things by a hair, and the same drawing would give other bytes.
    if engine := figure.get_layout_engine():
        engine.execute(figure)
        figure.set_layout_engine("none")


def _save(stem: str | Path, figure: Figure, arrays: dict[str, np.ndarray], png: bytes) -> None:
    svg, npz = io.BytesIO(), io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    np.savez_compressed(npz, **arrays)  # pyright: ignore[reportArgumentType] - no array is named allow_pickle
    for suffix, content in {".svg": svg.getvalue(), ".png": png, ".npz": npz.getvalue()}.items():
        path = Path(f"{stem}{suffix}")
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.tmp")
        unfinished.write_bytes(content)
        os.replace(unfinished, path)


def new_figure(
    rows: int = 1, columns: int = 1, *, width: float = 6.4, height: float = 3.6, **options: Any
) -> tuple[Figure, Any]:
    """Return a figure of `width` × `height` inches and its axes, or their array where rows · columns > 1.

    Made without pyplot, so that figures neither pile up in memory nor appear twice in a notebook. `options` go to
    `Figure.subplots` (`sharex`, `width_ratios`, `squeeze`, …). Call it inside a function decorated with `@styled`.
    """
    figure = Figure(figsize=(width, height))
    return figure, figure.subplots(rows, columns, **options)


def family_color(name: str) -> str:
    """The colour of the family that a network, layer or filter called `name` belongs to; `NEUTRAL` for none.

    Joint by "STDCF" or "joint" in the name, separable by "rank-1" or "separable", full by "full 3D"; the first one counts.
    """
    words = {"STDCF": JOINT, "joint": JOINT, "rank-1": SEPARABLE, "separable": SEPARABLE, "full 3D": FULL}
    found = {name.index(word): color for word, color in words.items() if word in name}
    return found[min(found)] if found else NEUTRAL


def shade(color: str, by: float) -> str:
    """Return a colour mixed with white for `by` in (0, 1], with black for [-1, 0).

    For members of one family, and for letters: the symbols' colours are too light to be read as thin strokes.
    """
    mixed = (1 - abs(by)) * np.array(to_rgb(color)) + max(by, 0)
    return to_hex((mixed[0], mixed[1], mixed[2]))


def signed_key(axes: Axes, left: float, top: float, width: float = 1.6, limit: float | None = None) -> Axes:
    """Set the scale of `show_signed` as a colour bar into axes that hold film strips, in their units; y runs downwards.

    Return the axes of the bar.

    limit: what the ends stand for; None where each strip is scaled to its own largest value.
    """
    height = 0.14
    box = Bbox([[left, top], [left + width, top + height]])  # TransformedBbox keeps the lower edge below
    bar = axes.inset_axes((0, 0, 1, 1))  # a place of its own, as `inset_axes` knows no y that runs downwards
    bar.set_axes_locator(lambda *_: TransformedBbox(box, axes.transData - axes.figure.transSubfigure).frozen())
    show_signed(bar, np.linspace(-1, 1, 65)[None]).set(extent=(-1, 1, 0, 1))
    bar.set(aspect="auto", xticks=(-1, 0, 1), xticklabels=signed_ends(limit))
    bar.tick_params(labelsize="x-small", length=2, pad=1)
    return bar


def signed_ends(limit: float | None = None) -> tuple[str, str, str]:
    """The labels of `signed_key` at −1, 0 and 1."""
    return ("−max", "0", "+max") if limit is None else (f"−{limit:.2g}", "0", f"+{limit:.2g}")


def show_signed(axes: Axes, values: np.ndarray, limit: float | None = None) -> AxesImage:
    """Draw a matrix of signed values without ticks, zero in the middle of the scale, which spans ±`limit`.

    `limit` defaults to the largest magnitude in `values`; give one limit to images that are to be compared.
    """
    if limit is None:
        limit = float(np.abs(values).max()) or 1.0
    return _show(axes, values, cmap=SIGNED, vmin=-limit, vmax=limit)


def show_frame(axes: Axes, values: np.ndarray, maximum: float = 1.0) -> AxesImage:
    """Draw a gray frame, black at 0 and white at `maximum` (255 for uint8 clips), without ticks."""
    return _show(axes, values, cmap="gray", vmin=0, vmax=maximum)


def _show(axes: Axes, values: np.ndarray, **options: Any) -> AxesImage:
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(True)
    return axes.imshow(values, **options)
