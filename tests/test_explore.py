import inspect
import random
from typing import Any

import numpy as np
import pytest
from ipywidgets import Checkbox, Dropdown, FloatSlider, IntSlider, Text
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from stdcf_lib import explore
from stdcf_lib.explore import Panel
from stdcf_lib.itsl.log import Log
from stdcf_lib.plots import itsl
from stdcf_lib.plots.style import Drawing, new_figure, styled
from stdcf_lib.runs import Run

PANELS = [
    function
    for name, function in inspect.getmembers(explore, inspect.isfunction)
    if function.__module__ == explore.__name__ and not name.startswith("_")
]


@styled
def line(slope: float = 1.0, points: int = 5, marker: str = "o", grid: bool = True) -> Drawing:
    if points > 8:
        raise ValueError(f"points is {points}; give at most 8 & <more> some day")
    figure, axes = new_figure()
    axes.plot(slope * np.arange(points), marker=marker)
    axes.grid(grid)
    return Drawing(figure, {"line": slope * np.arange(points)})


@pytest.fixture
def panel() -> Panel:
    return Panel(
        line,
        slope=FloatSlider(value=1.0, min=-2.0, max=2.0),
        points=IntSlider(value=5, min=2, max=9, description="number of points"),
        marker=Dropdown(options=[("circle", "o"), ("square", "s"), ("cross", "x")]),
        grid=Checkbox(value=True),
    )


def test_there_are_panels():
    assert PANELS


@pytest.mark.parametrize("make", PANELS, ids=lambda make: make.__name__)
def test_panel_draws_at_every_end_and_every_control_changes_the_picture(make):
    panel = make()
    assert isinstance(panel, Panel)
    pictures = {}
    for values in panel.extremes():
        drawing = panel.draw(**values)
        pictures[repr(values)] = drawing.png()
        assert drawing.arrays and pictures[repr(values)], values
    for name, ends in panel._ends.items():
        first, last = (pictures[repr(panel.values | {name: end})] for end in ends)
        assert first != last, name


def anywhere(panel: Panel, random: random.Random) -> dict[str, Any]:
    """A value of one control, drawn at random."""
    name, control = random.choice(list(panel.controls.items()))
    if hasattr(control, "options"):
        return {name: random.choice([option[1] if isinstance(option, tuple) else option for option in control.options])}
    if isinstance(control, Checkbox):
        return {name: not control.value}
    return {name: control.min + control.step * random.randint(0, round((control.max - control.min) / control.step))}


@styled
def complete(figure: Figure) -> np.ndarray:
    """All of a figure rendered at once, as it stands."""
    canvas, moving = figure.canvas, figure.findobj(Artist.get_animated)
    for artist in moving:
        artist.set_animated(False)
    other = FigureCanvasAgg(figure)
    other.draw()
    for artist in moving:
        artist.set_animated(True)
    figure.set_canvas(canvas)
    return np.asarray(other.buffer_rgba()).astype(int)


@pytest.mark.parametrize("make", PANELS, ids=lambda make: make.__name__)
def test_a_picture_depends_on_the_values_alone(make):
    panel, chance = make(), random.Random(0)
    for _ in range(2):
        moves = 0
        while moves < 4 or panel._message.value:  # past values that are refused, to one that can be drawn
            for name, value in anywhere(panel, chance).items():
                panel.controls[name].value = value
            moves += 1
        picture = panel._image.value
        drawing = make().draw(**panel.values)
        assert picture == drawing.png(), panel.values
        # What moves is drawn over a picture of the rest, which must hold nothing that moves. Artists that cross may differ.
        shown = np.asarray(drawing.figure.canvas.buffer_rgba()).astype(int)
        assert np.abs(shown - complete(drawing.figure)).max() < 128, panel.values


def test_the_panel_says_that_it_draws_before_it_begins():
    seen = []

    def draw(points: int) -> Drawing:
        seen.append("stdcf-drawing" in panel.widget._dom_classes if points != 5 else None)
        return line(points=points)

    panel = Panel(draw, points=IntSlider(value=5, min=2, max=9))
    panel.controls["points"].value = 6
    panel.controls["points"].value = 9  # raises
    assert seen == [None, True, True]
    assert "stdcf-drawing" not in panel.widget._dom_classes


