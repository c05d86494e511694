"""Figures of notebook 05: what a change of tempo does to a network that learned actions at one tempo."""

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from torch import Tensor
from torch.nn import functional as F

from stdcf_lib.data.actions import render
from stdcf_lib.data.kth_protocol import ACTIONS
from stdcf_lib.experiments.tempo import (
    DILATIONS,
    GRID_TEMPI,
    REAL,
    SEEDS,
    TEMPI,
    WAYS,
    kept_features,
    measured,
    neighbours_kept,
    trained,
)
from stdcf_lib.models.kinds import KINDS
from stdcf_lib.plots.motion import side_by_side
from stdcf_lib.plots.style import (
    BLACK,
    BLUE,
    FULL,
    GREEN,
    JOINT,
    NEUTRAL,
    ORANGE,
    PURPLE,
    SEPARABLE,
    SKY_BLUE,
    VERMILLION,
    Arrays,
    Drawing,
    Film,
    Made,
    Plot,
    new_figure,
    show_frame,
    styled,
)

if TYPE_CHECKING:
    from openTSNE import TSNEEmbedding

COLORS = {"full": FULL, "rank1": SEPARABLE, "stdcf": JOINT}
MARKERS = {"full": "D", "rank1": "s", "stdcf": "o"}
TITLES = {"full": "full 3D", "rank1": "rank-1", "stdcf": "STDCF"}
ACTION_COLORS = dict(zip(ACTIONS, (BLUE, SKY_BLUE, GREEN, ORANGE, VERMILLION, PURPLE), strict=True))
ACTION_MARKERS = dict(zip(ACTIONS, "osv^DP", strict=True))
SECONDS = 1.28  # of a window at tempo 1

MEASURES = {
    "accuracy": "test accuracy",
    "change": "relative change of the representation",
    "neighbours": "share of 10 nearest neighbours kept",
}
_FOUND = {
    "accuracy": "Slow motion costs every family its accuracy, and dilation restores it",
    "change": "At τ = 2 and 3 dilation halves how far full 3D and rank-1 move, not STDCF; with the pool all move less still",
    "neighbours": "Dilation costs STDCF neighbours; with the pool it keeps most of them",
}


def film(action: str = "walking", tempi: Sequence[float] = (0.5, 1.0, 2.0), subject: int = 2, frames: int = 16) -> Film:
    """Film an action at several tempi side by side, at one and the same rate of frames."""
    clips = {f"tempo {τ:g}": render(action, subject, 1, 1, frames, τ, start=1.6, fps=12.5, size=(60, 80)) for τ in tempi}
    return side_by_side(clips, f"{action}, at 12.5 frames/s", pause=80)


@Plot
def filter_response() -> Made:
    """Draw what one filter of the trained first layer answers at one pixel, at tempo 1 and at another, plain and dilated.

    The pixel is the one where the answer at tempo 1 varies most. Time is that of the motion: at tempo 2 a second of it takes
    two seconds of film.
    """
    figure, (top, axes) = new_figure(2, 1, width=8.0, height=4.4, height_ratios=[1, 2.6])
    strip = show_frame(top, np.zeros((60, 800)), 255)
    strip.set_animated(True)
    top.spines[:].set_animated(True)
    (cross,) = top.plot([], [], "+", color=VERMILLION, markersize=9, markeredgewidth=2, animated=True)
    top.set(xlim=(-0.5, 799.5), ylim=(59.5, -0.5))
    above = top.set_title("action", animated=True)
    time = np.arange(32) / 12.5
    (first,) = axes.plot(time, time, "-", color=BLACK, linewidth=4, alpha=0.25, animated=True, label="tempo 1, as trained")
    (second,) = axes.plot([], [], "s--", color=NEUTRAL, markersize=3, animated=True, label="as trained")
    (third,) = axes.plot([], [], "o-", color=JOINT, markersize=3, animated=True, label="dilated")
    axes.set(xlabel="time of the motion (s)", ylabel="response of the filter", xlim=(-0.05 * time[-1], 1.05 * time[-1]))
    axes.set_ylim(-13, 9)  # with the widest labels
    axes.yaxis.set_animated(True)
    axes.locator_params(axis="y", nbins=4)
    legend = axes.legend(
        [first, second, third],
        ["tempo 1, as trained", "tempo 0.25, as trained", "tempo 0.25, dilated by 2"],
        ncols=3,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.22),
    )
    legend.set_animated(True)

    def show(action: str = "handwaving", tempo: float = 2.0, dilation: int = 2, channel: int = 0) -> Arrays:
        clip = _performed(action, tempo)
        pixels, before = _watched(action)
        y, x = pixels[channel]
        lines = before[channel], *(_answer(action, tempo, channel, d) for d in (1, dilation))
        shown = np.linspace(0, len(clip) - 1, 10).astype(int)
        strip.set_data(np.concatenate(list(clip[shown]), axis=1))
        cross.set_data(80 * np.arange(10) + x, np.full(10, y))
        above.set_text(f"{action} at tempo {tempo:g}; the filter looks at the cross")
        slow = np.arange(len(clip)) / 12.5 / tempo
        for line, its_time, answer in zip((first, second, third), (time, slow, slow), lines, strict=True):
            line.set_data(its_time, answer)
        low, high = min(map(np.min, lines)), max(map(np.max, lines))
        axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
        legend.texts[1].set_text(f"tempo {tempo:g}, as trained")
        legend.texts[2].set_text(f"tempo {tempo:g}, dilated by {dilation}")
        return dict(zip(("reference", "plain", "dilated"), lines, strict=True))

    return figure, show


