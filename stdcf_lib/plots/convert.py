"""Figures of notebook 07: what conversion chooses, keeps and costs, and what comes back."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn

from stdcf_lib.convert import to_stdcf
from stdcf_lib.convert.budget import Option, Options, best, cheapest, options
from stdcf_lib.convert.layers import convertible, input_sizes, parameters_of
from stdcf_lib.convert.named import build, input_size
from stdcf_lib.convert.timing import Seconds
from stdcf_lib.data import TRMNIST
from stdcf_lib.experiments import filters, reconstruction, recovery, tempo
from stdcf_lib.experiments.compare import difference
from stdcf_lib.measure import cost
from stdcf_lib.plots.style import FULL, JOINT, NEUTRAL, PHI, PSI, SEPARABLE, Arrays, Drawing, Scene, new_figure, shade, styled

BUDGETS = {"keep": "share kept in every layer", "parameters": "parameters left", "macs": "MACs left, as three layers"}
OURS = "actions, of notebook 05"
"""A trained network, beside torchvision's, which have random weights here."""


@cache
def _choices(name: str) -> tuple[Options, int, int]:
    """What each layer of a network could become, and the network's parameters and MACs."""
    size = (1, 1, tempo.FRAMES, 60, 80) if name == OURS else input_size(name)
    assert size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network: nn.Module = tempo.trained("full", 0) if name == OURS else build(name)
    convs = convertible(network)
    return options(convs, input_sizes(network, convs, size)), parameters_of(network), cost(network, size).macs


def layers(network: str = "r3d_18", budget: str = "parameters", share: float = 0.5) -> Drawing:
    """Draw what a budget makes of each layer: its atoms, its parameters before and after, and the share that it keeps.

    Args:
        network: a name of torchvision, with random weights, or `OURS`.
        budget: one of `BUDGETS`.
        share: of it. Where it is out of reach, every layer is as cheap as it can be, and the title says so.
    """
    return layers_scene(network)(budget, share)


@styled
def layers_scene(network: str) -> Scene[[str, float]]:
    """The figure of `layers` for a network, which shows a budget and a share of it."""
    found, parameters, macs = _choices(network)
    whole = {"parameters": parameters, "macs": macs}
    names = [names[0] for names in found]
    firsts = [of_layer[0] for of_layer in found.values()]
    before = np.array([first.parameters for first in firsts])
    rows = np.arange(len(names))
    figure, (sizes, shares) = new_figure(1, 2, width=9.2, height=1.5 + 0.24 * len(rows), sharey=True, width_ratios=[1.2, 1])
    lines = sizes.hlines(rows, before, before, color="0.6", animated=True)
    sizes.plot(before, rows, "o", color=FULL, markerfacecolor="white", label="as it was", animated=True)
    (diamonds,) = sizes.plot(before, rows, "D", color=JOINT, label="after", animated=True)
    least = min(option.parameters for of_layer in found.values() for option in of_layer)
    sizes.set(xscale="log", xlabel="parameters of the layer", yticks=rows, yticklabels=names, ylim=(len(rows) - 0.4, -0.6))
    sizes.set_xlim(0.7 * least, 1.4 * before.max())
    sizes.legend(loc="lower left")  # where no layer goes: the deep ones are large
    bars = shares.barh(rows, np.ones(len(rows)), height=0.5, zorder=3, animated=True)
    words = [shares.text(1.02, row, "", va="center", size="small", animated=True) for row in rows]
    shares.set(xlim=(0, 1.4), xticks=(0, 0.25, 0.5, 0.75, 1), xlabel="share of ‖W‖² kept")
    left_title, right_title = (axes.set_title("M", animated=True) for axes in (sizes, shares))
    title = figure.suptitle("M", animated=True)

    def show(budget: str, share: float) -> Arrays:
        reached = True
        if budget == "keep":
            chosen = cheapest(found, share)
        else:
            others = whole[budget] - sum(getattr(first, budget) for first in firsts)
            least = sum(min(getattr(option, budget) for option in of_layer) for of_layer in found.values())
            budgeted = int(share * whole[budget]) - others
            reached = budgeted >= least
            chosen = best(found, budget, max(least, budgeted))
        picks = list(chosen.values())
        left = {
            what: 1 - sum(getattr(a, what) - getattr(b, what) for a, b in zip(firsts, picks, strict=True)) / whole[what]
            for what in whole
        }
        after, kept = (np.array([getattr(option, what) for option in picks]) for what in ("parameters", "energy"))
        lines.set_segments([((a, row), (b, row)) for a, b, row in zip(after, before, rows, strict=True)])
        diamonds.set_xdata(after)
        for bar, word, option in zip(bars, words, picks, strict=True):
            bar.set(width=option.energy, color=FULL if option.counts is None else JOINT)
            word.set_text(_in_words(option))
        converts = sum(option.counts is not None for option in picks)
        left_title.set_text(f"{left['parameters']:.0%} of the parameters left, {left['macs']:.0%} of the MACs")
        right_title.set_text(f"{converts} of {len(rows)} layers convert")
        beyond = "" if reached else " is out of reach; as few as can be"
        title.set_text(f"{network}: {BUDGETS[budget]}, {share:.2f}{beyond}")
        return {"before": before, "after": after, "kept": kept, "left": np.array(list(left.values()))}

    return Scene(figure, show)


