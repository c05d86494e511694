"""Figures of notebook 06: what the stages of ITSL cost, show and freeze, and what they achieve."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from matplotlib.collections import PolyCollection
from matplotlib.patches import Rectangle

from stdcf_lib.conv import STDCFConv3d
from stdcf_lib.data.turning import ROTATIONS, TurningDigits
from stdcf_lib.experiments.steps import records
from stdcf_lib.experiments.turning import (
    BUDGET,
    CARE_RATES,
    CHOSEN,
    LEADING,
    PLANS,
    RANKED,
    SEEDS,
    TIMES,
    TUNED,
    care_scores,
    final,
    kept,
    minutes,
    network,
)
from stdcf_lib.itsl import AtomSwap, Stage, schedule, view
from stdcf_lib.itsl.log import logged
from stdcf_lib.measure import Cost, cost
from stdcf_lib.models import stdcf_r50
from stdcf_lib.plots.style import (
    ALPHA,
    BLACK,
    FULL,
    JOINT,
    NEUTRAL,
    PHI,
    PSI,
    SEPARABLE,
    SKY_BLUE,
    YELLOW,
    Arrays,
    Drawing,
    Made,
    Plot,
    Scene,
    new_figure,
    shade,
    show_frame,
    show_signed,
    styled,
)

GIB = 2**30
# A stage has the colour of the atoms that it trains: stage-t, with ψ frozen, that of φ.
KIND_COLORS = {"spatial": PHI, "temporal": PSI, None: NEUTRAL}
STAGE_COLORS = {"full": NEUTRAL, "stage-t": PHI, "stage-s": PSI}
# Shades of STDCF's blue for ITSL, grey for full size, light blue without freezing, and what alone is left to train elsewhere:
# φ in stage-t, ψ in stage-s, α with atoms that never train.
_LOOKS = {
    "itsl-resample": (JOINT, "o"), "itsl": (shade(JOINT, 0.45), "s"), "itsl-dilate": (shade(JOINT, -0.5), "^"),
    "direct": (NEUTRAL, "D"), "direct-updates": (NEUTRAL, "*"), "direct-large": (NEUTRAL, "s"), "direct-memory": (NEUTRAL, "v"),
    "direct-seconds": (NEUTRAL, "^"), "multigrid": (shade(YELLOW, -0.4), "P"),
    "unfrozen": (SKY_BLUE, "s"), "unfrozen-resample": (shade(SKY_BLUE, -0.5), "v"), "unfrozen-restored": (SKY_BLUE, "D"),
    "atoms-never-train": (ALPHA, "X"), "t-only": (PHI, "<"), "s-only": (PSI, ">"),
}  # fmt: skip
PLAN_COLORS = {name: color for name, (color, _) in _LOOKS.items()}
PLAN_MARKERS = {name: marker for name, (_, marker) in _LOOKS.items()}

# Appendix D, Tables D and E: top-1 and top-5 accuracy in percent after each stage, in order; the last is called "STDCF-R50".
PUBLISHED = {
    "Kinetics-400": {
        "t-1": (68.2, 88.4), "s-1": (70.8, 89.1), "t-2": (72.0, 89.7), "s-2": (73.1, 90.2), "t-3": (73.6, 90.3),
        "s-3": (74.0, 90.6), "STDCF-R50": (74.5, 91.2),
    },
    "Something-Something V1": {
        "t-1": (42.3, 71.8), "s-1": (44.1, 73.6), "t-2": (44.8, 74.3), "s-2": (45.1, 74.7), "STDCF-R50": (45.9, 75.2),
    },
}  # fmt: skip


def r50_cost(frames: int, size: int, spatial_atoms: int = 5, temporal_atoms: int = 3, batch: int = 1) -> Cost:
    """What a training pass of STDCF-R50 costs, counted without a single multiplication.

    Nothing in this network shrinks time and it halves space five times, so its cost is a sum of `_terms`, with whole numbers
    that ten counts of small inputs give: any other costs no time.
    """
    return Cost(*(np.array(_terms(frames, size, spatial_atoms, temporal_atoms, batch)) @ _weights()).tolist())


def _terms(frames: int, size: int, spatial_atoms: int, temporal_atoms: int, batch: int) -> list[int]:
    """For the weights; for a clip, whatever its size; for a voxel of the maps after each halving of space."""
    sides = [-(-size // 2**k) for k in range(1, 6)]
    for_atoms = [1, spatial_atoms, temporal_atoms, spatial_atoms * temporal_atoms]
    return [*for_atoms, batch, *(batch * frames * side**2 for side in sides)]


@cache
def _weights() -> np.ndarray:
    settings = [(2, size, 1, 1, 1) for size in (2, 4, 8, 16, 32)]
    settings += [(2, 2, 2, 1, 1), (2, 2, 1, 2, 1), (2, 2, 2, 2, 1), (2, 2, 1, 1, 2), (4, 2, 1, 1, 1)]
    counted = []
    for frames, size, spatial_atoms, temporal_atoms, batch in settings:
        with torch.device("meta"):
            model = stdcf_r50(spatial_atoms=spatial_atoms, temporal_atoms=temporal_atoms)
        counted.append(cost(model.train(), (batch, 3, frames, size, size)))
    return np.rint(np.linalg.solve([_terms(*setting) for setting in settings], counted)).astype(np.int64)


@Plot
def needs() -> Made:
    """Draw what a batch keeps for the backward pass, and the multiplications of a clip, at full size and in the two stages."""
    figure, panels = new_figure(1, 2, width=8.4, height=3.6, sharey=True)
    names = ("stored (GiB)", "compute (GMAC)")
    every = []
    for axes, name in zip(panels, names, strict=True):
        bars = axes.barh(range(3), 1, color=list(STAGE_COLORS.values()), height=0.6, zorder=3, animated=True)
        every.append((bars, axes.bar_label(bars, ["1", "1", "1"], padding=4, animated=True)))
        axes.set(xlabel=name, yticks=range(3), yticklabels=["stage-s\n64×224²"] * 3)
        axes.xaxis.set_animated(True)
        axes.locator_params(axis="x", nbins=3)
    panels[0].yaxis.set_animated(True)
    panels[0].invert_yaxis()
    panels[0].set_title("what a batch keeps for the backward pass, float32")
    panels[1].set_title("multiplications of a clip's forward pass")
    title = figure.suptitle("$M$", animated=True)

    def show(
        frames: int = 16,
        size: int = 224,
        reduction: int = 4,
        spatial_atoms: int = 5,
        temporal_atoms: int = 3,
        batch: int = 8,
    ) -> Arrays:
        t, s, full = schedule(1, frames, size, reduction)
        found = [r50_cost(stage.frames, stage.size, spatial_atoms, temporal_atoms, batch) for stage in (full, t, s)]
        values = [[one.stored_bytes / GIB for one in found], [one.macs / batch / 1e9 for one in found]]
        arrays = {name: np.array(value) for name, value in zip(names, values, strict=True)}
        for axes, (bars, labels), value in zip(panels, every, arrays.values(), strict=True):
            for bar, label, width in zip(bars, labels, value, strict=True):
                bar.set_width(width)
                label.xy = (width, label.xy[1])
                label.set_text(f"{width:.3g}  ({width / value[0]:.0%})")
            axes.set_xlim(0, 1.4 * value.max())
        labels = (("full", full), ("stage-t", t), ("stage-s", s))
        panels[0].set_yticklabels([f"{name}\n{stage.frames}×{stage.size}²" for name, stage in labels])
        # Filters are rebuilt before use, so M and N change neither of the two.
        parameters = found[0].parameters
        said = f"{parameters / 1e6:.2f} million parameters, batches of {batch}"
        title.set_text(f"STDCF-R50, $M={spatial_atoms}$, $N={temporal_atoms}$: {said}")
        return arrays | {"parameters": np.array(parameters)}

    return figure, show


@styled
def largest_clips(memories: Sequence[int] = (16, 24, 80), batch: int = 8, size: int = 224) -> Drawing:
    """Draw the longest clips, a batch of them, that fit into a GPU's memory at full size and in the two stages."""
    t, s, full = schedule(1, 8, size)
    state = 3 * 4 * r50_cost(8, size).parameters  # weights, gradients, momentum
    figure, axes = new_figure(width=7.2, height=3.6)
    arrays = {}
    for shift, (name, stage) in enumerate((("full", full), ("stage-t", t), ("stage-s", s))):
        # Nothing in this network shrinks time, so what is kept grows in proportion to the frames.
        four, eight = (r50_cost(k * stage.frames, stage.size, batch=batch).stored_bytes for k in (1, 2))
        longest = [int((m * 1e9 - state - (2 * four - eight)) / (eight - four) * 8) for m in memories]
        place = np.arange(len(memories)) + 0.27 * (shift - 1)
        hatch = "//" if name == "stage-s" else ""  # in grey, its colour is that of full size
        bars = axes.bar(place, longest, width=0.25, color=STAGE_COLORS[name], hatch=hatch, label=name, zorder=3)
        axes.bar_label(bars, padding=2)
        arrays[name] = np.array(longest)
    axes.set(xticks=range(len(memories)), xticklabels=[f"{m} GB" for m in memories], xlabel="memory of the GPU")
    times = min(arrays["stage-t"] / arrays["full"])
    axes.set(
        ylabel=f"longest clip, frames of {size}²",
        title=f"A stage fits clips {times:.0f} times as long ({batch} at a time, float32)",
    )
    axes.legend()
    return Drawing(figure, arrays)


