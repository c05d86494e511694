"""Figure of notebook 02: what the forms of a layer take, by multiplications, by the machine's roofline and by the clock."""

from functools import cache

import numpy as np

from stdcf_lib import roofline
from stdcf_lib.plots.style import BLACK, FULL, NEUTRAL, Arrays, Made, Plot, family_color, new_figure, shade
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
    times.xaxis.get_major_locator().set_params(nbins=5)
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
