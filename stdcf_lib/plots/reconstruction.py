"""Figures of notebook 04: what the reconstruction networks of Table A learned, and how well each family does."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from stdcf_lib.data import TRMNIST
from stdcf_lib.experiments import reconstruction
from stdcf_lib.experiments.compare import difference
from stdcf_lib.experiments.reconstruction import (
    FAMILIES,
    SEEDS,
    STARTS,
    SWEEP,
    SWEEP_EPOCHS,
    clip_errors,
    kept,
    trained,
    tuned_errors,
)
from stdcf_lib.plots.style import (
    BLACK,
    FULL,
    JOINT,
    PHI,
    PSI,
    SEPARABLE,
    Arrays,
    Drawing,
    Made,
    Plot,
    new_figure,
    shade,
    show_frame,
    show_signed,
    styled,
)

MSE = "test MSE (gray², gray in [0, 1])"
# Three networks are rank-1: shades of one colour, so that the family is seen first.
COLORS = dict(zip(FAMILIES, (JOINT, SEPARABLE, shade(SEPARABLE, 0.45), shade(SEPARABLE, -0.45), FULL), strict=True))
MARKERS = dict(zip(FAMILIES, "osv^D", strict=True))


@cache
def test_set() -> TRMNIST:
    """The 5,000 test clips of the protocol."""
    return TRMNIST("test")


@styled
def learning_curves(names: Sequence[str] = tuple(FAMILIES), seeds: Sequence[int] = SEEDS) -> Drawing:
    """Draw the test error of each family while it trains: a line for the median over seeds, a band from best to worst."""
    figure, axes = new_figure(width=7.2, height=4.2)
    arrays = {}
    for name in names:
        histories = [[row for row in kept(name, seed).metrics if "test_mse" in row] for seed in seeds]
        epochs = np.array([row["epoch"] for row in histories[0]])
        errors = np.array([[row["test_mse"] for row in history] for history in histories])
        style = {"color": COLORS[name], "marker": MARKERS[name], "markersize": 5}
        axes.fill_between(epochs, errors.min(0), errors.max(0), color=COLORS[name], alpha=0.12, linewidth=0)
        axes.plot(epochs, np.median(errors, 0), label=FAMILIES[name].title, **style)
        arrays |= {"epoch": epochs, name: errors}
    axes.set(xlabel="epoch", ylabel=MSE, yscale="log", title="STDCF learns fastest, and full 3D catches up")
    axes.yaxis.set_major_formatter("{x:.3f}")
    axes.yaxis.set_minor_formatter("{x:.3f}")
    axes.legend(title=f"median and range, {len(seeds)} seeds")
    return Drawing(figure, arrays)


@styled
def final_errors(names: Sequence[str] = tuple(FAMILIES), seeds: Sequence[int] = SEEDS) -> Drawing:
    """Draw the test error each run ended with, a marker a seed, beside the mean of its family."""
    errors = {name: np.array([kept(name, seed).metrics[-1]["test_mse"] for seed in seeds]) for name in names}
    labels = {name: f"{FAMILIES[name].title}\n{weights(name):,} weights" for name in names}
    figure, axes = new_figure(width=7.2, height=1 + 0.6 * len(names))
    _dots(axes, errors, labels)
    axes.set(xlabel=MSE, title="STDCF is ahead of rank-1; no difference is shown to a wider one or to full 3D")
    return Drawing(figure, errors)


@styled
def starts(seeds: Sequence[int] = reconstruction.ABLATION_SEEDS, epochs: int = reconstruction.START_EPOCHS) -> Drawing:
    """Draw what the start of a network does to its test error after some epochs, a marker a seed."""
    errors = {name: np.array([_at_epoch(kept(name, seed).metrics, epochs)["test_mse"] for seed in seeds]) for name in STARTS}
    figure, axes = new_figure(width=7.6, height=1 + 0.45 * len(errors))
    most = 2 * np.median([values.mean() for values in errors.values()])
    _dots(axes, {name: values if values.mean() < most else np.array([]) for name, values in errors.items()},
          {name: variant.title for name, variant in STARTS.items()})  # fmt: skip
    for row, values in enumerate(errors.values()):
        if values.mean() >= most:  # on this scale the others would be one line
            text = f"off the scale: {values.min():.2f} to {values.max():.2f} →"
            axes.text(0.98, row, text, ha="right", va="center", transform=axes.get_yaxis_transform(), color=JOINT)
    axes.set(xlabel=MSE, xlim=(0, most))
    axes.set_title(f"After {epochs} epochs one start is ruinous; the others' means are within a third")
    return Drawing(figure, errors)


@styled
def care() -> Drawing:
    """Draw what each start at each rate ended with, on validation clips: a line a start, a marker for the mean of the seeds;
    and what the best starts ended with in runs of full length, which the rate was chosen by."""
    rates = reconstruction.CARE_RATES
    figure, panels = new_figure(1, 3, width=8.4, height=4.2, sharey=True)
    arrays: dict[str, np.ndarray] = {"rates": np.array(rates)}
    for axes, (family, all_starts) in zip(panels, reconstruction.CARE_STARTS.items(), strict=True):
        for start, marker, line in zip(all_starts, "osv", ("-", "--", ":"), strict=True):
            means = [np.mean(reconstruction.care_scores(family, start, rate)) for rate in rates]
            axes.plot(rates, means, marker=marker, linestyle=line, color=COLORS[family], label=CARE_TITLES[start])
            arrays[f"{family}, {start}"] = np.array(means)
        long = {
            rate: kept(f"care50-{family}-{rate:g}", reconstruction.LONG_CARE_SEED).metrics[-1]["test_mse"]
            for rate in reconstruction.LONG_CARE[family]
        }
        axes.plot(list(long), list(long.values()), "*", color=BLACK, markersize=10, label="50 epochs, best start")
        start, rate = reconstruction.CHOSEN[family]
        axes.axvline(rate, color=BLACK, linewidth=1, alpha=0.4, zorder=0)
        arrays[f"{family}, 50 epochs"] = np.array(list(long.values()))
        axes.set(xscale="log", yscale="log", xlabel="learning rate")
        axes.set_title(f"{FAMILIES[family].title}\ngiven: {CARE_TITLES[start]}, {CARE_TICKS[rate]}")
        axes.set_xticks(rates, [CARE_TICKS[rate] for rate in rates])
        axes.minorticks_off()
        axes.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.2))
    panels[0].set_ylabel("validation MSE (gray²)")
    panels[0].set_yticks([0.015, 0.02, 0.03, 0.05], ["0.015", "0.02", "0.03", "0.05"])
    return Drawing(figure, arrays)


CARE_TICKS = dict(zip(reconstruction.CARE_RATES, ("3e-4", "1e-3", "3e-3", "1e-2"), strict=True))
CARE_TITLES = {
    "bessel": "Fourier–Bessel",
    "dct": "cosine",
    "random": "random",
    "composed": "composed filter",
    "each": "each factor",
    "kaiming": "Kaiming",
    "gain1": "gain 1",
    "torch": "torch's own",
}
"""The starts of `care`, in words."""


@styled
def answer(seeds: Sequence[int] = reconstruction.TUNED_SEEDS) -> Drawing:
    """Draw the test error of each contestant at its own start and rate, and how far the others are from STDCF."""
    errors = {family: np.array(tuned_errors(family, seeds=seeds)) for family in reconstruction.CHOSEN}
    figure, (left, right) = new_figure(1, 2, width=8.4, height=3.0, width_ratios=[1.5, 1])
    _dots(left, errors, {name: f"{FAMILIES[name].title}\n{weights(name):,} weights" for name in errors})
    left.set(xlabel=MSE, xlim=(0.01, None), title=f"{len(seeds)} seeds each, a bar for the mean")
    left.locator_params(axis="x", nbins=5)
    arrays = dict(errors)
    right.axvspan(-5, 5, color=BLACK, alpha=0.08, linewidth=0)
    right.axvline(0, color=BLACK, linewidth=1)
    for row, name in enumerate(errors):
        if name != "stdcf":
            found = difference(errors[name].tolist(), errors["stdcf"].tolist())
            mean, low, high = (100 * part / errors["stdcf"].mean() for part in found)
            right.plot([low, high], [row, row], color=COLORS[name], linewidth=3, linestyle="-")
            right.plot(mean, row, MARKERS[name], color=COLORS[name], markersize=8)
            arrays[f"{name} − stdcf, %"] = np.array([mean, low, high])
    right.set(yticks=[], ylim=left.get_ylim(), xlabel="error above STDCF's (%)")
    right.set_title("Difference, 95% interval\n(gray: as wide as we asked for)")
    return Drawing(figure, arrays)


@styled
def dead_channels(names: Sequence[str] = tuple(FAMILIES), seeds: Sequence[int] = SEEDS) -> Drawing:
    """Draw the test error of every run, and how many of its 20 hidden channels are dead where any are: 0 on 500 test clips."""
    figure, axes = new_figure(width=7.2, height=1 + 0.5 * len(names))
    arrays = {}
    for name in names:
        arrays[f"{name}, dead"] = np.array([reconstruction.dead_channels(name, seed) for seed in seeds])
        arrays[name] = np.array([kept(name, seed).metrics[-1]["test_mse"] for seed in seeds])
    _dots(axes, {name: arrays[name] for name in names}, {name: FAMILIES[name].title for name in names})
    for row, name in enumerate(names):
        for error, dead in zip(arrays[name], arrays[f"{name}, dead"], strict=True):
            if dead:
                axes.annotate(f"{dead} dead", (error, row), (0, 9), textcoords="offset points", ha="center", fontsize="small")
    axes.set(xlabel=MSE, title="Runs that lost channels reconstruct worse")
    return Drawing(figure, arrays)


@styled
def reconstructions(seed: int = 0, names: Sequence[str] = ("rank1", "stdcf", "full")) -> Drawing:
    """Remake Figure A on three test clips: those of the least, the median and the largest error, averaged over the families."""
    order = np.mean([clip_errors(name, seed) for name in names], axis=0).argsort()
    picks = {"easiest": order[0], "median": order[len(order) // 2], "hardest": order[-1]}
    figure, panels = new_figure(len(picks) * (1 + len(names)), 1, width=7.6, height=9.4)
    rows = iter(panels)
    arrays = {}
    for title, index in picks.items():
        clip = test_set()[index][None]
        axes = next(rows)
        show_frame(axes, _strip(clip))
        axes.set_title(f"{title} clip", loc="left")
        _left_label(axes, "input")
        arrays[f"{title}, input"] = clip[0, 0].numpy()
        for name in names:
            axes, output = next(rows), _output(trained(name, seed), clip)
            show_frame(axes, _strip(output))
            _left_label(axes, f"{FAMILIES[name].title}\n{clip_errors(name, seed)[index]:.4f}")
            arrays[f"{title}, {name}"] = output[0, 0].numpy()
    return Drawing(figure, arrays)


@styled
def clip_by_clip(names: tuple[str, str] = ("rank1", "stdcf"), seeds: Sequence[int] = SEEDS) -> Drawing:
    """Draw the error of one family against another's on each test clip, both averaged over seeds."""
    x, y = (np.mean([clip_errors(name, seed) for seed in seeds], axis=0) for name in names)
    figure, axes = new_figure(width=7.2, height=3.6)
    gain = 100 * (1 - y / x)
    low, high = COLORS[names[1]], COLORS[names[0]]
    axes.plot(x[gain > 0], gain[gain > 0], ".", color=low, markersize=2, alpha=0.4)
    axes.plot(x[gain <= 0], gain[gain <= 0], ".", color=high, markersize=4)
    axes.axhline(0, color=BLACK, linewidth=1)
    axes.axhline(gain.mean(), color=low, linestyle="--", linewidth=1, label=f"mean {gain.mean():.0f}%")
    axes.text(0.99, 0.01, "equal", ha="right", va="bottom", transform=axes.get_yaxis_transform())
    better, worse = FAMILIES[names[1]].title, FAMILIES[names[0]].title
    axes.set(xlabel=f"MSE of {worse} on a clip (gray²)", ylabel=f"{better}'s error is lower by (%)")
    axes.set(xlim=(0, None), ylim=(min(-4, 1.1 * gain.min()), 1.1 * gain.max()))
    axes.set_title(f"{better} is better on {(gain > 0).sum():,} of {len(x):,} test clips, easy and hard")
    axes.legend(loc="lower left")
    return Drawing(figure, {names[0]: x, names[1]: y})


