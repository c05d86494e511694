"""Counts of atoms for each layer by itself, by a budget for the network."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from stdcf_lib.convert.layers import Sizes, as_stdcf, macs_of
from stdcf_lib.decompose import energies


class Option(NamedTuple):
    """What a layer could become: its counts of atoms, M and N, or None for the layer as it is; the share of ‖W‖² that it would
    keep; its parameters without a bias; and its MACs, an STDCF layer's as three layers, or 0 where they are not counted."""

    counts: tuple[int, int] | None
    energy: float
    parameters: int
    macs: int


Options = Mapping[tuple[str, ...], list[Option]]
"""Names of the layers that hold one weight, and so have one choice → what they could become together."""


def options(
    convs: Mapping[str, Any],
    sizes: Mapping[str, Sizes],
    spatial_atoms: float = math.inf,
    temporal_atoms: float = math.inf,
) -> Options:
    """What each of some convolutions could become.

    Args:
        convs: by name, of `convertible`.
        sizes: of `input_sizes`; empty to count no MACs.
        spatial_atoms, temporal_atoms: the most M and N.
    """
    together: dict[Any, list[str]] = {}
    for name, conv in convs.items():
        together.setdefault(conv.weight, []).append(name)
    return {
        tuple(names): _of_weight(weight, {name: convs[name] for name in names}, sizes, spatial_atoms, temporal_atoms)
        for weight, names in together.items()
    }


def _of_weight(weight: Any, convs: dict[str, Any], sizes: Mapping[str, Sizes], most_m: float, most_n: float) -> list[Option]:
    kt, kh, kw = weight.shape[2:]
    pairs, kept = weight.shape[0] * weight.shape[1], energies(weight)
    before, one, two = (
        sum(
            macs_of(as_stdcf(conv, *counts, fit=False) if counts else conv, sizes.get(name, [])) for name, conv in convs.items()
        )
        for counts in ((), (1, 1), (2, 1))
    )
    # Of three layers, φ alone grows with N, and ψ and α grow with M·N.
    a_term, a_phi = two - one, 2 * one - two
    found = [Option(None, 1.0, weight.numel(), before)]
    for m in range(1, int(min(most_m, kh * kw)) + 1):
        for n in range(1, int(min(most_n, kt)) + 1):
            parameters = pairs * m * n + m * kh * kw + n * kt
            found.append(Option((m, n), float(kept[m - 1, n - 1]), parameters, a_term * m * n + a_phi * n))
    return found


def cheapest(options: Options, keep: float) -> dict[tuple[str, ...], Option]:
    """For each layer the option of fewest parameters that keeps a share of ‖W‖², of `keep` or more."""
    return {
        names: min((option for option in of_layer if option.energy >= keep - 1e-12), key=lambda option: option.parameters)
        for names, of_layer in options.items()
    }


def best(options: Options, resource: str, budget: int) -> dict[tuple[str, ...], Option]:
    """An option for each layer, so that all together keep most within a budget.

    [ours] What they keep together is the product of their shares, as in the rank selection of Zhang et al. (Accelerating Very
    Deep Convolutional Networks for Classification and Detection, 2016), there of responses and here of filters. It does not
    ask how large the filters of a layer are, which a norm after it may have made anything. From the cheapest option of each
    layer it goes on, a step at a time, where a step brings most for its cost; and what is left buys what it can. So no other
    choice keeps more, but for what the last steps make of the remainder.

    Args:
        options: of each layer.
        resource: `"parameters"` or `"macs"`.
        budget: of it; no less than the cheapest options take together.
    """

    def price(option: Option) -> int:
        return getattr(option, resource)

    def gain(before: Option, after: Option) -> float:
        return math.log(after.energy / before.energy) / (price(after) - price(before))

    def worth_it(of_layer: list[Option]) -> list[Option]:
        """Those on the upper convex hull of log energy over price, the cheapest first."""
        found: list[Option] = []
        for option in sorted(of_layer, key=lambda option: (price(option), -option.energy)):
            if found and option.energy <= found[-1].energy:
                continue
            while len(found) > 1 and gain(found[-2], option) >= gain(found[-2], found[-1]):
                found.pop()
            found.append(option)
        return found

    ways = {names: worth_it(of_layer) for names, of_layer in options.items()}
    chosen = {names: way[0] for names, way in ways.items()}
    left = budget - sum(map(price, chosen.values()))
    steps = [(names, *way[k - 1 : k + 1]) for names, way in ways.items() for k in range(1, len(way))]
    for names, before, after in sorted(steps, key=lambda step: -gain(*step[1:])):  # of a layer they come in order
        if chosen[names] is before and price(after) - price(before) <= left:
            chosen[names] = after
            left -= price(after) - price(before)
    while further := [
        (option.energy / chosen[names].energy, names, option)
        for names, of_layer in options.items()
        for option in of_layer
        if option.energy > chosen[names].energy and price(option) - price(chosen[names]) <= left
    ]:
        _, names, option = max(further, key=lambda step: step[0])
        left -= price(option) - price(chosen[names])
        chosen[names] = option
    return chosen