def stages(iterations: int = 2, frames: int = 8, size: int = 224, reduction: int = 4) -> Drawing:
    """Draw the clips that each stage shows, as wide as they are long and as high as they are large, and what it freezes."""
    return stages_scene(2 * iterations + 1)(iterations, frames, size, reduction)


@styled
def stages_scene(count: int) -> Scene[[int, int, int, int]]:
    """The figure of `stages` for that many stages."""
    figure, axes = new_figure(width=1.5 * count + 0.5, height=3.1)
    clips = [PolyCollection([], alpha=0.8, animated=True) for _ in range(count)]
    for clip in clips:
        axes.add_collection(clip)
    texts = [axes.text(1.4 * i, -0.08, "1\n2\n3\n4", va="top", animated=True) for i in range(count)]
    axes.set(xlim=(-0.1, 1.4 * count), ylim=(-0.9, 1.1), xticks=[], yticks=[])
    axes.set_title("Space and time by turns: each bar is a frame, as high as its side")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    labels = {"spatial": "φ trains,\nψ rests", "temporal": "ψ trains,\nφ rests", None: "all trains"}

    def show(iterations: int, frames: int, size: int, reduction: int) -> Arrays:
        planned = schedule(iterations, frames, size, reduction)
        for i, (stage, clip, text) in enumerate(zip(planned, clips, texts, strict=True)):
            width, height = 1.1 / frames, stage.size / size
            left = 1.4 * i + width * np.arange(stage.frames)
            right = left + 0.8 * width
            low, high = np.zeros_like(left), np.full_like(left, height)
            clip.set_verts(list(np.stack([left, low, right, low, right, high, left, high], 1).reshape(-1, 4, 2)))
            clip.set_facecolor(KIND_COLORS[stage.frozen])
            text.set_color(shade(KIND_COLORS[stage.frozen], -0.25))
            text.set_text(f"{stage.name}\n{stage.frames}×{stage.size}²\n{labels[stage.frozen]}")
        return {"frames": np.array([s.frames for s in planned]), "size": np.array([s.size for s in planned])}

    return Scene(figure, show)