def _in_words(option: Option) -> str:
    return "as it is" if option.counts is None else f"M={option.counts[0]}, N={option.counts[1]}"


@cache
def _each_or_all(share: float, seeds: Sequence[int], clips: int) -> np.ndarray:
    """The test error of trained autoencoders: as they were, with one count for all layers, with counts for each; (3, seeds).

    One count for all is the M and N, among those with which the network has no more parameters, that keep most.
    """
    test = TRMNIST("test", clips=clips).clips
    found = []
    for seed in seeds:
        network = reconstruction.trained("full", seed)
        each = to_stdcf(network, parameters=share)[0]
        whole, every = parameters_of(network), options(convertible(network), {})
        alike: dict[tuple[int, int], list[Option]] = {
            (m, n): [next(one for one in of_layer if one.counts == (m, n)) for of_layer in every.values()]
            for m in range(1, 10)
            for n in range(1, 4)
        }
        others = whole - sum(of_layer[0].parameters for of_layer in every.values())
        fits = {
            counts: np.prod([one.energy for one in picks])
            for counts, picks in alike.items()
            if others + sum(one.parameters for one in picks) <= share * whole
        }
        one_for_all = to_stdcf(network, *max(fits, key=fits.__getitem__))[0]
        found.append([reconstruction.errors(model, test).mean().item() for model in (network, one_for_all, each)])
    return np.array(found).T


@styled
def each_or_all(share: float = 0.65, seeds: Sequence[int] = tuple(reconstruction.SEEDS), clips: int = 200) -> Drawing:
    """Draw the test error of converted autoencoders, untrained since: one count of atoms for all layers, or one for each."""
    errors = _each_or_all(share, tuple(seeds), clips)
    figure, axes = new_figure(width=7, height=3.6)
    axes.plot([1, 2], errors[1:], "-", color="0.75", linewidth=1)
    for column, (values, color, marker) in enumerate(zip(errors, (FULL, NEUTRAL, JOINT), "DXo", strict=True)):
        axes.plot([column] * len(values), values, marker, color=color, markersize=7)
    axes.set(xlim=(-0.5, 2.5), ylim=(0, None), ylabel="test error, TR-MNIST")
    axes.set_xticks(range(3), ["before", "one M and N for all layers", "counts for each layer"])
    better = int((errors[2] < errors[1]).sum())
    axes.set_title(f"{share:.0%} of the parameters: counts for each layer are better in {better} of {len(seeds)} networks")
    return Drawing(figure, dict(zip(("before", "all", "each"), errors, strict=True)))


