"""One filter of a layer, as the explorables hold it."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from stdcf_lib.checks import whole
from stdcf_lib.conv import STDCFConv3d

MOST = {"spatial atoms": 6, "temporal atoms": 5, "frames": 7, "rows": 9, "columns": 9}
"""What there is room for on a screen."""


def of_one_filter(layer: Any, output: int, input: int) -> dict[str, Callable[[], Tensor]]:
    """ψ (M, kh, kw), φ (N, kt) and α (M, N) of one channel pair, each as a function that reads the layer when it is called.

    Raises:
        TypeError: a layer that is not an `STDCFConv3d`.
        ValueError: a channel that the layer does not have, or a filter too large to show.
    """
    if not isinstance(layer, STDCFConv3d):
        raise TypeError(f"layer is {type(layer).__name__}; give an STDCFConv3d")
    output = whole("output", output, 0, layer.alpha.shape[0] - 1)
    input = whole("input", input, 0, layer.alpha.shape[1] - 1)
    for (what, most), count in zip(MOST.items(), (len(layer.psi), len(layer.phi), *layer.kernel_size), strict=True):
        if count > most:
            raise ValueError(f"layer has {count} {what}: there is room to show up to {most}")
    return {
        "psi": partial(getattr, layer, "psi"),
        "phi": partial(getattr, layer, "phi"),
        "alpha": lambda: layer.alpha[output, input],
    }
