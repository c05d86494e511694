"""A filter in your hands."""

from typing import Any

import torch
import traitlets

from stdcf_lib.checks import choice, number, whole
from stdcf_lib.conv import STDCFConv3d
from stdcf_lib.explorables.base import Explorable, module, rounded
from stdcf_lib.explorables.parts import of_one_filter
from stdcf_lib.plots import joint_convolution
from stdcf_lib.plots.style import Drawing

PROBES = ("grating", "bar")


class Filter(Explorable):
    """Atoms and coefficients of one filter to drag, and at once the filter, the nearest separable one, and what both answer.

    Drag a pixel of ψ, a tap of φ or a cell of α; or choose one with the arrows and change it with + and −. The layer
    changes with it, and the page follows the layer after every notebook cell.

    Args:
        layer: its filter from channel `input` to channel `output` is held.
        output, input: channels of the layer, from 0.
        probe: `"grating"` or `"bar"`, what the filter watches.
        speed: of the probe, in pixels per frame, from 0 to 3.
        wavelength: of the grating, in pixels, from 4 to 16.
        direction: in degrees, 0 right, 90 up; a multiple of 5.
        tempo: the probe is shown so many times slower, from 1 to 3.
        dilation: of the filter in time, 1 to 3.

    Raises:
        TypeError: a layer that is not an `STDCFConv3d`.
        ValueError: a filter too large to show, or a value out of range.
    """

    name, title = "filter", "A filter in your hands"
    _esm = module("filter")

    psi = traitlets.List().tag(sync=True, state=True)
    phi = traitlets.List().tag(sync=True, state=True)
    alpha = traitlets.List().tag(sync=True, state=True)
    probe = traitlets.Enum(PROBES).tag(sync=True, state=True)
    speed = traitlets.Float().tag(sync=True, state=True)
    wavelength = traitlets.Float().tag(sync=True, state=True)
    direction = traitlets.Int().tag(sync=True, state=True)
    tempo = traitlets.Float().tag(sync=True, state=True)
    dilation = traitlets.Int().tag(sync=True, state=True)

    def __init__(
        self,
        layer: STDCFConv3d,
        output: int = 0,
        input: int = 0,
        *,
        probe: str = "grating",
        speed: float = 1.0,
        wavelength: float = 8.0,
        direction: int = 0,
        tempo: float = 1.0,
        dilation: int = 1,
    ) -> None:
        parts = of_one_filter(layer, output, input)
        seen: dict[str, Any] = {
            "probe": choice("probe", probe, PROBES),
            "speed": number("speed", speed, 0, 3),
            "wavelength": number("wavelength", wavelength, 4, 16),
            "direction": choice("direction", whole("direction", direction, 0, 355), range(0, 360, 5)),
            "tempo": number("tempo", tempo, 1, 3),
            "dilation": whole("dilation", dilation, 1, 3),
        }
        super().__init__(**{name: rounded(part()) for name, part in parts.items()}, **seen)
        self.tie(**parts)

    def __repr__(self) -> str:
        rows, columns = len(self.psi), len(self.phi)
        return f"<Filter: alpha {rows} × {columns}, {self.probe} at {self.speed:g} px/frame, {self.direction}°>"

    def drawing(self) -> Drawing:
        """The filter and the nearest separable one as a still figure, at the speed that the filter sees."""
        psi, phi, alpha = (torch.tensor(part, dtype=torch.float64) for part in (self.psi, self.phi, self.alpha))
        # Dilation times speed is what counts, and a film shown slower is a slower film.
        speed = self.dilation * self.speed / self.tempo
        return joint_convolution.direction_selectivity(psi, phi, alpha, speed, self.wavelength)
