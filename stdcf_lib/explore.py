"""Slider panels: each one a plain plotting function with controls in front of it."""

import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from html import escape
from pathlib import Path
from typing import Any

import torch
from ipywidgets import HTML, Checkbox, Dropdown, FloatSlider, Image, IntSlider, VBox
from torch import Tensor

from stdcf_lib import STDCFConv3d
from stdcf_lib import atoms as families
from stdcf_lib.checks import number
from stdcf_lib.data import TRMNIST
from stdcf_lib.data.kth_protocol import ACTIONS, SPLITS
from stdcf_lib.data.probes import drifting_grating, moving_bar
from stdcf_lib.experiments.tempo import GRID_TEMPI
from stdcf_lib.plots import convert, itsl, joint_convolution, reconstruction, roofline, tempo, tr_mnist
from stdcf_lib.plots.style import VERMILLION, Drawing
from stdcf_lib.runs import Run

# The panel says that it draws before it begins, and the page shows it 150 ms later, if it still draws then.
_DRAWING = """<style>
    .stdcf-panel { position: relative; }
    .stdcf-drawing > img { opacity: 0.35; transition: opacity 0s 150ms; }
    .stdcf-drawing::after {
        content: "drawing…"; position: absolute; bottom: 0.5em; left: 0.5em; padding: 0 0.5em;
        color: black; background: white; animation: 150ms step-end stdcf-wait;
    }
    @keyframes stdcf-wait { from { visibility: hidden; } to { visibility: visible; } }
</style>"""


class Panel:
    """Controls over a plain function `draw(**values) -> Drawing`; the picture follows them.

    `controls` maps each argument of `draw` to the ipywidget that holds its value (a slider, dropdown or checkbox). A
    control without a description gets its argument's name in words.

    When `draw` raises, the panel shows the exception in place of the picture, until the next value that works. At the
    default values it raises as any call does, and ends the cell.

    While a slider is dragged, the page holds its values back until the last picture is there, and then sends the newest alone.
    A picture that takes longer than 150 ms is dimmed and marked "drawing…" until the next one is there.
    """

    def __init__(self, draw: Callable[..., Drawing], /, **controls: Any) -> None:
        if not callable(draw):
            raise TypeError(f"draw is {draw!r}; give the function that returns a Drawing")
        self.draw = draw
        self.controls = controls
        self._ends = {name: _ends(name, control) for name, control in controls.items()}
        self._image = Image(format="png")
        self._message = HTML()
        self._show(draw(**self.values))
        for name, control in controls.items():
            control.description = control.description or name.replace("_", " ")
            control.style.description_width = "16em"
            control.layout.width = "34em"
            control.observe(self._redraw, names="value")
        self.widget = VBox([*controls.values(), self._message, self._image, HTML(_DRAWING, layout={"display": "none"})])
        self.widget.add_class("stdcf-panel")

    @property
    def values(self) -> dict[str, Any]:
        """The value that each control holds now."""
        return {name: control.value for name, control in self.controls.items()}

    def extremes(self) -> Iterator[dict[str, Any]]:
        """Yield the values of now, each control's first and last value with the others as now, all first, all last."""
        yield self.values
        for name, ends in self._ends.items():
            for end in ends:
                yield self.values | {name: end}
        for which in (0, 1):
            yield {name: ends[which] for name, ends in self._ends.items()}

    def __repr__(self) -> str:
        return f"<Panel: {', '.join(f'{name}={value!r}' for name, value in self.values.items())}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        # The PNG is for readers without a kernel, as on a static viewer; a live notebook prefers the widget.
        picture = {"text/plain": repr(self), "image/png": b64encode(self._image.value).decode()}
        widget: Any = self.widget._repr_mimebundle_()  # a dict, or None for a widget without a view
        return widget | picture

    def _redraw(self, change: Any) -> None:
        self.widget.add_class("stdcf-drawing")
        try:
            self._show(self.draw(**self.values))
        except Exception as error:  # Jupyter would hide it in a log that nobody has open
            text = f"<b>{type(error).__name__}</b>: {escape(str(error))}"
            self._message.value = f'<div role="alert" style="color: {VERMILLION}">{text}</div>'
            self._image.layout.visibility = "hidden"
        finally:
            self.widget.remove_class("stdcf-drawing")

    def _show(self, drawing: Drawing) -> None:
        # An explicit width keeps the page from jumping between two pictures.
        self._image.width = round(drawing.figure.get_figwidth() * drawing.figure.dpi)
        self._image.value = drawing.png()
        self._image.layout.visibility = "visible"
        self._message.value = ""


