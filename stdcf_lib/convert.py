"""A whole network's 3D convolutions turned into STDCF."""

import copy
import warnings
from typing import Any, NamedTuple

from torch import nn
from torch.nn.utils import parametrize

from stdcf_lib.checks import whole
from stdcf_lib.conv import STDCFConv3d, STDCFConvTranspose3d
from stdcf_lib.measure import cost

_TWINS = {nn.Conv3d: STDCFConv3d, nn.ConvTranspose3d: STDCFConvTranspose3d}


class ConvertedLayer(NamedTuple):
    """What became of one layer.

    `energy` is the share of ‖W‖² that the new filters keep, in [0, 1]. `macs_before` counts one convolution, which is also
    what the new layer takes when it rebuilds its filters; `macs_after` counts its three layers, φ, ψ and α.
    """

    name: str
    spatial_atoms: int
    temporal_atoms: int
    energy: float
    parameters_before: int
    parameters_after: int
    macs_before: int | None
    macs_after: int | None


def to_stdcf(
    network: nn.Module,
    spatial_atoms: int = 5,
    temporal_atoms: int = 3,
    input_size: tuple[int, ...] | None = None,
) -> tuple[nn.Module, list[ConvertedLayer]]:
    """Turn every spatiotemporal convolution of a network into STDCF, by the best joint decomposition of its filters.

    Each `nn.Conv3d` and `nn.ConvTranspose3d` whose kernel is longer than 1 both in time and in space becomes
    `STDCFConv3d.from_conv3d` of it. What was shared stays shared: a module used twice, and a weight held by two modules.

    [ours] The counts are upper limits: a layer takes min(M, kh·kw) and min(N, kt) atoms, as one network has kernels of
    several sizes. A layer that does more than its class says (a subclass with its own `forward`, a parametrized weight,
    hooks) is left as it is, with a warning that names it.

    Args:
        network: any module, a single `nn.Conv3d` included. It is left alone.
        spatial_atoms: M, at least 1.
        temporal_atoms: N, at least 1.
        input_size: shape of the input, batch included, such as (1, 3, 16, 112, 112), to count MACs for.

    Returns:
        A converted deep copy of the network, and a report on its converted layers in their order; MACs are None without
        `input_size`, and the sum over all calls of a layer that is used more than once.

    Raises:
        TypeError: `network` is not a module.
        ValueError: a count below 1, or a network without a layer to convert.

    Example:
        A trained network of torchvision:

        >>> from torchvision.models.video import R3D_18_Weights, r3d_18
        >>> network, report = to_stdcf(r3d_18(weights=R3D_18_Weights.DEFAULT))  # doctest: +SKIP
    """
    if not isinstance(network, nn.Module):
        raise TypeError(f"network is {type(network).__name__}; give a torch.nn.Module")
    spatial_atoms, temporal_atoms = whole("spatial_atoms", spatial_atoms), whole("temporal_atoms", temporal_atoms)

    found: dict[str, Any] = {name: module for name, module in network.named_modules() if _is_spatiotemporal(module)}
    convs = {name: module for name, module in found.items() if _is_plain(module)}
    if left := found.keys() - convs.keys():
        warnings.warn(f"left as they are, for they do more than convolve: {', '.join(sorted(left))}", stacklevel=2)
    if not convs:
        raise ValueError(
            f"network {type(network).__name__} has nothing to convert: no nn.Conv3d or nn.ConvTranspose3d with a kernel "
            "longer than 1 both in time and in space"
        )

    layers: dict[str, Any] = {}
    by_weight: dict[Any, Any] = {}
    for name, conv in convs.items():
        kt, kh, kw = conv.kernel_size
        layer = layers[name] = _TWINS[_base(conv)].from_conv3d(conv, min(spatial_atoms, kh * kw), min(temporal_atoms, kt))
        first = by_weight.setdefault(conv.weight, layer)
        layer.psi, layer.phi, layer.alpha = first.psi, first.phi, first.alpha
    # A deep copy takes what its memo holds in place of a copy, wherever and however often it meets the original.
    converted = copy.deepcopy(network, {id(convs[name]): layer for name, layer in layers.items()})
    inputs = _input_sizes(converted, layers, input_size) if input_size else {}
    return converted, [_compare(name, convs[name], layer, inputs.get(name)) for name, layer in layers.items()]


def _base(module: nn.Module) -> Any:
    return next((base for base in _TWINS if isinstance(module, base)), None)


def _is_spatiotemporal(module: Any) -> bool:
    return _base(module) is not None and module.kernel_size[0] > 1 and max(module.kernel_size[1:]) > 1


def _is_plain(conv: Any) -> bool:
    base, own = _base(conv), type(conv)
    own_forward = any(getattr(own, name, None) is not getattr(base, name, None) for name in ("forward", "_conv_forward"))
    hooks = conv._forward_hooks or conv._forward_pre_hooks or conv._backward_hooks or conv._backward_pre_hooks
    return not (own_forward or hooks or parametrize.is_parametrized(conv))


def _input_sizes(
    network: nn.Module, layers: dict[str, nn.Module], input_size: tuple[int, ...]
) -> dict[str, list[tuple[int, ...]]]:
    """The shape of the input at each call of each layer, from a pass on the meta device."""
    seen: dict[str, list[tuple[int, ...]]] = {name: [] for name in layers}

    def recorded(sizes: list[tuple[int, ...]]) -> Any:
        return lambda _, inputs: sizes.append(tuple(inputs[0].shape))

    hooks = [layer.register_forward_pre_hook(recorded(seen[name])) for name, layer in layers.items()]
    try:
        cost(network, input_size)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _compare(name: str, conv: Any, layer: Any, inputs: list[tuple[int, ...]] | None) -> ConvertedLayer:
    before, after = conv.weight.detach().double(), layer.filters().detach().double()
    total = float(before.square().sum())
    evaluation, layer.evaluation = layer.evaluation, "atoms"
    macs = [None if inputs is None else sum(cost(module, size).macs for size in inputs) for module in (conv, layer)]
    layer.evaluation = evaluation
    return ConvertedLayer(
        name,
        len(layer.psi),
        len(layer.phi),
        1 - float((before - after).square().sum()) / total if total else 1.0,
        *(sum(p.numel() for p in module.parameters()) for module in (conv, layer)),
        *macs,
    )
