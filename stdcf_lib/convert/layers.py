"""Which layers of a network convert, and what they meet."""

import warnings
from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.nn.utils import parametrize

from stdcf_lib.conv import STDCFConv3d, STDCFConvTranspose3d
from stdcf_lib.measure import cost
from stdcf_lib.rank1 import FullConv3d, FullConvTranspose3d

Sizes = list[tuple[int, ...]]

_TWINS = {nn.Conv3d: STDCFConv3d, nn.ConvTranspose3d: STDCFConvTranspose3d}
_OURS = {nn.Conv3d: FullConv3d, nn.ConvTranspose3d: FullConvTranspose3d}


def convertible(network: nn.Module) -> dict[str, Any]:
    """The convolutions that `to_stdcf` converts, by name. Warns and raises as it does."""
    found: dict[str, Any] = {name: module for name, module in network.named_modules() if _is_spatiotemporal(module)}
    convs = {name: module for name, module in found.items() if _is_plain(module)}
    if left := found.keys() - convs.keys():
        warnings.warn(f"left as they are, for they do more than convolve: {', '.join(sorted(left))}", stacklevel=3)
    if not convs:
        raise ValueError(
            f"network {type(network).__name__} has nothing to convert: no nn.Conv3d or nn.ConvTranspose3d with a kernel "
            "longer than 1 both in time and in space"
        )
    return convs


def as_stdcf(conv: Any, spatial_atoms: int, temporal_atoms: int, fit: bool = True) -> Any:
    """The STDCF layer that takes the place of a convolution; see `STDCFConv3d.from_conv3d`."""
    return _TWINS[_base(conv)].from_conv3d(conv, spatial_atoms, temporal_atoms, fit=fit)


def input_sizes(network: nn.Module, layers: dict[str, Any], input_size: tuple[int, ...]) -> dict[str, Sizes]:
    """The shape of the input at each call of each layer, from a pass on the meta device."""
    seen: dict[str, Sizes] = {name: [] for name in layers}

    def recorded(sizes: Sizes) -> Any:
        return lambda _, inputs: sizes.append(tuple(inputs[0].shape))

    hooks = [layer.register_forward_pre_hook(recorded(seen[name])) for name, layer in layers.items()]
    try:
        cost(network, input_size)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def parameters_of(module: nn.Module) -> int:
    """How many numbers it learns, shared ones once."""
    return sum(p.numel() for p in module.parameters())


def macs_of(layer: Any, sizes: Iterable[tuple[int, ...]]) -> int:
    """MACs of a layer over its calls; an STDCF layer's as three layers."""
    before = getattr(layer, "evaluation", None)
    if before:
        layer.evaluation = "atoms"
    try:
        return sum(cost(layer, size).macs for size in sizes)
    finally:
        if before:
            layer.evaluation = before


def _base(module: nn.Module) -> Any:
    return next((base for base in _TWINS if isinstance(module, base)), None)


def _is_spatiotemporal(module: Any) -> bool:
    return _base(module) is not None and module.kernel_size[0] > 1 and max(module.kernel_size[1:]) > 1


def _is_plain(conv: Any) -> bool:
    base, own = _base(conv), type(conv)
    own_forward = any(
        getattr(own, name, None) not in (getattr(base, name, None), getattr(_OURS[base], name, None))
        for name in ("forward", "_conv_forward")
    )
    hooks = conv._forward_hooks or conv._forward_pre_hooks or conv._backward_hooks or conv._backward_pre_hooks
    return not (own_forward or hooks or parametrize.is_parametrized(conv))