def turning(clips: Sequence[int] = (0, 1, 2), seed: int = 0) -> Drawing:
    """Draw a few turning digits as full clips, and as the two stages show them."""
    return turning_scene(len(clips))(clips, seed)


@styled
def turning_scene(count: int) -> Scene[[Sequence[int], int]]:
    """The figure of `turning` for that many clips."""
    figure, panels = new_figure(3 * count, 1, width=9.6, height=1.0 * 3 * count * 0.75, squeeze=False)
    t, s, full = schedule(1, 16, 28)
    shown = ("full", full), ("stage-t", t), ("stage-s", s)
    figure.suptitle("Stage-t keeps all frames, and blurs them; stage-s keeps the pixels, and loses which way it turns")
    images, titles = [], []
    for row, axes in enumerate(panels[:, 0]):
        name, stage = shown[row % 3]
        images.append(show_frame(axes, np.zeros((stage.size, 16 * stage.size))))
        images[-1].set_animated(True)
        axes.spines[:].set_animated(True)
        axes.set_ylabel(name, rotation=0, ha="right", va="center")
        if name == "full":
            titles.append(axes.set_title("a digit", loc="left", animated=True))

    def show(clips: Sequence[int], seed: int) -> Arrays:
        data = _turning_digits(-(-(max(clips) + 1) // 32) * 32, seed)
        arrays, rows = {}, iter(images)
        for clip, title in zip(clips, titles, strict=True):
            x, label = data[clip]
            title.set_text(f"a {label // 4} that turns by {ROTATIONS[label % 4]:+d}° a frame".replace("-", "−"))
            for name, stage in shown:
                seen = view(x[None], stage)[0, 0]
                frames = torch.full((16, stage.size, stage.size), 0.35)  # gray where a stage shows nothing
                frames[:: 16 // stage.frames] = seen
                next(rows).set_data(np.concatenate(list(frames.numpy()), axis=1))
                arrays[f"{clip}, {name}"] = seen.numpy()
        return arrays

    return Scene(figure, show)


@cache
def _turning_digits(clips: int, seed: int) -> TurningDigits:
    return TurningDigits("test", clips, seed)


@styled
def swapped(atom: int = 1) -> Drawing:
    """Draw what each rule makes of the spatial atom at index `atom`, from stage-t's grid on the twice finer one of stage-s."""
    coarse, fine = Stage("t", 8, 14), Stage("s", 2, 28)
    figure, panels = new_figure(1, 4, width=9.6, height=2.9)
    arrays = {}
    titles = {
        "built": "14², as built",
        "keep": "28², keep:\nsees half as far",
        "dilate": "28², dilate:\nas far, with gaps",
        "resample": "28², resample:\nas far, without gaps",
    }
    limit = float(STDCFConv3d(1, 1, 3).psi[atom].detach().abs().max())
    for axes, rule in zip(panels, titles, strict=True):
        layer = STDCFConv3d(1, 1, 3, padding=1)
        if rule != "built":
            AtomSwap(layer, coarse, rule).to(fine)
        psi, d = layer.psi.detach()[atom], layer.dilation[1]
        spread = torch.zeros(d * (len(psi) - 1) + 1, d * (len(psi) - 1) + 1)
        spread[::d, ::d] = psi
        pixel = 2.0 if rule == "built" else 1.0  # in pixels of the fine grid
        reach = pixel * len(spread) / 2
        image = show_signed(axes, spread.numpy(), limit)
        image.set_extent((-reach, reach, -reach, reach))
        axes.add_patch(Rectangle((-3, -3), 6, 6, fill=False, edgecolor=PSI, linewidth=2))
        axes.set(xlim=(-3.3, 3.3), ylim=(-3.3, 3.3), title=titles[rule])
        arrays[rule] = spread.numpy()
    bar = figure.colorbar(panels[0].images[0], ax=panels, shrink=0.75, ticks=(-limit, 0, limit))
    bar.set_ticklabels(["−max", "0", "+max"])
    figure.suptitle(rf"A finer grid under the same scene: what becomes of $\psi_{{{atom + 1}}}$, which saw the framed piece")
    return Drawing(figure, arrays)


@styled
def care(names: Sequence[str] = TUNED) -> Drawing:
    """Draw what each plan scored at each rate, on the clips and the seed that chose the rates; a ring marks the choice."""
    figure, axes = new_figure(width=9.6, height=4.4)
    arrays = {}
    for name in names:
        scores = care_scores(name)
        style = {"color": PLAN_COLORS[name], "marker": PLAN_MARKERS[name], "markersize": 5}
        axes.plot(CARE_RATES, list(scores.values()), label=PLANS[name].title, linewidth=1, **style)
        axes.plot(CHOSEN[name], scores[CHOSEN[name]], "o", color="none", markeredgecolor=BLACK, markersize=11)
        arrays[name] = np.array(list(scores.values()))
    axes.set(xscale="log", xlabel="highest learning rate", ylabel="joint accuracy at full size", ylim=(0, 1))
    axes.set_title("The rate matters about as much as the plan, so each plan gets its own (ringed)")
    axes.set_xticks(CARE_RATES, [f"{rate:g}" for rate in CARE_RATES], minor=False)
    axes.set_xticks([], minor=True)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize="small")
    return Drawing(figure, arrays)


@styled
def temporal_atoms_left(names: Sequence[str] = ("itsl-resample", "unfrozen-resample", "unfrozen-restored")) -> Drawing:
    """Draw how different the temporal atoms of trained layers are: singular values over the largest, a dot for each layer."""
    figure, axes = new_figure(width=9.6, height=3.2)
    arrays = {}
    for shift, name in enumerate(names):
        spectra = []
        for seed in SEEDS[name]:
            weights = kept(name, seed).weights
            spectra += [torch.linalg.svdvals(phi.float()).numpy() for key, phi in weights.items() if key.endswith(".phi")]
        values = np.array(spectra) / np.array(spectra)[:, :1]
        arrays[name] = values
        place = np.arange(1, values.shape[1] + 1) + 0.25 * (shift - (len(names) - 1) / 2)
        scatter = np.linspace(-0.08, 0.08, len(values))
        for k, column in enumerate(values.T):
            label = None if k else PLANS[name].title
            style = {
                "color": PLAN_COLORS[name],
                "marker": PLAN_MARKERS[name],
                "markersize": 4,
                "alpha": 0.6,
                "linestyle": "none",
            }
            axes.plot(place[k] + scatter, column, label=label, **style)
        axes.hlines(np.median(values, 0), place - 0.11, place + 0.11, color=BLACK, linewidth=2)
    axes.set(xticks=range(1, 4), xlabel="singular value of φ", ylabel="share of the largest", ylim=(-0.03, 1.05))
    axes.set_title("Unless φ is frozen or restored, a single temporal atom is left (a line: the median)")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return Drawing(figure, arrays)


@styled
def curves(names: Sequence[str] = ("itsl-resample", "direct", "t-only"), part: str = "joint") -> Drawing:
    """Draw the accuracy *at full size* against compute and against minutes, the median and range over seeds.

    It is known at the end of each stage, and after each epoch of a stage at full size. A plan's minutes are those of an idle
    core (`turning.minutes`), shared out over its epochs as the seconds of the kept runs are.
    """
    figure, panels = new_figure(1, 2, width=9.6, height=4.2, sharey=True)
    arrays = {}
    for name in names:
        runs = [kept(name, seed).metrics for seed in SEEDS[name]]
        full = {stage.name for stage in PLANS[name].stages if (stage.frames, stage.size) == (16, 28)}
        chosen = [i for i, row in enumerate(runs[0]) if row["stage"] in full or f"full_{part}" in row]
        accuracy = np.array([[rows[i].get(f"full_{part}", rows[i][part]) for i in chosen] for rows in runs])
        seconds = np.median([[row["seconds"] for row in rows] for rows in runs], 0).cumsum()
        spent = {"compute": _compute(name, runs[0])[chosen], "minutes": (minutes()[name] * seconds / seconds[-1])[chosen]}
        style = {"color": PLAN_COLORS[name], "marker": PLAN_MARKERS[name], "markersize": 6}
        for axes, (measure, x) in zip(panels, spent.items(), strict=True):
            axes.fill_between(x, accuracy.min(0), accuracy.max(0), color=PLAN_COLORS[name], alpha=0.15, linewidth=0)
            axes.plot(x, np.median(accuracy, 0), label=PLANS[name].title, **style)
            arrays[f"{name}, {measure}"] = x
        middle = np.median(accuracy, 0)
        for i, x, y, step in zip(chosen, spent["compute"], middle, np.diff(middle, append=1), strict=True):
            if runs[0][i]["stage"] not in full:  # named on the side that the line leaves free
                place, text = ((7, 0), ("left", "bottom")) if step < 0 else ((0, -8), ("center", "top"))
                text = {"textcoords": "offset points", "ha": text[0], "va": text[1], "fontsize": "x-small"}
                panels[0].annotate(f"after {runs[0][i]['stage']}", (x, y), place, **text)
        arrays[name] = accuracy
    for axes, label in zip(panels, ("compute spent, in full-size epochs", "minutes of training, one idle core"), strict=True):
        axes.set(xlabel=label, xlim=(0, None), ylim=(0, 1))
    panels[0].set_ylabel(f"{part} accuracy at full size")
    panels[0].legend(loc="upper left")
    figure.suptitle("At full size, small clips with all frames lead all the way; alternating ends where full size does")
    return Drawing(figure, arrays)


def _compute(name: str, rows: list[dict]) -> np.ndarray:
    """Compute spent at the end of each epoch, in full-size epochs."""
    plan, spent, before = PLANS[name], [], 0.0
    for stage, share in zip(plan.timed(network()), plan.shares, strict=True):
        mine = [row for row in rows if row["stage"] == stage.name]
        done = [min(row["epoch"] / stage.epochs, 1.0) for row in mine]
        done[-1] = 1.0
        spent += [before + share * part for part in done]
        before += share
    return np.array(spent)


@styled
def outcome(names: Sequence[str] = RANKED) -> Drawing:
    """Draw the accuracy that each plan ends with at full size: of both, of the digit and of the motion; a marker a seed."""
    figure, panels = new_figure(1, 3, width=11.0, height=0.9 + 0.36 * len(names), sharey=True)
    arrays = {}
    for axes, part in zip(panels, ("joint", "digit", "motion"), strict=True):
        for row, name in enumerate(names):
            values = np.array(final(name, part))
            style = {"marker": PLAN_MARKERS[name], "color": PLAN_COLORS[name], "alpha": 0.7, "linestyle": "none"}
            axes.plot(values, np.full(len(values), row), **style)
            axes.vlines(values.mean(), row - 0.3, row + 0.3, color=PLAN_COLORS[name], linewidth=2)
            arrays[f"{name}, {part}"] = values
        axes.set(xlabel=f"{part} accuracy at full size", xlim=(0, 1))
    panels[0].set(yticks=range(len(names)), yticklabels=[PLANS[name].title for name in names])
    panels[0].invert_yaxis()
    best = max(names, key=lambda name: np.mean(final(name)))
    figure.suptitle(f"Highest in the mean: {PLANS[best].title} (a marker a seed, a bar for the mean)")
    return Drawing(figure, arrays)


@styled
def longer(names: Sequence[str] = LEADING) -> Drawing:
    """Draw the accuracy that plans end with, at their budget and at `TIMES` as much; a marker a seed, a line for the mean."""
    figure, axes = new_figure(width=7.2, height=3.8)
    arrays, budgets = {}, (BUDGET, TIMES * BUDGET)
    for k, name in enumerate(names):
        found = [np.array(final(one)) for one in (name, f"{name}-longer")]
        x = [budget * 1.03 ** (k - (len(names) - 1) / 2) for budget in budgets]  # side by side, on a logarithmic axis
        style = {"color": PLAN_COLORS[name], "marker": PLAN_MARKERS[name]}
        for at, values in zip(x, found, strict=True):
            axes.plot(np.full(len(values), at), values, linestyle="none", alpha=0.6, **style)
        axes.plot(x, [values.mean() for values in found], label=PLANS[name].title, **style, markersize=0)
        arrays |= {name: found[0], f"{name}, longer": found[1]}
    axes.set(xscale="log", xticks=budgets, xticklabels=[f"{budget:g}" for budget in budgets], xlim=(0.8 * BUDGET, 15))
    axes.minorticks_off()
    axes.set(xlabel="compute (full-size epochs)", ylabel="joint accuracy at full size")
    last = min(names, key=lambda name: arrays[f"{name}, longer"].mean())
    axes.set_title(f"With {TIMES} times the compute, {PLANS[last].title}, is left behind")
    axes.legend(title="a marker a seed")
    return Drawing(figure, arrays)


@styled
def carried_over(names: Sequence[str] = ("itsl", "itsl-dilate", "itsl-resample"), part: str = "joint") -> Drawing:
    """Draw the accuracy after each stage at its own size, and of the same network at full size, for each rule of the swap."""
    figure, panels = new_figure(1, len(names), width=3.6 * len(names), height=3.8, sharey=True, squeeze=False)
    arrays = {}
    for axes, name in zip(panels[0], names, strict=True):
        labels = [stage.name for stage in PLANS[name].stages]
        for key, title, style in ((part, "at its own size", "o:"), (f"full_{part}", "at full size", "s-")):
            values = np.array([[_last(kept(name, seed).metrics, stage)[key] for stage in labels] for seed in SEEDS[name]])
            color = NEUTRAL if key == part else JOINT
            axes.fill_between(range(len(labels)), values.min(0), values.max(0), color=color, alpha=0.12, linewidth=0)
            axes.plot(range(len(labels)), np.median(values, 0), style, color=color, label=title)
            arrays[f"{name}, {title}"] = values
        axes.set(xticks=range(len(labels)), xticklabels=labels, title=PLANS[name].title, xlabel="after stage")
    panels[0, 0].set(ylabel=f"{part} accuracy", ylim=(0, None))
    panels[0, 0].legend(title="the same network")
    figure.suptitle("After stage-t resampled atoms serve at full size; after stage-s little carries over")
    return Drawing(figure, arrays)


def _last(rows: list[dict], stage: str) -> dict[str, float]:
    return [row for row in rows if row["stage"] == stage][-1]


@styled
def published() -> Drawing:
    """Draw the accuracies that the paper publishes after each stage (its Tables D and E). Not ours."""
    figure, panels = new_figure(1, 2, width=9.6, height=3.6, width_ratios=[7, 5])
    arrays = {}
    for axes, (name, table) in zip(panels, PUBLISHED.items(), strict=True):
        values = np.array(list(table.values()))
        axes.plot(range(len(table)), values[:, 0], "o-", color=JOINT)
        for i, value in enumerate(values[:, 0]):
            axes.annotate(f"{value}", (i, value), (-3, 4), textcoords="offset points", ha="right", fontsize="small")
        axes.set(xticks=range(len(table)), xticklabels=table, title=f"{name}, as published", ylabel="top-1 accuracy (%)")
        axes.margins(0.12, 0.18)
        arrays[name] = values
    figure.suptitle("In the paper each stage ends higher than the one before")
    return Drawing(figure, arrays)


_FAMILY = {"full": ("full 3D", FULL), "rank1": ("rank-1", SEPARABLE), "stdcf": ("STDCF", JOINT)}


@styled
def steps(record: dict | None = None) -> Drawing:
    """Draw how many clips a second a device trained, by family and stage (`experiments.steps`); and how many fit at a time, or
    the memory that a step needed where one clip of full size was taken."""
    record = records()[0] if record is None else record
    rows = record["steps"]
    kinds, names = list(dict.fromkeys(row["kind"] for row in rows)), list(dict.fromkeys(row["stage"] for row in rows))
    filled = min(row["batch"] for row in rows) > 1
    shown = {"clips_per_second": "clips a second"}
    shown |= {"batch": "clips at a time: as many as fit"} if filled else {"peak_gib": "peak memory (GiB)"}
    figure, panels = new_figure(1, 2, width=9.6, height=3.6)
    arrays = {}
    for axes, (key, label) in zip(panels, shown.items(), strict=True):
        for shift, kind in enumerate(kinds):
            values = [next(row[key] for row in rows if (row["kind"], row["stage"]) == (kind, stage)) for stage in names]
            place = np.arange(len(names)) + 0.27 * (shift - (len(kinds) - 1) / 2)
            bars = axes.bar(place, values, width=0.25, color=_FAMILY[kind][1], label=_FAMILY[kind][0], zorder=3)
            axes.bar_label(bars, fmt=lambda v: f"{v:.0f}" if v >= 10 else f"{v:.2g}", padding=2, fontsize="small")
            arrays[f"{kind}, {key}"] = np.array(values)
        axes.set(xticks=range(len(names)), xticklabels=names, ylabel=label)
    panels[0].legend()
    last = arrays[f"{kinds[-1]}, clips_per_second"]
    more = " and ".join(f"{rate / last[0]:.1f}" for rate in last[1:])
    figure.suptitle(
        f"R50 at {record['frames']}×{record['size']}² on {record['machine']['device']}: the stages of {_FAMILY[kinds[-1]][0]} "
        f"train {more} times as many clips"
    )
    return Drawing(figure, arrays)


@styled
def training(folder: Path | str) -> Drawing:
    """Draw how far a run of ITSL has come, from the log in its folder: loss and accuracy by steps, a band for each stage."""
    lines = logged(folder)
    steps, epochs = ([line for line in lines if ("train_loss" in line) == of_epochs] for of_epochs in (False, True))
    validated = [line for line in epochs if "top1" in line]
    figure, panels = new_figure(2, 1, width=7.6, height=4.4, sharex=True)
    drawn = {
        (0, "loss", "training"): (steps, "loss"),
        (1, "top1", "training"): (steps, "top1"),
        (1, "top1", "validation"): (validated, "top1"),
    }
    arrays = {}
    for (panel, name, of), (chosen, key) in drawn.items():
        arrays[f"{name}, {of}"] = np.array([(line["step"], line[key]) for line in chosen]).reshape(-1, 2)
        look = {"color": BLACK, "marker": "D", "linestyle": "none"} if of == "validation" else {"color": JOINT}
        panels[panel].plot(*arrays[f"{name}, {of}"].T, label=of, **look)
    last = {line["stage"]: line["step"] for line in lines}  # in the order of the stages
    for left, (stage, right) in zip([0, *last.values()], last.items(), strict=False):
        color = {"t": PHI, "s": PSI}.get(stage[0], NEUTRAL) if stage[1:2] == "-" else NEUTRAL
        for axes in panels:
            axes.axvspan(left, right, color=color, alpha=0.15, linewidth=0)
        panels[0].text(left, 1.02, stage, transform=panels[0].get_xaxis_transform(), fontsize="small")
    panels[0].set(ylabel="loss (nats)")
    panels[1].set(ylabel="top-1 accuracy", xlabel="steps of the run", ylim=(-0.05, 1.05))
    panels[1].legend(loc="upper left")
    if not lines:
        panels[0].text(0.5, 0.5, "no line is logged yet", ha="center", transform=panels[0].transAxes)
    return Drawing(figure, arrays)


@styled
def scaling(times: dict[str, Sequence[float]], gpus: Sequence[int]) -> Drawing:
    """Draw what each part of a step takes with so many GPUs: `times` in seconds, by the part's name."""
    figure, axes = new_figure(width=6.4, height=3.4)
    looks = zip(times, (NEUTRAL, PSI, shade(PSI, -0.4), PHI, ALPHA), "oD^sv", ("-", "--", "-.", ":", "-"), strict=True)
    for name, color, marker, line in looks:
        axes.plot(gpus, [1e3 * seconds for seconds in times[name]], color=color, marker=marker, linestyle=line, label=name)
    axes.set(xscale="log", yscale="log", xlabel="GPUs", ylabel="milliseconds a step")
    axes.set_xticks(gpus, [str(count) for count in gpus])
    axes.minorticks_off()
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    return Drawing(figure, {name: np.array(seconds) for name, seconds in times.items()} | {"gpus": np.array(gpus)})
