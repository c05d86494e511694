import base64
import io
import subprocess
import sys
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import rgb_to_hsv, to_rgb
from PIL import Image, ImageSequence

from stdcf_lib.plots.style import (
    BLUE,
    SIGNED,
    Drawing,
    Film,
    new_figure,
    shade,
    show_frame,
    show_signed,
    signed_key,
    styled,
)


@styled
def draw(slope: float = 1.0) -> Drawing:
    figure, (left, right) = new_figure(1, 2)
    line, matrix = slope * np.arange(5.0), np.array([[-2.0, 0.0], [0.5, 1.0]])
    left.plot(line)
    left.set(title=r"$\alpha_{c',c}^{m,n}$", xlabel="frame")
    show_signed(right, matrix)
    return Drawing(figure, {"line": line, "matrix": matrix})


def test_equal_drawings_give_equal_bytes(tmp_path):
    drawing = draw()
    assert drawing.png() == drawing.png() == draw().png()
    assert drawing.png() != draw(slope=2.0).png()
    for stem in ("first", "second"):
        drawing.save(tmp_path / stem)
    draw().save(tmp_path / "third")
    for suffix in (".svg", ".png", ".npz"):
        first, second, third = ((tmp_path / f"{stem}{suffix}").read_bytes() for stem in ("first", "second", "third"))
        assert first == second == third, suffix
    assert len(list(tmp_path.iterdir())) == 9


def test_a_picture_has_the_pixels_of_the_canvas():
    drawing = draw()
    with Image.open(io.BytesIO(drawing.png())) as picture:
        assert picture.mode == "RGB"
        shown = np.asarray(picture)
    canvas = FigureCanvasAgg(drawing.figure)
    canvas.draw()
    assert np.array_equal(shown, np.asarray(canvas.buffer_rgba())[..., :3]) and shown.std() > 0


@pytest.mark.parametrize(("color", "mode"), [("black", "L"), ("tab:blue", "RGB")])
def test_a_notebook_keeps_the_same_pixels_in_fewer_bytes(color, mode):
    figure, axes = new_figure()
    axes.plot(range(5), color=color)
    drawing = Drawing(figure, {})
    kept = base64.b64decode(drawing._repr_mimebundle_()["image/png"])
    picture = Image.open(io.BytesIO(kept))
    assert picture.mode == mode and len(kept) < len(drawing.png())
    assert picture.convert("RGB").tobytes() == Image.open(io.BytesIO(drawing.png())).convert("RGB").tobytes()


def test_saved_arrays_are_those_drawn(tmp_path):
    draw().save(tmp_path / "folder" / "figure")
    with np.load(tmp_path / "folder" / "figure.npz") as arrays:
        assert sorted(arrays) == ["line", "matrix"]
        np.testing.assert_array_equal(arrays["line"], np.arange(5.0))


def test_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    drawing = draw()
    drawing.save(tmp_path / "figure")
    before = (tmp_path / "figure.npz").read_bytes()
    monkeypatch.setattr(np, "savez_compressed", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        draw(slope=3.0).save(tmp_path / "figure")
    assert (tmp_path / "figure.npz").read_bytes() == before


def test_a_notebook_sees_a_picture_and_stable_text():
    bundle = draw()._repr_mimebundle_()
    assert bundle["text/plain"] == "<Drawing: line (5,), matrix (2, 2)>"
    assert bundle["image/png"].startswith("iVBOR")  # the signature of PNG in base64


@styled
def film(frames: int = 3) -> Film:
    figure, axes = new_figure(width=2, height=1)
    heights = np.linspace(0, 1, frames)
    (line,) = axes.plot([0, 1], [0, 0])
    axes.set(ylim=(-0.1, 1.1))
    return Film(figure, {"heights": heights}, frames, lambda k: line.set_ydata(heights[[k, k]]), pause=70)


def test_a_film_is_an_animation_of_equal_bytes(tmp_path):
    made = film()
    once = made.png()
    assert once == made.png() == film().png()
    with Image.open(io.BytesIO(once)) as animation:
        assert (animation.format, animation.info["loop"]) == ("PNG", 0)
        assert animation.info["duration"] == 70
        frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(animation)]
    assert len(frames) == 3
    assert frames[0].shape == (100, 200, 3)
    assert all((a != b).any() for a, b in zip(frames, frames[1:] + frames[:1], strict=True))
    assert frames[0][0, 0].tolist() == [255, 255, 255]