class Watch:
    """A picture of a run of ITSL that follows it, drawn by `plots.itsl.training`.

    Show it, and give it to `stdcf_lib.itsl.run` of the same folder as `watch`; or let it `follow` a run of another process.

    Args:
        folder: of the run.
        seconds: between two pictures, at least.
    """

    def __init__(self, folder: Path | str, seconds: float = 2.0) -> None:
        self.folder, self.seconds = Path(folder), number("seconds", seconds, least=0)
        self.image = Image(format="png")
        self.drawn = 0.0
        self.draw()

    def __call__(self, line: dict[str, Any]) -> None:
        """Draw, if it is time, or if that line ends an epoch."""
        if "train_loss" in line or time.monotonic() - self.drawn >= self.seconds:
            self.draw()

    def follow(self) -> None:
        """Draw again and again, until the run is finished, or you interrupt."""
        while not Run(self.folder).finished:
            self.draw()
            time.sleep(self.seconds)
        self.draw()

    def draw(self) -> None:
        """Draw the run as it stands."""
        self.image.value = itsl.training(self.folder).png()
        self.drawn = time.monotonic()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        widget: Any = self.image._repr_mimebundle_()
        return widget | {"text/plain": f"<Watch: {self.folder.name}>", "image/png": b64encode(self.image.value).decode()}


def _ends(name: str, control: Any) -> tuple[Any, Any]:
    if isinstance(control, Checkbox):
        return False, True
    if hasattr(control, "min"):
        return control.min, control.max
    if hasattr(control, "options"):
        first, *_, last = [option[1] if isinstance(option, tuple) else option for option in control.options]
        return first, last
    raise TypeError(f"control {name} is a {type(control).__name__}; give a slider, a dropdown or a checkbox")


def atom_products() -> Panel:
    """Notebook 02: the clips ψ_m ⊗ φ_n of every family of atoms."""

    scene = cache(joint_convolution.products_scene)

    def draw(atoms: str, size: int, spatial_atoms: int, temporal_atoms: int) -> Drawing:
        generator = torch.Generator().manual_seed(0)
        psi = families.spatial_atoms((size, size), spatial_atoms, atoms, generator)
        phi = families.temporal_atoms(3, temporal_atoms, atoms, generator)
        return scene(spatial_atoms, *phi.shape)(psi, phi)

    return Panel(
        draw,
        atoms=Dropdown(options=families.FAMILIES),
        size=IntSlider(3, 3, 9, description="size, pixels"),
        spatial_atoms=IntSlider(5, 1, 6, description="M, spatial atoms"),
        temporal_atoms=IntSlider(3, 1, 3, description="N, temporal atoms"),
    )


def filter_assembly() -> Panel:
    """Notebook 02: the filters of a layer growing from their terms."""
    layer = _first_layer()
    scene = joint_convolution.assembly_scene(len(layer.psi), len(layer.phi), layer.phi.shape[1])

    def draw(terms: int, channel: int) -> Drawing:
        return scene(layer.psi, layer.phi, layer.alpha[channel, 0], terms)

    return Panel(draw, terms=IntSlider(4, 1, 15), channel=IntSlider(0, 0, 3, description="output channel"))


