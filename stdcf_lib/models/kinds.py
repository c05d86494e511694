"""The three families that every network here can be built of: `"full"`, `"rank1"` and `"stdcf"`."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from stdcf_lib.checks import choice
from stdcf_lib.conv import STDCFConv3d, STDCFConvTranspose3d
from stdcf_lib.rank1 import FullConv3d, FullConvTranspose3d, Rank1Conv3d, Rank1ConvTranspose3d

KINDS = ("full", "rank1", "stdcf")

_LAYERS: dict[str, tuple[Any, Any]] = {
    "full": (FullConv3d, FullConvTranspose3d),
    "rank1": (Rank1Conv3d, Rank1ConvTranspose3d),
    "stdcf": (STDCFConv3d, STDCFConvTranspose3d),
}
_OPTIONS = {
    "full": (),
    "rank1": ("between", "middle_channels"),
    "stdcf": ("spatial_atoms", "temporal_atoms", "atoms", "evaluation"),
}


def convolutions(kind: str, **options: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The convolution of a family and its transpose, to be called like `nn.Conv3d` and `nn.ConvTranspose3d`.

    All three start by one variance rule, so that a comparison compares families and not initialisations. [ours]

    Args:
        kind: `"full"`, `"rank1"` or `"stdcf"`.
        **options: `spatial_atoms`, `temporal_atoms`, `atoms`, `evaluation` for `"stdcf"`; `middle_channels` and `between`, a
            function from C'' to the module between the two factors (such as `nn.BatchNorm3d`), for `"rank1"`.

    Raises:
        ValueError: an unknown kind, or an option that the kind does not have.
    """
    known = _OPTIONS[choice("kind", kind, KINDS)]
    for name in options:
        if name not in known:
            raise ValueError(f"{name} is not an option of kind={kind!r}, which takes {', '.join(known) or 'none'}")
    between = options.pop("between", None)
    conv, transpose = (partial(layer, **options) for layer in _LAYERS[kind])
    return (conv, transpose) if between is None else (partial(_with, conv, between), partial(_with, transpose, between))


def of_kind(kind: str, **options: Any) -> dict[str, Any]:
    """Those of some options that a family has, for a network that is built of any of them."""
    return {name: value for name, value in options.items() if name in _OPTIONS[choice("kind", kind, KINDS)]}


def _with(layer: Callable[..., Any], between: Callable[[int], nn.Module], *args: Any, **kwargs: Any) -> nn.Module:
    middle = kwargs.get("middle_channels") or args[1]
    return layer(*args, between=between(middle), **kwargs)