@styled
def times(found: Mapping[str, Seconds]) -> Drawing:
    """Draw how long each form of some layers takes of a pass, in milliseconds."""
    values = 1000 * np.array(list(found.values()))
    rows = np.arange(len(found))
    figure, axes = new_figure(width=7.5, height=1.2 + 0.5 * len(rows))
    forms = {"as it was": FULL, "filters rebuilt": shade(JOINT, 0.5), "by atoms": JOINT}
    for k, (form, color) in enumerate(forms.items()):
        axes.barh(rows + 0.26 * (k - 1), values[:, k], height=0.24, color=color, label=form, zorder=3)
    axes.set(xlabel="milliseconds of a pass", yticks=rows, yticklabels=[name or "whole network" for name in found])
    axes.invert_yaxis()
    axes.legend()
    axes.set_title("Each form of each layer, on the device at hand")
    return Drawing(figure, {"milliseconds": values})


@styled
def race(networks: Sequence[str] = tuple(filters.NETWORKS)) -> Drawing:
    """Draw what joint filters keep of trained ones, for every M and N, and the rank-1 family, against parameters.

    All layers of a network together. Between two numbers of middle channels the family's line is straight.
    """
    figure, panels = new_figure(1, len(networks), width=2.6 * len(networks), height=3.9, sharey=True, squeeze=False)
    arrays: dict[str, np.ndarray] = {}
    grid = np.linspace(0, 1.15, 70)
    for axes, name in zip(panels[0], networks, strict=True):
        found = list(filters.measured(name).values())
        full = sum(np.prod(layer["shape"]) for layer in found)
        family = [filters.in_all(found, lambda layer, x=x: filters.family_at(layer, x * np.prod(layer["shape"]))) for x in grid]
        axes.plot(grid, family, "--", color=SEPARABLE, label="rank-1 family, nearest member")
        arrays[f"{name}, family"] = np.array(family)
        most = [max(layer["shape"][axis] for layer in found) for axis in (3, 4, 2)]
        table = np.array([
            [_joint(found, full, m, n) for n in range(1, most[2] + 1)] for m in range(1, most[0] * most[1] + 1)
        ])  # fmt: skip
        for n in range(table.shape[1]):
            shown = table[:, n]
            label = "joint, N rhythms as marked, M = 1, 2, … pictures" if n == 0 else None
            axes.plot(*shown.T, "-", color=shade(JOINT, 0.55 - 0.55 * n / (table.shape[1] - 1)), label=label)
            at_top = shown[-1, 1] > 0.98  # where the lines meet
            offset, align = ((0, 3), {"ha": "center", "va": "bottom"}) if at_top else ((3, -1), {"ha": "left", "va": "top"})
            axes.annotate(f"N={n + 1}", shown[-1], offset, textcoords="offset points", color=shade(JOINT, -0.3), **align)
        arrays[f"{name}, joint"] = table
        axes.set(xlim=(0, 1.35), ylim=(0, 1.12), xticks=(0, 0.5, 1), title=filters.NETWORKS[name].title)
    panels[0, 0].set_ylabel("share of ‖W‖² kept")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=2, loc="outside lower center")
    panels[0, len(networks) // 2].set_xlabel("parameters, as a share of those of the full filters")
    figure.suptitle("At equal parameters neither family of filters is ahead everywhere")
    return Drawing(figure, {"parameters": grid, **arrays})


def _joint(found: list[dict[str, Any]], full: int, m: int, n: int) -> tuple[float, float]:
    """Parameters, as a share of those of the full filters, and the share kept."""
    fits = {id(layer): (min(m, len(layer["joint"])), min(n, len(layer["joint"][0]))) for layer in found}
    cost = sum(filters.joint_parameters(layer["shape"], *fits[id(layer)]) for layer in found) / full
    kept = filters.in_all(found, lambda layer: layer["joint"][fits[id(layer)][0] - 1][fits[id(layer)][1] - 1])
    return float(cost), kept


@styled
def along_axes(networks: Sequence[str] = tuple(filters.NETWORKS)) -> Drawing:
    """Draw what the best two atoms keep along each axis alone, for the layers of 3×3×3."""
    cubes = {name: [one for one in filters.measured(name).values() if one["shape"][2:] == [3, 3, 3]] for name in networks}
    kept = np.array([
        [filters.in_all(found, lambda layer, axis=axis: layer["along"][axis][1]) for axis in range(3)]
        for found in cubes.values()
    ])  # fmt: skip
    figure, axes = new_figure(width=8, height=3.6)
    for axis, (label, color, hatch) in enumerate(
        (("first axis", PHI, "//"), ("second", PSI, ""), ("third", shade(PSI, 0.5), ""))
    ):
        axes.bar(
            np.arange(len(kept)) + 0.27 * (axis - 1), kept[:, axis], width=0.25, color=color, hatch=hatch, label=label, zorder=3
        )
    axes.axhline(2 / 3, color=NEUTRAL, linestyle=":")
    axes.text(-0.95, 2 / 3 + 0.01, "random\nfilters", size="small")
    titles = [f"{filters.NETWORKS[name].title}\n(first axis: {filters.NETWORKS[name].first_axis})" for name in networks]
    axes.set(
        xlim=(-1, len(kept) - 0.5), ylim=(0, 1.05), ylabel="share of ‖W‖² kept", xticks=range(len(kept)), xticklabels=titles
    )
    axes.tick_params(axis="x", labelsize="small")
    figure.legend(ncols=3, loc="outside lower center")
    axes.set_title("Layers of 3×3×3: two of three atoms along one axis, all of them along the others")
    return Drawing(figure, {"kept": kept})


RECOVERED_TICKS = {"digits": (0.015, 0.02, 0.03, 0.05, 0.1, 0.2), "actions": (0.7, 0.8, 0.9, 1)}


@styled
def recovered(tasks: Sequence[str] = tuple(recovery.TASKS)) -> Drawing:
    """Draw how well trained networks do before conversion, after it, and recovered in each way: a marker a seed, and beside
    them the mean and its 95% interval, of errors those of their logarithm."""
    words = {"before": "before"} | recovery.WAYS
    styles = {"before": ("D", FULL), "converted": ("X", NEUTRAL), "scratch": ("^", NEUTRAL)}
    figure, panels = new_figure(1, len(tasks), width=5.4 * len(tasks), height=4.1, squeeze=False)
    arrays = {}
    for axes, name in zip(panels[0], tasks, strict=True):
        task = recovery.TASKS[name]
        to, back = (np.log, np.exp) if task.best is min else (np.positive, np.positive)
        found = {way: np.array(recovery.scores(name, way)) for way in words}
        for column, (way, values) in enumerate(found.items()):
            marker, color = styles.get(way, ("o", JOINT))
            axes.plot(column - 0.22 + np.linspace(0, 0.2, len(values)), values, marker, color=color, markersize=7)
            mean, low, high = back(difference(to(values).tolist(), [0.0] * len(values), paired=True))
            axes.plot([column + 0.22] * 2, [low, high], "-", color=color, linewidth=2)
            axes.plot(column + 0.22, mean, "_", color=color, markersize=9, markeredgewidth=2)
            arrays |= {f"{name}, {way}": values, f"{name}, {way}, mean and interval": np.array([mean, low, high])}
        if task.best is min:
            axes.set_yscale("log")
        ticks = RECOVERED_TICKS[name]
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_yticks([], minor=True)
        axes.set(xlim=(-0.5, len(words) - 0.5), ylabel=f"{task.measure}, {task.title}")
        axes.set_xticks(range(len(words)), [word.replace(" ", "\n", 2) for word in words.values()], size="small")
        before, converted, distilled = (found[way] for way in ("before", "converted", "distilled"))
        share = (converted - distilled) / (converted - before)
        axes.set_title(f"{task.title}: distillation takes back {share.min():.0%} to {share.max():.0%} of the loss")
    title = "in each of the networks two passes over the clips bring back most of what was lost"
    figure.suptitle(f"With {recovery.SHARE:.0%} of the parameters: {title}\n(a marker a seed; bars: mean and 95% interval)")
    return Drawing(figure, arrays)
