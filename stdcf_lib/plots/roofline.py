"""Figures of notebook 02: what the forms of a layer take, by multiplications, by the machine's roofline and by the clock."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from stdcf_lib import roofline
from stdcf_lib.plots.style import (
    BLACK,
    FULL,
    NEUTRAL,
    Arrays,
    Drawing,
    Made,
    Plot,
    family_color,
    new_figure,
    shade,
    styled,
)
from stdcf_lib.runs import machine

_measured = cache(roofline.measured)  # so that the same values give the same picture
STEPS = 3  # that a form has at most
_HATCH = "////"


@Plot
def forms_race() -> Made:
    """Draw the multiplications of each form of a 3×3×3 layer, and the time that it takes: at best, and here.

    At best is the roofline of this machine, whose rates are measured once; hatched is what waits for the memory.

    channels, size, spatial_atoms, temporal_atoms: see `stdcf_lib.roofline.steps`, for one clip.
    measure: whether to run the forms as well.
    """
    figure, (counts, times) = new_figure(1, 2, width=9.6, height=3.6, sharey=True)
    rows = range(len(roofline.FORMS))
    colors = [FULL if form == "Conv3d" else family_color(form) for form in roofline.FORMS]
    multiplied = counts.barh(rows, 1, color=colors, height=0.6, zorder=3, animated=True)
    labels = counts.bar_label(multiplied, ["0.00"] * len(rows), padding=4, animated=True)
    parts = [
        times.barh(rows, 1, height=0.6, color=[shade(color, 0.3 * k) for color in colors], zorder=3, animated=True)
        for k in range(STEPS)
    ]
    for bars in parts:
        for bar in bars:
            bar.set(edgecolor="white", linewidth=1)
    (clock,) = times.plot([], [], "D", color=NEUTRAL, markeredgecolor=BLACK, markersize=8, zorder=4, animated=True)
    counts.set(yticks=rows, yticklabels=roofline.FORMS, xlabel="multiplications (Conv3d: 1)", title="counted", xlim=(0, 1.25))
    counts.invert_yaxis()
    here = machine()
    times.set_xlabel(f"time (ms) on {here['device']}, {here['threads']} thread{'s' * (here['threads'] > 1)}")
    times.set_title("bars: at best; hatched: memory decides; diamonds: measured", fontsize="small")
    for axes in (counts, times):
        axes.xaxis.set_animated(True)
        axes.locator_params(axis="x", nbins=4)
    title = figure.suptitle("$M$", animated=True)

    def show(
        channels: int = 64, size: int = 28, spatial_atoms: int = 5, temporal_atoms: int = 3, measure: bool = False
    ) -> Arrays:
        rates, layer = roofline.rates(), (channels, size, spatial_atoms, temporal_atoms)
        every = [roofline.steps(form, *layer) for form in roofline.FORMS]
        macs = np.array([sum(step.macs for step in steps) for steps in every], float)
        for bar, label, share in zip(multiplied, labels, macs / macs[0], strict=True):
            bar.set_width(share)
            label.xy = (share, label.xy[1])
            label.set_text(f"{share:.2f}")
        counts.set_xlim(0, 1.25 * max(macs / macs[0]))
        best = np.array([1e3 * roofline.bound(steps, rates) for steps in every])
        for row, steps in enumerate(every):
            left = 0.0
            for k, bars in enumerate(parts):
                width = 1e3 * steps[k].seconds(rates) if k < len(steps) else 0.0
                bars[row].set(x=left, width=width, hatch=_HATCH if k < len(steps) and steps[k].waits(rates) else "")
                left += width
        found = np.array([1e3 * _measured(form, *layer) if measure else np.nan for form in roofline.FORMS])
        clock.set_data(found, rows)
        times.set_xlim(0, 1.08 * max(best.max(), np.nanmax(found) if measure else 0.0))
        fewest = roofline.FORMS[int(macs.argmin())]
        said = f"the quickest here is {roofline.FORMS[int(found.argmin())]}" if measure else "which is the quickest?"
        title.set_text(
            f"{channels} channels, 8×{size}², M={spatial_atoms}, N={temporal_atoms}: {fewest} multiplies least; {said}"
        )
        return {"macs": macs, "at best, ms": best, "measured, ms": found}

    return figure, show


# What `benchmarks.layers` calls the layers that are shown: their name in the figure, their marker, and how pale it is.
_SHOWN = {
    "STDCF N=3, filters": ("STDCF, filters", "s", 0.7),
    "STDCF N=3, atoms": ("STDCF in tiles, N=3", "D", 0.35),
    "STDCF N=2, atoms": ("STDCF in tiles, N=2", "o", 0.0),
    "rank-1": ("rank-1", "^", 0.0),
    "Conv2Plus1D": ("Conv2Plus1D", "x", 0.0),
}
# The same for `experiments.layers`, which a GPU is measured by.
_ON_GPU = {
    "STDCF N=2, filters": ("STDCF, filters", "s", 0.7),
    "STDCF N=2, Triton, staged": ("STDCF, staged", "o", 0.0),
    "STDCF N=2, Triton, fused": ("STDCF, fused", "D", 0.35),
    "STDCF N=2, public operators": ("STDCF, torch's operators", "v", 0.35),
    "STDCF N=2, atoms": ("STDCF, three layers", "P", 0.0),
    "rank-1": ("rank-1", "^", 0.0),
    "Conv2Plus1D": ("Conv2Plus1D", "x", 0.0),
}
_PASSES = "forward", "forward and backward"


@styled
def measured_layers(record: dict[str, Any], threads: int = 2) -> Drawing:
    """Draw what layers take beside the faster layout of `nn.Conv3d`, as `python -m benchmarks.layers` has recorded it.

    Args:
        record: what that keeps under "Layers".
        threads: 1 or 2.
    """
    ending, found = f", {threads} threads", {}
    for title, row in record.items():
        if title.endswith(ending) and {*_SHOWN} & {*(ms := row["ms"])}:
            name = f"{title.removesuffix(ending)} ({'{ins}→{outs}, {size}²'.format(**row['case'])})"
            base = {what: min(ms["Conv3d"][what], ms["Conv3d, last"][what]) for what in ("forward, ms", "both, ms")}
            found[name] = {layer: tuple(times[what] / base[what] for what in base) for layer, times in ms.items()}
    times = [time for layers in found.values() for layer in _SHOWN for time in layers.get(layer, ())]
    limits = 0.85 * min(times), max(times) / 0.85
    ticks = [tick for tick in (0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 8, 12, 20) if limits[0] < tick < limits[1]]
    figure, arrays = _beside_conv3d(found, _SHOWN, ticks, limits, height=1.9 + 0.21 * len(found), columns=len(_SHOWN))
    quicker = [int(np.nansum(arrays[f"STDCF in tiles, N=2, {title}"] < 1)) for title in _PASSES]
    figure.suptitle(
        f"In tiles with N=2, {quicker[0]} of {len(found)} layers are quicker than Conv3d forward, and {quicker[1]} both ways\n"
        f"({record['machine']['device']}, {threads} thread{'s' * (threads > 1)}, PyTorch {record['machine']['torch']})"
    )
    return Drawing(figure, arrays)


@styled
def layers_on_gpu(record: dict[str, Any]) -> Drawing:
    """Draw what layers take on a GPU beside `nn.Conv3d`, as `make gpu` has recorded it (`experiments.steps`)."""
    found: dict[str, dict[str, tuple[float, ...]]] = {}
    base = {row["channels"]: row for row in record["layers"] if row["layer"] == "Conv3d"}
    for row in record["layers"]:
        times = ((row[what], base[row["channels"]][what]) for what in ("forward_ms", "both_ms"))
        of_size = found.setdefault(f"{row['channels']} channels, {row['size']}²", {})
        of_size[row["layer"]] = tuple(np.nan if time is None else time / least for time, least in times)
    figure, arrays = _beside_conv3d(found, _ON_GPU, (0.5, 1, 2, 5, 10, 20, 50, 100), (0.35, 120), height=3.2, columns=4)
    filters, three = arrays["STDCF, filters, forward"], arrays["STDCF, three layers, forward"]
    machine, clips, precision = record["machine"], record["layers"][0]["clips"], record["precision"]
    figure.suptitle(
        f"Rebuilt filters take {filters.min():.2f} to {filters.max():.2f} of Conv3d's time forward, the three layers of Eq. 2 "
        f"at least {three.min():.0f} times it\n(M=5, N=2, {clips} clips of 8 frames, {precision}, {machine['device']}, "
        f"PyTorch {machine['torch']})"
    )
    return Drawing(figure, arrays)


def _beside_conv3d(
    found: dict[str, dict[str, tuple[float, ...]]],
    shown: dict[str, tuple[str, str, float]],
    ticks: Sequence[float],
    limits: tuple[float, float],
    height: float,
    columns: int,
) -> tuple[Figure, Arrays]:
    """A row for each that is `found`: by the name of a layer what it takes forward, and both ways, as multiples of Conv3d."""
    figure, panels = new_figure(1, 2, width=9.6, height=height, sharey=True)
    arrays: Arrays = {}
    for number, (axes, title) in enumerate(zip(panels, _PASSES, strict=True)):
        for name, (label, marker, pale) in shown.items():
            if any(name in row for row in found.values()):
                ratios = [row[name][number] if name in row else np.nan for row in found.values()]
                look = {"color": shade(family_color(label), pale), "markersize": 6, "markeredgewidth": 1.5, "zorder": 3}
                axes.plot(ratios, range(len(ratios)), marker, label=label, **look)
                arrays[f"{label}, {title}"] = np.array(ratios)
        axes.axvline(1, color=FULL, linewidth=1.5, zorder=2)
        axes.set(xscale="log", xlabel="time (Conv3d: 1)", title=title, xlim=limits)
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    panels[0].set(yticks=range(len(found)), yticklabels=found)
    panels[0].margins(y=0.4 / len(found))
    panels[0].invert_yaxis()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=columns)
    return figure, arrays