def probe() -> Panel:
    """Notebook 02: a bank of eight direction filters, with M and N atoms and dilated in time, answers a clip."""
    bank = joint_convolution.direction_bank()
    digits = TRMNIST("test", clips=1, frames=13)[0][None]
    scene = joint_convolution.compass_scene(9, directions=len(bank.weight), taps=bank.weight.shape[2])
    clips = {
        "bar to the right": lambda speed: moving_bar(13, speed=speed),
        "bar to the left": lambda speed: moving_bar(13, speed=speed, direction=180),
        "grating to the right": lambda speed: drifting_grating(13, speed=speed),
        "grating up": lambda speed: drifting_grating(13, speed=speed, direction=90),
        "TR-MNIST clip, its own speed": lambda speed: digits,
    }

    def draw(spatial_atoms: int, temporal_atoms: int, temporal_dilation: int, probe: str, speed: float) -> Drawing:
        clip = clips[probe](speed)
        return scene(clip, bank, spatial_atoms, temporal_atoms, temporal_dilation)

    return Panel(
        draw,
        spatial_atoms=IntSlider(5, 1, 8, description="M, spatial atoms"),
        temporal_atoms=IntSlider(2, 1, 3, description="N, temporal atoms"),
        temporal_dilation=IntSlider(1, 1, 2),
        probe=Dropdown(options=list(clips)),
        speed=FloatSlider(value=1, min=0, max=2, step=0.25, description="speed, px/frame"),
    )


def forms_race() -> Panel:
    """Notebook 02: what the forms of a layer multiply, and the time that they take at best and here."""
    return Panel(
        roofline.forms_race.scene(),
        channels=Dropdown(options=[16, 32, 64, 128], value=64, description="C, channels"),
        size=IntSlider(28, 7, 28, step=7, description="H, pixels"),
        spatial_atoms=IntSlider(5, 1, 6, description="M, spatial atoms"),
        temporal_atoms=IntSlider(3, 1, 3, description="N, temporal atoms"),
        measure=Checkbox(value=False, description="measure, too"),
    )


def mirrors() -> Panel:
    """Notebook 03: a bouncing digit's path, folded, and straight through the mirrors."""
    return Panel(
        tr_mnist.mirrors.scene(),
        speed=FloatSlider(value=3, min=0, max=4, step=0.25, description="speed, px/frame"),
        direction=IntSlider(20, 0, 345, step=5, description="direction, degrees"),
        frames=IntSlider(8, 2, 16),
    )


def tr_mnist_clip() -> Panel:
    """Notebook 03: a clip in the making, at any speed, turn, number of digits and size of frame."""

    scene = cache(tr_mnist.making_scene)

    def draw(clip: int, speed: float, rotation: int, digits: int, size: int) -> Drawing:
        return scene(digits)(clip, (speed, speed), rotation, size)

    return Panel(
        draw,
        clip=IntSlider(3, 0, 20, description="test clip"),
        speed=FloatSlider(value=2.5, min=0, max=8, step=0.5, description="speed, px/frame"),
        rotation=IntSlider(45, -90, 90, step=5, description="angular speed, degrees/frame"),
        digits=IntSlider(2, 1, 4, description="digits in a clip"),
        size=IntSlider(28, 20, 56, description="size of the frame, pixels"),  # MNIST's ink needs 20
    )


def separability() -> Panel:
    """Notebook 03: how many space × time products it takes to write down a clip, at any speed and turn."""
    still = TRMNIST("test", 200, digits=1, speed=(0, 0), rotation=0).clips[:, 0]
    scene = tr_mnist.separability_scene(("still", "yours", "unrelated"))

    @lru_cache(64)  # a reader goes back and forth, and most of the wait is for rendering the clips
    def rendered(speed: float, rotation: int, digits: int) -> Tensor:
        return TRMNIST("test", 200, digits=digits, speed=(speed, speed), rotation=rotation).clips[:, 0]

    def draw(speed: float, rotation: int, digits: int) -> Drawing:
        clips = rendered(speed, rotation, digits)
        return scene({"still": still, "yours": clips, "unrelated": tr_mnist.unrelated(clips)}, 0, 14)

    return Panel(
        draw,
        speed=FloatSlider(value=1, min=0, max=8, step=0.25, description="speed, px/frame"),
        rotation=IntSlider(0, -90, 90, step=5, description="angular speed, degrees/frame"),
        digits=IntSlider(1, 1, 4, description="digits in a clip"),
    )


def sweep() -> Panel:
    """Notebook 04: the error of trained networks over M and N, and what the chosen one makes of a test clip."""
    return Panel(
        reconstruction.sweep.scene(),
        spatial_atoms=IntSlider(5, 1, 9, description="M, spatial atoms"),
        temporal_atoms=IntSlider(3, 1, 3, description="N, temporal atoms"),
        clip=IntSlider(0, 0, 20, description="test clip"),
    )