@styled
def error_by_speed(names: Sequence[str] = ("rank1", "stdcf", "full"), seeds: Sequence[int] = SEEDS) -> Drawing:
    """Draw the error against how fast the two digits of a clip move on average, in ten equal groups of clips."""
    speed = test_set().motion.velocity.norm(dim=-1).mean(1).numpy()
    groups = np.array_split(speed.argsort(), 10)
    x = np.array([speed[group].mean() for group in groups])
    figure, axes = new_figure(width=7.2, height=3.8)
    arrays = {"speed": x}
    for name in names:
        errors = np.array([[clip_errors(name, seed)[group].mean() for group in groups] for seed in seeds])
        style = {"color": COLORS[name], "marker": MARKERS[name], "markersize": 5}
        axes.fill_between(x, errors.min(0), errors.max(0), color=COLORS[name], alpha=0.12, linewidth=0)
        axes.plot(x, np.median(errors, 0), label=FAMILIES[name].title, **style)
        arrays[name] = errors
    axes.set(xlabel="mean speed of the two digits (pixels/frame)", ylabel=MSE, ylim=(0, None))
    axes.set_title("Rank-1 is behind by about as much at every speed")
    axes.legend()
    return Drawing(figure, arrays)


@styled
def learned_atoms(seed: int = 0) -> Drawing:
    """Draw the spatial and temporal atoms of every layer of a kept STDCF network, below those it started with."""
    model, first = trained("stdcf", seed), FAMILIES["stdcf"].build(seed)
    layers = {"start": first.conv1, **dict(model.named_children())}
    count = len(first.conv1.psi)
    figure, panels = new_figure(len(layers), count + 1, width=8.2, height=8.0, width_ratios=[1] * count + [1.8])
    arrays = {}
    for row, (name, layer) in zip(panels, layers.items(), strict=True):
        psi, phi = layer.psi.detach().numpy(), layer.phi.detach().numpy()
        limit = np.abs(psi).max()
        for m, axes in enumerate(row[:-1]):
            show_signed(axes, psi[m], limit)
            axes.spines[:].set(color=PSI, linewidth=2)
            if name == "start":
                axes.set_title(f"$\\psi_{m + 1}$", color=shade(PSI, -0.25))
        _left_label(row[0], name)
        for n, line in enumerate(phi):
            look = {"color": shade(PHI, (0, -0.45, -0.8)[n]), "marker": "osv"[n], "markersize": 4}
            row[-1].plot(range(1, len(line) + 1), line, label=f"$\\varphi_{n + 1}$", **look)
        row[-1].set(xticks=range(1, phi.shape[1] + 1), ylim=(-1.7, 1.7))
        arrays |= {f"{name}, psi": psi, f"{name}, phi": phi}
    panels[0, -1].legend(
        ncols=3, fontsize="small", columnspacing=0.8, handlelength=1.2, loc="lower center", bbox_to_anchor=(0.5, 1)
    )
    panels[-1, -1].set_xlabel("frame of the kernel")
    image = panels[-1, 0].images[0]
    limit = image.get_clim()[1]
    bar = figure.colorbar(image, ax=panels[:, :-1], location="bottom", shrink=0.35, aspect=25, ticks=(-limit, 0, limit))
    bar.set_ticklabels(["−max of the layer", "0", "+max"])
    figure.suptitle("Trained atoms are bent, and most can still be recognised")
    return Drawing(figure, arrays)