@cache
def _performed(action: str, tempo: float) -> np.ndarray:
    """As much of an action as 32 frames show at tempo 1."""
    return render(action, 2, 1, 1, round(32 * tempo), tempo, start=1.0, fps=12.5, size=(60, 80))


@cache
@torch.no_grad()
def _watched(action: str) -> tuple[np.ndarray, np.ndarray]:
    """For each filter of the trained first layer: the pixel where its answer at tempo 1 varies most, and that answer."""
    answers = trained("stdcf").conv1(_scaled(action, 1.0))[0].numpy()
    spread = answers.std(1)
    pixels = np.array([np.unravel_index(one.argmax(), one.shape) for one in spread])
    return pixels, np.stack([answer[:, y, x] for answer, (y, x) in zip(answers, pixels, strict=True)])


@torch.no_grad()
def _answer(action: str, tempo: float, channel: int, dilation: int) -> np.ndarray:
    """What one filter answers at its pixel, dilated in time: only what it meets there goes into the sum."""
    filters, bias = _first_layer()
    kt, kh, kw = filters.shape[2:]
    y, x = _watched(action)[0][channel]
    met = _bordered(action, tempo, kh // 2, kw // 2)[..., y : y + kh, x : x + kw]
    answer = F.conv3d(met, filters[channel, None], padding=(dilation * (kt // 2), 0, 0), dilation=(dilation, 1, 1))
    return (answer + bias[channel])[0, 0, :, 0, 0].numpy()


@cache
@torch.no_grad()
def _first_layer() -> tuple[Tensor, Tensor]:
    """Filters (16, 1, kt, kh, kw) and bias of the trained first layer."""
    layer: Any = trained("stdcf").conv1
    return layer.filters(), layer.bias


@lru_cache(maxsize=4)
def _bordered(action: str, tempo: float, rows: int, columns: int) -> Tensor:
    return F.pad(_scaled(action, tempo), (columns, columns, rows, rows))


def _scaled(action: str, tempo: float) -> Tensor:
    # By the mean and spread at tempo 1, so that only time differs.
    reference, clip = _performed(action, 1.0), _performed(action, tempo)
    return torch.from_numpy((clip - reference.mean()) / reference.std()).float()[None, None]


def toy(signal: Tensor, repeat: int = 1, dilations: tuple[int, int] = (1, 1), pool: int = 2) -> dict[str, Tensor]:
    """Table B's trouble in one dimension: two filters over time with a max-pool between them, step by step.

    signal: (T,), of which every value is repeated `repeat` times.
    dilations: of the two filters, (1, -1, 2) and (2, 1, -1); both pad with zeros.
    pool: values that the max-pool joins.

    Returns the steps by name: `input`, `filter 1`, `pool`, `filter 2`, and `mean`, a single number.
    """
    x = signal.repeat_interleave(repeat)
    steps = {"input": x}
    first, second = torch.tensor([1.0, -1.0, 2.0]), torch.tensor([2.0, 1.0, -1.0])
    steps["filter 1"] = x = _along(x, first, dilations[0])
    steps["pool"] = x = F.max_pool1d(x[None, None], pool)[0, 0]
    steps["filter 2"] = x = _along(x, second, dilations[1])
    steps["mean"] = x.mean()
    return steps


def _along(x: Tensor, taps: Tensor, dilation: int) -> Tensor:
    return F.conv1d(x[None, None], taps[None, None], dilation=dilation, padding=dilation)[0, 0]


# Of what `toy_steps` shows, at any dilations, pool and repetition.
_TOY_LIMITS = {"input": (0, 4.2), "filter 1": (-3.7, 11.7), "pool": (-3.7, 11.7), "filter 2": (-16, 33)}


@Plot
def toy_steps() -> Made:
    """Draw `toy` on eight values: above as built, below for the repeated input with dilations and pool of your choice."""
    signal = torch.tensor([1.0, 3, 0, 2, 4, 1, 2, 0])
    built = toy(signal)
    steps = list(_TOY_LIMITS)
    figure, panels = new_figure(2, 4, width=9.0, height=4.0, sharey="col")
    bars = []
    for row, (name, color) in zip(panels, {"as built": NEUTRAL, "repeated": SKY_BLUE}.items(), strict=True):
        for axes, step in zip(row, steps, strict=True):
            bars.append(PolyCollection([], facecolor=color, edgecolor="none", zorder=3, animated=name == "repeated"))
            axes.add_collection(bars[-1])
            axes.set(xticks=[], xlim=(0, 1), ylim=_TOY_LIMITS[step], title=f"{step}, {len(built[step])} values")
        row[0].set_ylabel(name)
        row[-1].set_xlabel(f"mean {built['mean']:.3f}")
    for axes, step, its_bars in zip(panels[0], steps, bars[:4], strict=True):
        _set_bars(its_bars, built[step])
        axes.axhline(0, color="0.5", linewidth=0.8)
    for axes in panels[1]:
        axes.axhline(0, color="0.5", linewidth=0.8)
        axes.title.set_animated(True)
    panels[1, -1].xaxis.set_animated(True)
    title = figure.suptitle("times", animated=True)

    def show(repeat: int = 2, dilation_1: int = 2, pool: int = 2, dilation_2: int = 2) -> Arrays:
        repeated = toy(signal, repeat, (dilation_1, dilation_2), pool)
        for axes, step, its_bars in zip(panels[1], steps, bars[4:], strict=True):
            _set_bars(its_bars, repeated[step])
            axes.set_title(f"{step}, {len(repeated[step])} values")
        panels[1, -1].set_xlabel(f"mean {repeated['mean']:.3f}")
        title.set_text(f"Every value {repeat} times; dilations {dilation_1} and {dilation_2}, a pool of {pool}")
        runs = {"as built": built, "repeated": repeated}
        return {f"{name}, {step}": run[step].numpy() for name, run in runs.items() for step in [*steps, "mean"]}

    return figure, show


def _set_bars(bars: PolyCollection, values: Tensor) -> None:
    """Show values as bars that share the width of the axes, which is 1."""
    left = (np.arange(len(values)) + 0.05) / len(values)
    right, low, high = left + 0.9 / len(values), np.zeros(len(values)), values.numpy()
    bars.set_verts(list(np.stack([left, low, right, low, right, high, left, high], axis=1).reshape(-1, 4, 2)))


@styled
def by_tempo(measure: str = "accuracy", kinds: Sequence[str] = KINDS, seeds: Sequence[int] = SEEDS) -> Drawing:
    """Draw one of `MEASURES` against tempo, a panel for each way to meet it, a line a family: the mean and range over seeds."""
    if measure not in MEASURES:
        raise ValueError(f"measure={measure!r}; choose one of {', '.join(map(repr, MEASURES))}")
    figure, panels = new_figure(1, len(WAYS), width=11, height=3.9, sharey=True, squeeze=False)
    arrays = {"tempo": np.array(TEMPI)}
    for axes, (way, title) in zip(panels[0], WAYS.items(), strict=True):
        for kind in kinds:
            values = np.array([[measured(kind, seed)[way][str(τ)][measure] for τ in TEMPI] for seed in seeds])
            style = {"color": COLORS[kind], "marker": MARKERS[kind], "markersize": 5}
            axes.fill_between(TEMPI, values.min(0), values.max(0), color=COLORS[kind], alpha=0.15, linewidth=0)
            axes.plot(TEMPI, values.mean(0), label=TITLES[kind], **style)
            arrays[f"{kind}, {way}"] = values
        axes.set(xscale="log", xticks=TEMPI, xticklabels=[f"{τ:g}" for τ in TEMPI], title=title)
        axes.set_xticks([], minor=True)
        axes.set_xlabel("tempo τ (fast ← 1 → slow)")
    panels[0, 0].set(ylabel=MEASURES[measure], ylim=(0, None))
    if measure == "accuracy":
        for axes in panels[0]:
            axes.axhline(1 / len(ACTIONS), color=NEUTRAL, linewidth=1, linestyle=":")
        panels[0, 0].text(TEMPI[0], 1 / len(ACTIONS) + 0.01, "chance", fontsize="small")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=len(kinds), loc="outside lower center")
    figure.suptitle(_FOUND[measure])
    return Drawing(figure, arrays)


@styled
def confusion(kind: str = "stdcf", seeds: Sequence[int] = SEEDS) -> Drawing:
    """Draw which action was taken for which at tempo 1, in rendered test clips, summed over seeds."""
    counts = np.sum([measured(kind, seed, "actions")["confusion"] for seed in seeds], axis=0)
    figure, axes = new_figure(width=5.6, height=4.6)
    _matrix(axes, counts / counts.sum(1, keepdims=True))
    axes.set_title(
        f"{TITLES[kind]} takes gestures for gestures and gaits for gaits\n(share of an action's clips, {len(seeds)} seeds)"
    )
    return Drawing(figure, {"counts": counts})


@styled
def real_confusion(kind: str = "stdcf", seeds: Sequence[int] = SEEDS) -> Drawing:
    """Draw which action the windows of real clips were taken for: at tempo 1, at tempo 2 as trained, and dilated."""
    names = ("1, plain", "2, plain", "2, dilated")
    figure, panels = new_figure(1, len(names), width=12.0, height=5.0)
    arrays = {}
    for axes, name in zip(panels, names, strict=True):
        counts = np.sum([_counts(*real_answers(name, kind, seed)) for seed in seeds], axis=0)
        _matrix(axes, counts / counts.sum(1, keepdims=True))
        τ, way = REAL[name]
        axes.set_title(f"tempo {τ}, {WAYS[way]}: {np.trace(counts) / counts.sum():.0%} of windows right")
        if axes is not panels[0]:
            axes.set(ylabel="", yticklabels=[])
        arrays[name] = counts
    figure.suptitle("At half speed running passes for jogging, and jogging for walking; dilated, they are known as before")
    return Drawing(figure, arrays)


def real_answers(name: str, kind: str = "stdcf", seed: int = 0, whole_clips: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """True and found actions of the windows of real clips, under a name of `tempo.REAL`, from the kept representations.

    whole_clips: give one answer a clip, the likeliest by the mean over its windows.
    """
    kept = kept_features(kind, seed, "real")
    with torch.no_grad():
        chances = trained(kind, seed).fc(torch.from_numpy(kept[name])).softmax(1).numpy()
    if not whole_clips:
        return kept["action"], chances.argmax(1)
    clips = np.unique(kept["clip"])
    found = np.array([chances[kept["clip"] == clip].mean(0).argmax() for clip in clips])
    return np.array([kept["action"][kept["clip"] == clip][0] for clip in clips]), found


def _counts(true: np.ndarray, found: np.ndarray) -> np.ndarray:
    counts = np.zeros((len(ACTIONS), len(ACTIONS)), np.int64)
    np.add.at(counts, (true, found), 1)
    return counts


def _matrix(axes: Axes, shares: np.ndarray) -> None:
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.grid(False)
    for (row, column), share in np.ndenumerate(shares):
        if share >= 0.005:
            color = "white" if share > 0.5 else "black"
            axes.text(column, row, f"{share:.0%}", ha="center", va="center", color=color, fontsize="small")
    axes.set(xticks=range(len(ACTIONS)), yticks=range(len(ACTIONS)), yticklabels=ACTIONS)
    axes.set_xticklabels(ACTIONS, rotation=35, ha="right")
    axes.set(xlabel="taken for", ylabel="shown")


def grid_features(τ: float, dilations: tuple[int, int, int] = (1, 1, 1)) -> np.ndarray:
    """The kept representation of the clips of `tempo.feature_grid` at a tempo of `GRID_TEMPI`, under dilations from 1 to 3 of
    conv1, conv2 and conv3: (n, 64)."""
    if τ not in GRID_TEMPI:
        raise ValueError(f"τ={τ!r}; the kept representations are of tempi {', '.join(map(str, GRID_TEMPI))}")
    return _grid()["features"][GRID_TEMPI.index(τ), *(DILATIONS.index(d) for d in dilations)]


def grid_actions() -> np.ndarray:
    """The actions, (n,), of the clips of `grid_features`."""
    return _grid()["action"]


@cache
def _grid() -> dict[str, np.ndarray]:
    return kept_features()


@cache
def fitted_map(perplexity: int = 20) -> "TSNEEmbedding":
    """The map, by t-SNE, of the kept representations at tempo 1. Others are then put *into* it, and do not change it."""
    return _fitted(grid_features(1.0), perplexity)


def _fitted(features: np.ndarray, perplexity: int) -> "TSNEEmbedding":
    from openTSNE import TSNE  # here, as every other picture would otherwise wait a second for it

    fitted = TSNE(perplexity=perplexity, random_state=0, n_jobs=1).fit(features)
    fitted.prepare_interpolation_grid()  # moves the whole map a little, and the first `transform` would do it unasked
    return fitted


@Plot
def tempo_map() -> Made:
    """Draw where clips of a tempo fall in the map of tempo 1, under a dilation of each layer (Figures 3 and B).

    Small gray marks are the clips at tempo 1; a line leads from each to the same clip at the other tempo.

    action, subject: which clips to show of the other tempo; "all" of them by default.
    """
    figure, axes = new_figure(width=7.6, height=5.6)
    (before,) = axes.plot([], [], ".", color="#B0B0B0", markersize=3, animated=True)
    paths = LineCollection([], colors="#B0B0B0", linewidths=0.5, animated=True)
    axes.add_collection(paths)
    _clouds(axes, np.empty((0, 2)), np.empty(0))
    clouds = axes.get_lines()[1:]
    for cloud in clouds:
        cloud.set_animated(True)
    title = axes.set_title("tempo", animated=True)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), title="action")

    def show(
        tempo: float = 2.0,
        conv1: int = 1,
        conv2: int = 1,
        conv3: int = 1,
        action: str = "all",
        subject: int | str = "all",
        perplexity: int = 20,
    ) -> Arrays:
        reference, moved = grid_features(1.0), grid_features(tempo, (conv1, conv2, conv3))
        chosen, actions = _chosen(action, subject), _grid()["action"]
        start, end = np.asarray(fitted_map(perplexity)), _placed(tempo, (conv1, conv2, conv3), perplexity)
        before.set_data(*start.T)
        paths.set_segments(list(np.stack([start[chosen], end[chosen]], axis=1)))
        for number, cloud in enumerate(clouds):
            cloud.set_data(*end[chosen & (actions == number)].T)
        drawn = np.concatenate([start, end[chosen]])
        low, high = drawn.min(0), drawn.max(0)
        margin = 0.05 * (high - low)
        (left, bottom), (right, top) = low - margin, high + margin
        axes.set(xlim=(left, right), ylim=(bottom, top))
        neighbours = _neighbours(reference, moved)
        title.set_text(f"tempo {tempo:g}, dilations {conv1}, {conv2}, {conv3}: {neighbours:.0%} of neighbours kept")
        return {"position": end, "neighbours": np.array(neighbours)}

    return figure, show


@cache
def _placed(tempo: float, dilations: tuple[int, int, int], perplexity: int) -> np.ndarray:
    """Where the clips of a tempo fall in the map, under dilations."""
    return np.asarray(fitted_map(perplexity).transform(grid_features(tempo, dilations)))


@styled
def three_maps(tempo: float = 2.0, perplexity: int = 20) -> Drawing:
    """Draw the map of tempo 1, and where clips of another tempo fall in it: as trained, and dilated."""
    whole = round(tempo)
    reference = grid_features(1.0)
    cases = {
        "tempo 1": reference,
        f"tempo {tempo:g}, as trained": grid_features(tempo),
        f"tempo {tempo:g}, dilated by {whole}": grid_features(tempo, (whole, whole, whole)),
    }
    figure, panels = new_figure(1, 3, width=11, height=4.8, sharex=True, sharey=True)
    arrays = {}
    for axes, (title, moved) in zip(panels, cases.items(), strict=True):
        drawn = _draw_map(axes, reference, moved, _chosen("all", "all"), perplexity)
        axes.set_title(f"{title}\n{_numbers(reference, moved)}" if moved is not reference else title)
        arrays |= {f"{title}, {name}": array for name, array in drawn.items()}
    figure.suptitle("Slow gaits leave their places; dilated, kinds come back together, neighbours do not")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=len(ACTIONS), loc="outside lower center")
    return Drawing(figure, arrays)


@styled
def real_map(seed: int = 0, perplexity: int = 20) -> Drawing:
    """Draw the map of the windows of real clips at tempo 1, and where they fall at tempo 2: as trained, dilated, exact."""
    kept = kept_features("stdcf", seed, "real")
    reference = kept["1, plain"]
    fitted = _fitted(reference, perplexity)
    figure, panels = new_figure(2, len(REAL) // 2, width=9.6, height=8, sharex=True, sharey=True)
    arrays = {}
    for axes, (name, (τ, way)) in zip(panels.flat, REAL.items(), strict=True):
        moved = kept[name]
        place = np.asarray(fitted if name == "1, plain" else fitted.transform(moved))
        _clouds(axes, place, kept["action"])
        title = f"tempo {τ}, {WAYS[way]}"
        axes.set_title(title if τ == 1 else f"{title}\n{_numbers(reference, moved)}")
        arrays |= {f"{name}, position": place, f"{name}, neighbours": np.array(_neighbours(reference, moved))}
    figure.suptitle("Real windows at half speed: only with the pool dilated too do they keep their neighbours")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=len(ACTIONS), loc="outside lower center")
    return Drawing(figure, arrays)


@styled
def guesses(seeds: Sequence[int] = SEEDS) -> Drawing:
    """Draw the accuracy at each tempo for those who choose the dilation: nobody, two estimates from the clip, and an oracle."""
    who = {
        "nobody": ("nobody: dilation 1", NEUTRAL, "s"),
        "period": ("the period of the motion", SKY_BLUE, "^"),
        "confidence": ("where the network is surest", JOINT, "o"),
        "oracle": ("an oracle", BLACK, "D"),
    }
    figure, axes = new_figure(width=7.2, height=4.0)
    arrays = {}
    for shift, (name, (title, color, marker)) in zip((-0.12, -0.04, 0.04, 0.12), who.items(), strict=True):
        values = np.array(
            [[measured("stdcf", seed, "guesses")[str(float(d))][name]["accuracy"] for d in DILATIONS] for seed in seeds]
        )
        x = np.array(DILATIONS) + shift
        axes.vlines(x, values.min(0), values.max(0), color=color)
        axes.plot(x, values.mean(0), marker, color=color, linestyle=":", linewidth=1, markersize=8, label=title)
        arrays[name] = values
    axes.set(xlabel="tempo τ of the clips", ylabel="test accuracy", xticks=DILATIONS, ylim=(0, 1))
    axes.set_title("A clip's own period repairs more than half of what an unknown tempo costs")
    axes.legend(loc="lower left", title=f"who chooses the dilation (mean and range, {len(seeds)} seeds)")
    return Drawing(figure, arrays)


def _chosen(action: str, subject: int | str) -> np.ndarray:
    grid = _grid()
    chosen = np.ones(len(grid["action"]), bool)
    if action != "all":
        chosen &= grid["action"] == ACTIONS.index(action)
    return chosen if subject == "all" else chosen & (grid["subject"] == subject)


def _draw_map(
    axes: Axes, reference: np.ndarray, moved: np.ndarray, chosen: np.ndarray, perplexity: int
) -> dict[str, np.ndarray]:
    fitted = fitted_map(perplexity)
    start = np.asarray(fitted)
    end = start if moved is reference else np.asarray(fitted.transform(moved))
    axes.plot(*start.T, ".", color="#B0B0B0", markersize=3)
    if moved is not reference:
        paths = np.stack([start[chosen], end[chosen]])  # a column is a line
        axes.plot(paths[..., 0], paths[..., 1], "-", color="#B0B0B0", linewidth=0.5)
    _clouds(axes, end[chosen], _grid()["action"][chosen])
    return {"position": end, "neighbours": np.array(_neighbours(reference, moved))}


def _clouds(axes: Axes, place: np.ndarray, action: np.ndarray) -> None:
    for number, name in enumerate(ACTIONS):
        points = place[action == number]
        axes.plot(*points.T, ACTION_MARKERS[name], color=ACTION_COLORS[name], markersize=6, alpha=0.8, label=name)
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(True)


def _neighbours(reference: np.ndarray, moved: np.ndarray) -> float:
    return neighbours_kept(torch.from_numpy(moved), torch.from_numpy(reference))


def _numbers(reference: np.ndarray, moved: np.ndarray) -> str:
    return f"{_neighbours(reference, moved):.0%} of neighbours kept"