def test_a_film_is_kept_with_its_first_frame_and_its_arrays(tmp_path):
    for stem in ("first", "second"):
        film().save(tmp_path / stem)
    for suffix in (".svg", ".png", ".npz"):
        assert (tmp_path / f"first{suffix}").read_bytes() == (tmp_path / f"second{suffix}").read_bytes()
    assert len(list(tmp_path.iterdir())) == 6
    with Image.open(tmp_path / "first.png") as animation:
        assert animation.size == (400, 200)
    with np.load(tmp_path / "first.npz") as arrays:
        np.testing.assert_array_equal(arrays["heights"], [0, 0.5, 1])


def test_a_notebook_sees_a_film_and_stable_text():
    bundle = film()._repr_mimebundle_()
    assert bundle["text/plain"] == "<Film of 3 frames: heights (3,)>"
    assert bundle["image/png"].startswith("iVBOR")


def test_look_does_not_leak():
    with mpl.rc_context({"font.size": 33.0}):
        before = dict(mpl.rcParams)
        first = draw().png()
        assert dict(mpl.rcParams) == before
    assert first == draw().png()


def test_lines_differ_in_colour_and_in_style():
    @styled
    def lines() -> Drawing:
        figure, axes = new_figure()
        axes.plot(np.eye(7))
        return Drawing(figure, {})

    drawn: list[Any] = list(lines().figure.axes[0].lines)
    assert len({line.get_color() for line in drawn}) == len({str(line._dash_pattern) for line in drawn}) == 7


def test_signed_colours_keep_their_order_in_grey():
    grey = [np.dot(to_rgb(SIGNED(x)), (0.299, 0.587, 0.114)) for x in np.linspace(0, 1, 101)]
    assert np.all(np.diff(grey) > 0)


def test_signed_zero_has_no_colour_and_a_tenth_has():
    red, green, blue = to_rgb(SIGNED(0.5))
    assert red == green == blue
    for x, side in ((0.45, -1), (0.55, 1)):
        red, _, blue = to_rgb(SIGNED(x))
        assert side * (red - blue) > 0.15  # yellow above, blue below


def test_the_signed_key_stands_where_it_is_told():
    figure, axes = new_figure()
    axes.set(xlim=(0, 10), ylim=(5, 0))
    signed_key(axes, 2, 3, width=4, limit=0.25)
    (bar,) = axes.child_axes
    figure.draw_without_rendering()
    low, high = axes.transData.inverted().transform(bar.get_window_extent().get_points())
    assert (low[0], high[0]) == pytest.approx((2, 6)) and high[1] == pytest.approx(3)
    assert [text.get_text() for text in bar.get_xticklabels()] == ["−0.25", "0", "+0.25"]
    assert bar.xaxis.get_ticks_position() == "bottom" and low[1] > high[1]  # y runs downwards


def test_shades_keep_the_hue():
    for by in (-0.5, 0, 0.5):
        assert rgb_to_hsv(to_rgb(shade(BLUE, by)))[0] == pytest.approx(rgb_to_hsv(to_rgb(BLUE))[0], abs=0.01)
    assert shade(BLUE, 1) == "#ffffff" and shade(BLUE, -1) == "#000000"


def test_scales_of_images():
    _, (left, right) = new_figure(1, 2)
    assert show_signed(left, np.array([[-3.0, 1.0]])).get_clim() == (-3, 3)
    assert show_signed(left, np.zeros((2, 2))).get_clim() == (-1, 1)
    assert show_frame(right, np.zeros((2, 2), np.uint8), maximum=255).get_clim() == (0, 255)


def test_pyplot_stays_out():
    # pyplot would keep every figure alive, and show it a second time.
    check = "import sys, stdcf_lib.explore, stdcf_lib.plots.__main__; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0