@styled
def error_by_weights(seeds: Sequence[int] = SEEDS) -> Drawing:
    """Draw the median test error of each family against its number of weights."""
    figure, axes = new_figure(width=6.4, height=3.8)
    arrays = {}
    for name, variant in FAMILIES.items():
        errors = np.array([kept(name, seed).metrics[-1]["test_mse"] for seed in seeds])
        x = weights(name)
        axes.vlines(x, errors.min(), errors.max(), color=COLORS[name])
        axes.plot(x, np.median(errors), MARKERS[name], color=COLORS[name], label=variant.title)
        arrays[name] = np.array([x, *errors])
    axes.set(xlabel="weights, biases not counted", ylabel=MSE, title="At equal weights no difference to rank-1 is shown")
    axes.legend(title=f"median and range, {len(seeds)} seeds")
    return Drawing(figure, arrays)


@Plot
def sweep() -> Made:
    """Draw the test error of the 27 small STDCF runs over M and N, and what the chosen one makes of a test clip."""
    grid = np.array([[_sweep_error(m, n) for m in range(1, 10)] for n in (1, 2, 3)])
    figure, panels = new_figure(3, 1, width=7.6, height=4.8, height_ratios=[2.2, 1, 1])
    axes = panels[0]
    image = axes.imshow(grid, cmap="cividis_r", origin="lower", aspect="auto")
    axes.set(xticks=range(9), xticklabels=range(1, 10), yticks=range(3), yticklabels=(1, 2, 3))
    axes.set(xlabel="$M$, spatial atoms", ylabel="$N$, temporal atoms")
    axes.grid(False)
    middle = (grid.min() + grid.max()) / 2
    for (row, column), value in np.ndenumerate(grid):
        axes.text(column, row, f"{value:.3f}", ha="center", va="center", color="white" if value > middle else "black")
    frame = axes.add_patch(_frame_around(0, 0))
    frame.set(animated=True, zorder=4)
    title = axes.set_title("$M$", animated=True)
    figure.colorbar(image, ax=axes, label="test MSE")
    strips = []
    for below, name in zip(panels[1:], ("input", "output"), strict=True):
        strips.append(show_frame(below, _strip(torch.zeros_like(test_set()[0][None]))))
        strips[-1].set_animated(True)
        below.spines[:].set_animated(True)
        _left_label(below, name)

    def show(spatial_atoms: int = 5, temporal_atoms: int = 3, clip: int = 0) -> Arrays:
        chosen = f"sweep-M{spatial_atoms}-N{temporal_atoms}"
        shown = test_set()[clip][None]
        films = {"input": shown, "output": _output(trained(chosen), shown)}
        frame.set_xy((spatial_atoms - 1.5, temporal_atoms - 1.5))
        title.set_text(f"$M={spatial_atoms}$, $N={temporal_atoms}$: test MSE {_sweep_error(spatial_atoms, temporal_atoms):.4f} "
                       f"after {SWEEP_EPOCHS} epochs, {weights(chosen):,} weights")  # fmt: skip
        for strip, film in zip(strips, films.values(), strict=True):
            strip.set_data(_strip(film))
        return {"mse": grid} | {name: film[0, 0].numpy() for name, film in films.items()}

    return figure, show


