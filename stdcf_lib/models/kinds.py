"""The three families that every network here can be built of: `"full"`, `"rank1"` and `"stdcf"`."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from stdcf_lib.conv import Rank1Conv3d, Rank1ConvTranspose3d, STDCFConv3d, STDCFConvTranspose3d, initialise

KINDS = ("full", "rank1", "stdcf")


def convolutions(kind: str, **options: Any) -> tuple[Callable[..., nn.Module], Callable[..., nn.Module]]:
    """The convolution of a family and its transpose, to be called like `nn.Conv3d` and `nn.ConvTranspose3d`.

    All three start by one variance rule, so that a comparison compares families and not initialisations. [ours]

    Args:
        kind: `"full"`, `"rank1"` or `"stdcf"`.
        **options: `spatial_atoms`, `temporal_atoms`, `atoms`, `evaluation` for `"stdcf"`; `between`, a function from C'' to
            the module between the two factors (such as `nn.BatchNorm3d`), for `"rank1"`.

    Raises:
        ValueError: an unknown kind, or an option that the kind does not have.
    """
    known = {"full": (), "rank1": ("between",), "stdcf": ("spatial_atoms", "temporal_atoms", "atoms", "evaluation")}
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r}; choose one of {', '.join(map(repr, KINDS))}")
    for name in options:
        if name not in known[kind]:
            raise ValueError(f"{name} is not an option of kind={kind!r}, which takes {', '.join(known[kind]) or 'none'}")
    if kind == "stdcf":
        return partial(STDCFConv3d, **options), partial(STDCFConvTranspose3d, **options)
    if kind == "rank1":
        return partial(_rank1, Rank1Conv3d, **options), partial(_rank1, Rank1ConvTranspose3d, **options)
    return partial(_full, nn.Conv3d), partial(_full, nn.ConvTranspose3d)


def _full(layer: type[nn.Module], *args: Any, **kwargs: Any) -> nn.Module:
    conv = layer(*args, **kwargs)
    initialise(conv)
    return conv


def _rank1(
    layer: type[nn.Module],
    in_channels: int,
    out_channels: int,
    *args: Any,
    middle_channels: int | None = None,
    between: Callable[[int], nn.Module] | None = None,
    **kwargs: Any,
) -> nn.Module:
    middle = out_channels if middle_channels is None else middle_channels
    return layer(in_channels, out_channels, *args, middle_channels=middle, between=between and between(middle), **kwargs)
