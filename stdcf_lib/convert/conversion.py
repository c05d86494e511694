"""The conversion itself: which layers, with how many atoms, and what became of each."""

import copy
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import nn

from stdcf_lib.checks import number, whole
from stdcf_lib.convert.budget import Options, best, cheapest, options
from stdcf_lib.convert.layers import Sizes, as_stdcf, convertible, input_sizes, macs_of, parameters_of
from stdcf_lib.measure import cost


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
    spatial_atoms: int | None = None,
    temporal_atoms: int | None = None,
    input_size: tuple[int, ...] | None = None,
    *,
    keep: float | None = None,
    parameters: float | None = None,
    macs: float | None = None,
) -> tuple[nn.Module, list[ConvertedLayer]]:
    """Turn every spatiotemporal convolution of a network into STDCF, by the best joint decomposition of its filters.

    Each `nn.Conv3d` and `nn.ConvTranspose3d` whose kernel is longer than 1 both in time and in space becomes
    `STDCFConv3d.from_conv3d` of it. What was shared stays shared: a module used twice, and a weight held by two modules.

    [ours] The counts are upper limits: a layer takes min(M, kh·kw) and min(N, kt) atoms, as one network has kernels of
    several sizes. A layer that does more than its class says (a subclass with its own `forward`, a parametrized weight,
    hooks) is left as it is, with a warning that names it.

    [ours] With a budget, `keep`, `parameters` or `macs`, each layer has counts of its own, and one that is not worth
    converting stays as it is and out of the report. `keep` asks of every layer, whatever its size, that it keeps this share of
    its ‖W‖². `parameters` and `macs` let large layers give up more, and leave those alone whose few weights cost little: of all
    choices within the budget, the product of the layers' shares is largest (`stdcf_lib.convert.budget.best`).

    Args:
        network: any module, a single `nn.Conv3d` included. It is left alone.
        spatial_atoms: M, at least 1; by default 5, or with a budget as many as a kernel has pixels.
        temporal_atoms: N, at least 1; by default 3, or with a budget as many as a kernel has frames.
        input_size: shape of the input, batch included, such as (1, 3, 16, 112, 112), to count MACs for.
        keep: a budget: the share of ‖W‖² that every layer keeps at least, above 0 and at most 1, for the fewest parameters.
        parameters: a budget: the share of the whole network's parameters that may be left, above 0 and at most 1.
        macs: a budget: the same of its MACs, those of an STDCF layer counted as three layers, which it takes with
            `evaluation="atoms"`. It needs `input_size`.

    Returns:
        A converted deep copy of the network, and a report on its converted layers in their order; MACs are None without
        `input_size`, and the sum over all calls of a layer that is used more than once.

    Raises:
        TypeError: `network` is not a module.
        ValueError: a count below 1, a network without a layer to convert, more budgets than one, or one that is out of reach or
            leaves every layer as it is.

    Example:
        A trained network of torchvision, each layer with as few atoms as keep 95% of it:

        >>> from torchvision.models.video import R3D_18_Weights, r3d_18
        >>> network, report = to_stdcf(r3d_18(weights=R3D_18_Weights.DEFAULT), keep=0.95)  # doctest: +SKIP
    """
    if not isinstance(network, nn.Module):
        raise TypeError(f"network is {type(network).__name__}; give a torch.nn.Module")
    budgets = {"keep": keep, "parameters": parameters, "macs": macs}
    given = {name: number(name, share, above=0, most=1) for name, share in budgets.items() if share is not None}
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} are given; a conversion has one budget")
    most = tuple(
        math.inf if count is None and given else whole(name, usual if count is None else count)
        for name, count, usual in (("spatial_atoms", spatial_atoms, 5), ("temporal_atoms", temporal_atoms, 3))
    )
    if "macs" in given and input_size is None:
        raise ValueError("macs needs input_size, the shape of the input that they are counted for")

    convs = convertible(network)
    sizes = {} if input_size is None else input_sizes(network, convs, input_size)
    if given:
        ((budget, share),) = given.items()
        found = options(convs, sizes, *most)
        if budget == "keep":
            chosen = cheapest(found, share)
        else:
            chosen = best(found, budget, _left(network, found, budget, share, input_size))
        by_name = {name: option.counts for names, option in chosen.items() for name in names}
        counts = {name: pair for name in convs if (pair := by_name[name]) is not None}
        if not counts:
            raise ValueError(f"{budget}={share:g} leaves every layer as it is: atoms that keep so much cost no less; lower it")
    else:
        counts = {
            name: (int(min(most[0], math.prod(conv.kernel_size[1:]))), int(min(most[1], conv.kernel_size[0])))
            for name, conv in convs.items()
        }
    converted, layers = replaced(network, convs, counts)
    return converted, [_compare(name, convs[name], layer, sizes.get(name)) for name, layer in layers.items()]


def replaced(
    network: nn.Module, convs: Mapping[str, Any], counts: Mapping[str, tuple[int, int]], fit: bool = True
) -> tuple[nn.Module, dict[str, Any]]:
    """A deep copy of a network with STDCF in the place of some of its convolutions, and those layers by name.

    Args:
        network: left alone.
        convs: convolutions of it, by name.
        counts: M and N of those to replace, by name, in the network's order.
        fit: see `STDCFConv3d.from_conv3d`.
    """
    layers: dict[str, Any] = {}
    by_weight: dict[Any, Any] = {}
    for name, (spatial_atoms, temporal_atoms) in counts.items():
        conv = convs[name]
        layer = layers[name] = as_stdcf(conv, spatial_atoms, temporal_atoms, fit)
        first = by_weight.setdefault(conv.weight, layer)
        layer.psi, layer.phi, layer.alpha = first.psi, first.phi, first.alpha
    # A deep copy takes what its memo holds in place of a copy, wherever and however often it meets the original.
    return copy.deepcopy(network, {id(convs[name]): layer for name, layer in layers.items()}), layers


def _left(network: nn.Module, found: Options, budget: str, share: float, input_size: tuple[int, ...] | None) -> int:
    """What a share of the network's parameters or MACs leaves for the layers that may convert."""
    every = cost(network, input_size).macs if budget == "macs" and input_size is not None else parameters_of(network)
    others = every - sum(getattr(of_layer[0], budget) for of_layer in found.values())
    least = others + sum(min(getattr(option, budget) for option in of_layer) for of_layer in found.values())
    if int(share * every) < least:
        raise ValueError(
            f"{budget}={share:g} is out of reach: with one atom of each kind in every layer "
            f"{math.ceil(1000 * least / every) / 1000:g} of the network's {budget} are left; give that or more"
        )
    return int(share * every) - others


def _compare(name: str, conv: Any, layer: Any, sizes: Sizes | None) -> ConvertedLayer:
    before, after = conv.weight.detach().double(), layer.filters().detach().double()
    total = float(before.square().sum())
    return ConvertedLayer(
        name,
        len(layer.psi),
        len(layer.phi),
        1 - float((before - after).square().sum()) / total if total else 1.0,
        *map(parameters_of, (conv, layer)),
        *(None if sizes is None else macs_of(module, sizes) for module in (conv, layer)),
    )