@cache
def weights(name: str) -> int:
    """How many weights a variant has, biases not counted."""
    model = (FAMILIES | STARTS | SWEEP)[name].build()
    return sum(p.numel() for key, p in model.named_parameters() if not key.endswith("bias"))


@cache
def _sweep_error(m: int, n: int) -> float:
    return kept(f"sweep-M{m}-N{n}").metrics[-1]["test_mse"]


def _at_epoch(metrics: list[dict[str, float]], epoch: int) -> dict[str, float]:
    return next(row for row in metrics if row["epoch"] == epoch)


def _output(model: torch.nn.Module, clip: Tensor) -> Tensor:
    with torch.no_grad():
        return model(clip)


def _strip(clip: Tensor) -> np.ndarray:
    """(1, 1, T, H, W) → the frames side by side, a light line between two."""
    frames = clip[0, 0].numpy()
    lined = np.pad(frames, ((0, 0), (0, 0), (0, 1)), constant_values=0.6)
    return np.concatenate(list(lined), axis=1)[:, :-1]


def _left_label(axes: Axes, text: str) -> None:
    axes.set_ylabel(text, rotation=0, ha="right", va="center")


def _frame_around(column: int, row: int) -> Rectangle:
    return Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=JOINT, linewidth=3)


def _dots(axes: Axes, errors: dict[str, np.ndarray], labels: dict[str, str]) -> None:
    for row, (name, values) in enumerate(errors.items()):
        # What is no family of the protocol is a variant of STDCF or of full 3D, as its name begins.
        color, marker = COLORS.get(name, COLORS[name.split("-")[0]]), MARKERS.get(name, MARKERS[name.split("-")[0]])
        axes.plot(values, np.full(len(values), row), marker, color=color, alpha=0.7, linestyle="none")
        axes.vlines(values.mean() if len(values) else [], row - 0.3, row + 0.3, color=color, linewidth=2)
    axes.set(yticks=range(len(errors)), yticklabels=[labels[name] for name in errors], xlim=(0, None))
    axes.invert_yaxis()