def test_extremes(panel):
    default = {"slope": 1.0, "points": 5, "marker": "o", "grid": True}
    settings = list(panel.extremes())
    assert settings[0] == default
    assert default | {"slope": -2.0} in settings and default | {"marker": "x"} in settings
    assert settings[-2:] == [
        {"slope": -2.0, "points": 2, "marker": "o", "grid": False},
        {"slope": 2.0, "points": 9, "marker": "x", "grid": True},
    ]
    assert len(settings) == 1 + 2 * 4 + 2


def test_picture_follows_every_control(panel):
    picture = panel._image.value
    assert picture == line().png()
    for name, value in {"slope": 2.0, "points": 3, "marker": "x", "grid": False}.items():
        panel.controls[name].value = value
        assert panel._image.value != picture
        picture = panel._image.value
    assert picture == line(slope=2.0, points=3, marker="x", grid=False).png()


def test_an_error_is_shown_until_the_next_good_value(panel):
    panel.controls["points"].value = 9
    assert "<b>ValueError</b>: points is 9; give at most 8 &amp; &lt;more&gt; some day" in panel._message.value
    assert panel._image.layout.visibility == "hidden"
    panel.controls["points"].value = 8
    assert panel._message.value == ""
    assert panel._image.layout.visibility == "visible"


def test_an_error_at_the_default_ends_the_cell():
    with pytest.raises(ValueError, match="points is 9"):
        Panel(line, points=IntSlider(value=9))


def test_a_notebook_gets_widget_picture_and_stable_text(panel):
    bundle = panel._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "image/png", "application/vnd.jupyter.widget-view+json"}
    assert bundle["text/plain"] == repr(panel) == "<Panel: slope=1.0, points=5, marker='o', grid=True>"


def test_descriptions_are_words(panel):
    assert panel.controls["points"].description == "number of points"
    assert Panel(lambda spatial_atoms: line(), spatial_atoms=IntSlider()).controls["spatial_atoms"].description == (
        "spatial atoms"
    )


def test_bad_arguments():
    bad: Any = 3
    with pytest.raises(TypeError, match="draw is 3; give the function"):
        Panel(bad)
    with pytest.raises(TypeError, match="control points is a Text; give a slider"):
        Panel(line, points=Text("5"))


def line_of(step, **more):
    return {"stage": "t-1" if step < 30 else "final", "step": step, "epoch": 1, "loss": 1 / step, "top1": step / 50} | more


def test_a_watched_run_is_drawn_as_it_goes(tmp_path):
    watch = explore.Watch(tmp_path, seconds=0.0)
    empty = watch.image.value
    log = Log(Run(tmp_path), watch, tensorboard=False, print_lines=False)
    pictures = []
    for step in (10, 20, 30):
        log(line_of(step), 0.0)
        pictures.append(watch.image.value)
    log(line_of(30, train_loss=0.5, top1=0.7), 0.0)
    assert len({empty, *pictures, watch.image.value}) == 5
    arrays = itsl.training(tmp_path).arrays
    assert arrays["loss, training"].tolist() == [[step, 1 / step] for step in (10, 20, 30)]
    assert arrays["top1, validation"].tolist() == [[30, 0.7]]
    shown = watch._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in shown and "image/png" in shown


def test_a_watch_draws_no_more_often_than_asked_but_for_epochs(tmp_path):
    watch = explore.Watch(tmp_path, seconds=1000)
    log = Log(Run(tmp_path), watch, tensorboard=False, print_lines=False)
    first = watch.image.value
    log(line_of(10), 0.0)
    assert watch.image.value == first
    log(line_of(10, train_loss=0.1), 0.0)
    assert watch.image.value != first


def test_a_watch_follows_a_run_to_its_end(tmp_path, monkeypatch):
    watch, run = explore.Watch(tmp_path, seconds=0.5), Run(tmp_path)
    log = Log(run, None, tensorboard=False, print_lines=False)
    steps = iter((10, 20, 30))

    def sleep(seconds):
        assert seconds == 0.5
        if (step := next(steps, None)) is None:
            run.keep("weights.safetensors", b"")
        else:
            log(line_of(step), 0.0)

    monkeypatch.setattr(explore.time, "sleep", sleep)
    watch.follow()
    assert watch.image.value == itsl.training(tmp_path).png()
