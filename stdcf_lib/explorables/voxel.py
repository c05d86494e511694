"""One voxel, two sums."""

from typing import Any

import torch
import traitlets
from torch import Tensor

from stdcf_lib.checks import whole
from stdcf_lib.conv import STDCFConv3d
from stdcf_lib.explorables.base import Explorable, module, rounded
from stdcf_lib.explorables.parts import of_one_filter
from stdcf_lib.plots import joint_convolution
from stdcf_lib.plots.style import Drawing


class Voxel(Explorable):
    """Every product behind one voxel of a layer's output: by the filter, and by atoms and coefficients.

    Move the voxel by mouse, finger or arrows; page up and page down change the frame, the space bar plays the clip.

    Args:
        layer: its filter from channel `input` to channel `output` is shown, undilated and without padding and bias.
        clip: (1, 1, T, H, W), in [0, 1].
        output, input: channels of the layer, from 0.
        t, y, x: the voxel of the output to begin with.

    Raises:
        TypeError: a layer that is not an `STDCFConv3d`.
        ValueError: a clip of another shape or smaller than the filter, a filter too large to show, a voxel outside.
    """

    name, title = "voxel", "One voxel, two sums"
    _esm = module("voxel")

    clip = traitlets.List().tag(sync=True, state=True)
    psi = traitlets.List().tag(sync=True, state=True)
    phi = traitlets.List().tag(sync=True, state=True)
    alpha = traitlets.List().tag(sync=True, state=True)
    t = traitlets.Int().tag(sync=True, state=True)
    y = traitlets.Int().tag(sync=True, state=True)
    x = traitlets.Int().tag(sync=True, state=True)

    def __init__(
        self, layer: STDCFConv3d, clip: Tensor, output: int = 0, input: int = 0, *, t: int = 0, y: int = 0, x: int = 0
    ) -> None:
        parts = of_one_filter(layer, output, input)
        if not isinstance(clip, Tensor) or clip.dim() != 5 or clip.shape[:2] != (1, 1):
            given = tuple(clip.shape) if isinstance(clip, Tensor) else type(clip).__name__
            raise ValueError(f"clip is {given}; give a tensor (1, 1, T, H, W)")
        sizes = dict(zip("tyx", zip(clip.shape[2:], layer.kernel_size, strict=True), strict=True))
        if any(size < taps for size, taps in sizes.values()):
            raise ValueError(f"clip of shape {tuple(clip.shape)} is smaller than the filter, {layer.kernel_size}")
        at: dict[str, Any] = {"t": t, "y": y, "x": x}
        at = {axis: whole(axis, at[axis], 0, size - taps) for axis, (size, taps) in sizes.items()}
        super().__init__(clip=rounded(clip[0, 0]), **{name: rounded(part()) for name, part in parts.items()}, **at)
        self.tie(**parts)

    def __repr__(self) -> str:
        products = self.drawing().arrays
        return f"<Voxel: t={self.t}, y={self.y}, x={self.x}; both sums {products['products'].sum() + 0.0:.3f}>"

    def drawing(self) -> Drawing:
        """The voxel and its products as a still figure."""
        psi, phi, alpha = (torch.tensor(part) for part in (self.psi, self.phi, self.alpha))
        return joint_convolution.voxel(torch.tensor(self.clip)[None, None], psi, phi, alpha, self.t, self.y, self.x)