def filter_response() -> Panel:
    """Notebook 05: one filter's answer to an action at any tempo, plain and dilated."""
    return Panel(
        tempo.filter_response.scene(),
        action=Dropdown(value="handwaving", options=ACTIONS),
        tempo=FloatSlider(value=2, min=0.5, max=3, step=0.25, description="τ, tempo"),
        dilation=IntSlider(2, 1, 3, description="temporal dilation"),
        channel=IntSlider(0, 0, 15, description="channel of conv1"),
    )


def toy_steps() -> Panel:
    """Notebook 05: a filter, a max-pool and a filter over repeated values, in one dimension."""
    return Panel(
        tempo.toy_steps.scene(),
        repeat=IntSlider(2, 1, 3, description="every value so many times"),
        dilation_1=IntSlider(2, 1, 3, description="dilation of filter 1"),
        pool=IntSlider(2, 1, 6, description="values that the pool joins"),
        dilation_2=IntSlider(2, 1, 3, description="dilation of filter 2"),
    )


def tempo_map() -> Panel:
    """Notebook 05: where clips of another tempo fall in the map of tempo 1, from kept representations."""
    return Panel(
        tempo.tempo_map.scene(),
        tempo=Dropdown(value=2.0, options=GRID_TEMPI, description="τ, tempo"),
        conv1=IntSlider(1, 1, 3, description="dilation of conv1"),
        conv2=IntSlider(1, 1, 3, description="dilation of conv2"),
        conv3=IntSlider(1, 1, 3, description="dilation of conv3"),
        action=Dropdown(options=["all", *ACTIONS]),
        subject=Dropdown(options=["all", *sorted(SPLITS["test"])]),
        perplexity=IntSlider(20, 5, 35, step=5),
    )


def itsl_needs() -> Panel:
    """Notebook 06: memory and multiplications of STDCF-R50 at full size and in the stages of ITSL."""
    return Panel(
        itsl.needs.scene(),
        frames=IntSlider(16, 8, 64, step=8, description="L, frames"),
        size=IntSlider(224, 112, 224, step=16, description="size, pixels"),
        reduction=Dropdown(options=(4, 16), description="reduction of a stage"),
        spatial_atoms=IntSlider(5, 1, 6, description="M, spatial atoms"),
        temporal_atoms=IntSlider(3, 1, 3, description="N, temporal atoms"),
        batch=IntSlider(8, 1, 64, description="clips a batch"),
    )


def itsl_stages() -> Panel:
    """Notebook 06: the clips that each stage of a schedule shows, and what it freezes."""
    scene = cache(itsl.stages_scene)

    def draw(iterations: int, frames: int, reduction: int) -> Drawing:
        return scene(2 * iterations + 1)(iterations, frames, 224, reduction)

    return Panel(
        draw,
        iterations=IntSlider(2, 1, 3),
        frames=IntSlider(16, 8, 64, step=8, description="L, frames"),
        reduction=Dropdown(options=(4, 16), description="reduction of a stage"),
    )


def turning_digit() -> Panel:
    """Notebook 06: a turning digit as the full clip and as the two stages show it."""
    scene = itsl.turning_scene(1)
    return Panel(lambda clip: scene((clip,), 0), clip=IntSlider(0, 0, 20, description="test clip"))


def conversion_budget() -> Panel:
    """Notebook 07: which layers of a network convert, and with how many atoms, by a budget."""
    scene = cache(convert.layers_scene)

    def draw(network: str, budget: str, share: float) -> Drawing:
        return scene(network)(budget, share)

    return Panel(
        draw,
        network=Dropdown(options=("r3d_18", "mc3_18", convert.OURS)),
        budget=Dropdown(value="parameters", options=[(words, name) for name, words in convert.BUDGETS.items()]),
        share=FloatSlider(value=0.5, min=0.05, max=1, step=0.05),
    )


def _first_layer() -> STDCFConv3d:
    """The layer that notebook 02 begins with."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return STDCFConv3d(1, 4, kernel_size=3)
