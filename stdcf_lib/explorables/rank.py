"""Rank, made visible."""

from typing import Any

import numpy as np
import torch
import traitlets

from stdcf_lib import capacity
from stdcf_lib.checks import number, whole
from stdcf_lib.conv import STDCFConv3d
from stdcf_lib.explorables.base import Explorable, module, rounded
from stdcf_lib.plots import capacity as plots
from stdcf_lib.plots.style import Drawing

MOST = 9, 24
"""The shorter and the longer side of an unfolded α that there is room for."""


class Rank(Explorable):
    """α unfolded as a sum of outer products, one a middle channel of the nearest rank-1 layer, and what is left out.

    Drag a cell of α, or choose one with the arrows and change it with + and −. Given a layer, the layer changes with it.

    Args:
        alpha: (C_out, C_in, K_u, K_t), an array or tensor; or an `STDCFConv3d`, whose α is taken.
        middle: C'', as many as are kept.
        gauge: from -1.5 to 1.5: turns neighbouring middle channels into each other and stretches the first. It moves m and n,
            and leaves their product.

    Raises:
        ValueError: an α with other than four axes, one too large to show, or a value out of range.
    """

    name, title = "rank", "Rank, made visible"
    _esm = module("rank")

    alpha = traitlets.List().tag(sync=True, state=True)
    middle = traitlets.Int().tag(sync=True, state=True)
    gauge = traitlets.Float().tag(sync=True, state=True)

    def __init__(self, alpha: Any, middle: int = 1, gauge: float = 0.0) -> None:
        layer = alpha if isinstance(alpha, STDCFConv3d) else None
        try:
            values = rounded(alpha.alpha if layer is not None else alpha)
        except (TypeError, ValueError, RuntimeError):  # numpy's and torch's, of what is no array of numbers
            raise ValueError(f"alpha is {type(alpha).__name__}; give an array of numbers (C_out, C_in, K_u, K_t)") from None
        sides = sorted(capacity.matricize(np.array(values)).shape)
        if sides[0] > MOST[0] or sides[1] > MOST[1]:
            raise ValueError(f"alpha unfolds to {sides[0]} by {sides[1]}: there is room to show up to {MOST[0]} by {MOST[1]}")
        super().__init__(alpha=values, middle=whole("middle", middle, 1, sides[0]), gauge=number("gauge", gauge, -1.5, 1.5))
        if layer is not None:
            self.tie(alpha=lambda: layer.alpha)

    def __repr__(self) -> str:
        nearest = capacity.nearest_rank1(np.array(self.alpha), self.middle)
        rows, columns = capacity.matricize(np.array(self.alpha)).shape
        return f"<Rank: alpha unfolded {rows} × {columns}, C''={self.middle}, relative error {nearest.error:.2f}>"

    def drawing(self) -> Drawing:
        """α, its nearest m·n term by term, and what is left out, as a still figure."""
        return plots.outer_products(torch.tensor(self.alpha, dtype=torch.float64).numpy(), self.middle)
