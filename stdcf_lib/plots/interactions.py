"""Figures of the experiment on real clips (UT-Interaction), in notebooks 05 and 06."""

from collections.abc import Sequence

import numpy as np

from stdcf_lib.data.interactions import INTERACTIONS
from stdcf_lib.experiments.compare import difference
from stdcf_lib.experiments.interactions import CONTESTANTS, SEEDS, TEMPI, TITLES, box_accuracy, by_recording, kept_answers
from stdcf_lib.models.kinds import KINDS
from stdcf_lib.plots.itsl import PLAN_COLORS, PLAN_MARKERS
from stdcf_lib.plots.style import BLACK, NEUTRAL, Drawing, new_figure, styled
from stdcf_lib.plots.tempo import COLORS, MARKERS


@styled
def real_tempo(seeds: Sequence[int] = SEEDS) -> Drawing:
    """Draw the accuracy on real clips at full, half and a quarter of their speed, as trained and dilated, for each family."""
    figure, axes = new_figure(width=7.6, height=4.2)
    arrays = {}
    for shift, kind in zip((0.95, 1.0, 1.05), KINDS, strict=True):
        for way, dash, face in (("", ":", "none"), (", dilated", "-", COLORS[kind])):
            names = [f"{slower}{way if slower > 1 else ''}" for slower in TEMPI]
            values = np.array([[_accuracy(kept_answers(kind, seed), name) for name in names] for seed in seeds])
            x, style = shift * np.array(TEMPI), {"color": COLORS[kind], "marker": MARKERS[kind], "markerfacecolor": face}
            axes.vlines(x, values.min(0), values.max(0), color=COLORS[kind], linewidth=1)
            axes.plot(x, values.mean(0), linestyle=dash, label=f"{TITLES[kind]}, {way[2:] or 'as trained'}", **style)
            arrays[f"{kind}{way or ', as trained'}"] = values
    still = float(np.mean(by_recording("one-frame")))
    floors = {"the box and the length alone": box_accuracy(), "one frame alone": still, "chance": 1 / len(INTERACTIONS)}
    for (name, floor), dash in zip(floors.items(), ("--", "-.", ":"), strict=True):
        axes.axhline(floor, color=NEUTRAL, linewidth=1, linestyle=dash, label=name)
        arrays[name] = np.array(floor)
    axes.set(xscale="log", xticks=TEMPI, xticklabels=["1\nas filmed", "2\nhalf speed", "4\na quarter"], ylim=(0, 1))
    axes.set_xticks([], minor=True)
    axes.set(xlabel="tempo τ", ylabel="accuracy on recordings left out")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), title=f"mean and range, {len(seeds)} seeds")
    figure.suptitle("On real clips too, dilation brings back what slow motion costs, for every family")
    return Drawing(figure, arrays)


def _accuracy(answers: dict[str, np.ndarray], way: str) -> float:
    return float((answers[way].argmax(1) == answers["label"]).mean())


@styled
def real_plans(
    names: Sequence[str] = ("itsl-resample", "itsl", "unfrozen-restored", "direct-updates", "direct-seconds"),
) -> Drawing:
    """Draw how far each plan is from full-size training at the same compute, on real clips: accuracy and log-likelihood."""
    figure, panels = new_figure(1, 2, width=10.0, height=1.2 + 0.45 * len(names), sharey=True)
    titles = {"accuracy": "accuracy (right of 0: better)", "nll": "negative log-likelihood (left of 0: better)"}
    arrays = {}
    for axes, (what, title) in zip(panels, titles.items(), strict=True):
        axes.axvline(0, color=BLACK, linewidth=1)
        for row, name in enumerate(names):
            found = difference(by_recording(name, what), by_recording("stdcf", what), paired=True)
            axes.hlines(row, found.low, found.high, color=PLAN_COLORS[name], linewidth=2)
            axes.plot(found.mean, row, PLAN_MARKERS[name], color=PLAN_COLORS[name], markersize=8)
            arrays[f"{name}, {what}"] = np.array(found)
        axes.set_xlabel(f"difference in {title}")
        axes.xaxis.get_major_locator().set_params(nbins=5)
    panels[0].set(yticks=range(len(names)), yticklabels=[CONTESTANTS[name].plan.title for name in names])
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    surer = [CONTESTANTS[name].plan.title for name in names if arrays[f"{name}, nll"][2] < 0]
    figure.suptitle(
        f"On real clips surer than full-size training of the same compute: {'; '.join(surer) or 'none'}\n"
        "(mean difference and 95% interval over ten recordings)"
    )
    return Drawing(figure, arrays)
