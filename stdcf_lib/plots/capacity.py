"""Figures of notebook 01: what a rank-1 layer can choose, and how near it comes to any coefficients."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes

from stdcf_lib import STDCFConvTranspose3d, capacity
from stdcf_lib.decompose import joint_decomposition
from stdcf_lib.experiments import reconstruction
from stdcf_lib.models import ReconstructionAutoencoder
from stdcf_lib.plots.style import FULL, JOINT, NEUTRAL, SEPARABLE, Drawing, new_figure, show_signed, signed_key, styled


@styled
def alpha_matrix(C: int = 3, K_u: int = 5, K_t: int = 3, middle: int = 3, seed: int = 0) -> Drawing:
    """Draw α unfolded, composed by a rank-1 layer with `middle` channels and free, with the singular values of both.

    m, n and the free α are normal random numbers. α = m n is laid out as a multiplication table, with m to its left and n
    above it. White lines part the K_u × K_t blocks, one for each channel pair.
    """
    # A stream each, so that one more middle channel leaves the others and the free α as they were.
    of_m, of_n, of_free = np.random.default_rng(seed).spawn(3)
    m = of_m.normal(size=(middle, C, K_u))
    n = of_n.normal(size=(middle, C, K_t)).swapaxes(0, 1) / np.sqrt(middle)
    alphas = {"rank-1": capacity.compose(m, n), "free": of_free.normal(size=(C, C, K_u, K_t))}
    matrices = {name: capacity.matricize(alpha) for name, alpha in alphas.items()}
    values = {name: np.linalg.svd(matrix, compute_uv=False) for name, matrix in matrices.items()}
    ranks = {name: np.linalg.matrix_rank(matrix) for name, matrix in matrices.items()}
    block_rank = np.linalg.matrix_rank(alphas["rank-1"]).max()
    tall, wide = m.reshape(middle, -1).T, n.swapaxes(0, 1).reshape(middle, -1)

    figure, (picture, spectrum) = new_figure(1, 2, width=9.6, height=4.6, width_ratios=[2.2, 1])
    rows, columns = matrices["free"].shape
    gap = 0.12 * max(rows, columns)
    at_rank1, at_free = middle + gap / 2, middle + columns + 2 * gap
    _place(picture, tall, 0, 0)
    _place(picture, wide, at_rank1, -gap / 2 - middle)
    for name, left in (("rank-1", at_rank1), ("free", at_free)):
        _place(picture, matrices[name], left, 0)
        blocks = range(1, C)
        picture.hlines([b * K_u for b in blocks], left, left + columns, color="white", linewidth=2)
        picture.vlines([left + b * K_t for b in blocks], 0, rows, color="white", linewidth=2)
    below = {"va": "top", "ha": "center"}
    picture.text(middle / 2, rows + gap / 4, "$m$", **below)
    picture.text(at_rank1 + columns / 2, -gap - middle, "$n$", ha="center")
    picture.text(at_rank1 + columns / 2, rows + gap / 4, f"$\\alpha = m\\,n$\nrank {ranks['rank-1']}", **below)
    picture.text(at_free + columns / 2, rows + gap / 4, f"$\\alpha$ free\nrank {ranks['free']}", **below)
    signed_key(picture, at_free, -gap - middle, width=0.8 * columns, limit=3)
    picture.set(xlim=(0, at_free + columns), ylim=(rows + 2 * gap, -2 * gap - middle), frame_on=False)
    picture.set_title(
        f"$C={C}$, $K_u={K_u}$, $K_t={K_t}$, $C''={middle}$: the blocks of $\\alpha = m\\,n$ have rank {block_rank},\n"
        f"the whole has rank {ranks['rank-1']} of {min(rows, columns)}, "
        f"dimension {capacity.rank1_dimension(C, K_u, K_t, middle)} of {capacity.free_parameters(C, K_u, K_t)}"
    )

    index = np.arange(1, min(rows, columns) + 1)
    spectrum.plot(index, values["free"], "o-", color=JOINT, markersize=4, label="free $\\alpha$: joint")
    spectrum.plot(index, values["rank-1"], "s--", color=SEPARABLE, markersize=4, label="$\\alpha = m\\,n$: rank-1")
    largest = max(v.max() for v in values.values())
    spectrum.set(xlim=(0.5, len(index) + 0.5), ylim=(-0.05 * largest, 1.05 * largest))
    spectrum.set(xlabel="index of singular value", ylabel="singular value of the whole matrix")
    spectrum.set_title(f"From $C''+1={middle + 1}$ on: zero" if middle < len(index) else "$C''$ is no bound here")
    spectrum.xaxis.get_major_locator().set_params(integer=True)
    spectrum.legend()
    arrays = {"m": tall, "n": wide, "alpha": matrices["rank-1"], "free": matrices["free"]}
    return Drawing(figure, arrays | {"alpha_singular": values["rank-1"], "free_singular": values["free"]})


@styled
def outer_products(alpha: np.ndarray, middle: int) -> Drawing:
    """Draw α (C_out, C_in, K_u, K_t), unfolded, as the sum of `middle` outer products and of what they leave out [ours].

    The outer products are those of the nearest rank-1 layer; each has its m to the left and its n above.
    """
    whole, nearest = capacity.matricize(alpha), capacity.nearest_rank1(alpha, middle)
    tall, wide = (np.asarray(factor).reshape(len(nearest.m), -1) for factor in (nearest.m, nearest.n.swapaxes(0, 1)))
    terms = np.einsum("kr, kc -> krc", tall, wide)
    rest, limit = whole - terms.sum(0), float(np.abs(whole).max()) or 1.0
    rows, columns = whole.shape
    gap = 0.35 * columns
    figure, axes = new_figure(width=9.6, height=1.0 + 9.6 * (rows + 5) / ((len(terms) + 2) * (columns + gap) + columns))
    for place, matrix in enumerate((whole, *terms, rest)):
        left = place * (columns + gap)
        show_signed(axes, matrix, limit).set_extent((left, left + columns, rows, 0))
        if 0 < place <= len(terms):
            show_signed(axes, tall[place - 1][:, None]).set_extent((left - 1.4, left - 0.4, rows, 0))
            show_signed(axes, wide[place - 1][None]).set_extent((left, left + columns, -0.4, -1.4))
        names = [r"$\alpha$", *(f"$m_{{{k}}}\\,n_{{{k}}}$" for k in range(1, len(terms) + 1)), "left out"]
        axes.text(left + columns / 2, -2.2, names[place], ha="center")
        if place:
            axes.text(left - gap / 2 - 0.7, rows / 2, "=" if place == 1 else "+", ha="center", va="center")
    axes.set(xlim=(-0.5, (len(terms) + 2) * (columns + gap)), ylim=(rows + 0.5, -4.5), aspect="equal", frame_on=False)
    kept = f"{1 - nearest.error**2:.0%} of $\\Vert\\alpha\\Vert^2$"
    axes.set_title(f"$C''={middle}$: one outer product a middle channel keeps {kept}")
    return Drawing(figure, {"alpha": whole, "terms": terms, "left_out": rest})


@styled
def counts(C: int = 4, K_u: int = 5, K_t: int = 3) -> Drawing:
    """Draw the free coefficients, a rank-1 layer's parameters and its dimension against C, K_t and C''."""
    sweeps = {
        "C": [(c, K_u, K_t, c) for c in range(1, 9)],
        "K_t": [(C, K_u, k, C) for k in range(1, 8)],
        "C''": [(C, K_u, K_t, middle) for middle in range(1, C * max(K_u, K_t) + 1)],
    }
    axis_of = {"C": 0, "K_t": 2, "C''": 3}
    here = {"C": C, "K_t": K_t, "C''": C}
    labels = {"C": "channels $C = C''$", "K_t": "temporal atoms $K_t$", "C''": "middle channels $C''$"}
    figure, panels = new_figure(1, 3, width=9.6, height=3.6)
    arrays = {}
    for axes, (name, settings) in zip(panels, sweeps.items(), strict=True):
        x = np.array([setting[axis_of[name]] for setting in settings])
        curves = {
            "free": [capacity.free_parameters(*setting[:3]) for setting in settings],
            "parameters": [capacity.rank1_parameters(*setting) for setting in settings],
            "dimension": [capacity.rank1_dimension(*setting) for setting in settings],
        }
        axes.axvline(here[name], color="0.8", linewidth=4)
        axes.plot(x, curves["free"], "-", color=JOINT, label="free $\\alpha$: parameters and dimension")
        axes.plot(x, curves["parameters"], ":", color=SEPARABLE, label="rank-1 layer: parameters")
        axes.plot(x, curves["dimension"], "s--", color=SEPARABLE, markersize=4, label="rank-1 layer: dimension")
        fixed = ", ".join(f"${key}={value}$" for key, value in {"C": C, "K_u": K_u, "K_t": K_t}.items() if key != name)
        axes.set(xlabel=labels[name], title=fixed, xlim=(x[0] - 0.5, x[-1] + 0.5), ylim=(0, None))
        axes.xaxis.get_major_locator().set_params(integer=True)
        arrays |= {name: x} | {f"{curve} by {name}": np.array(y) for curve, y in curves.items()}
    panels[0].set_ylabel("parameters, dimension")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.suptitle("A rank-1 layer has fewer dimensions than parameters")
    return Drawing(figure, arrays)


@styled
def families(C: int = 8, spatial_atoms: int = 5, temporal_atoms: int = 3) -> Drawing:
    """Draw how many dimensions the 3×3×3 filters of each family have, and how far its members are from the other's.

    "Same atoms" is a rank-1 layer that is confined to the atoms of the joint one, as in Eq. 3; "full kernels" is what one
    builds, 3×3 pixels and then 3 frames with C'' = C (Table A). Members have normal random weights; 20 of each.
    """
    M, N = spatial_atoms, temporal_atoms
    dimensions = {
        "full 3D": capacity.free_parameters(C, 9, 3),
        f"joint, $M={M}$, $N={N}$": capacity.free_parameters(C, M, N),
        "rank-1, full kernels": capacity.rank1_dimension(C, 9, 3),
        "rank-1, same atoms": capacity.rank1_dimension(C, M, N),
    }
    rng = np.random.default_rng(0)
    to_rank1, to_joint = [], []
    for _ in range(20):
        psi, phi = (np.linalg.qr(rng.normal(size=(taps, count)))[0] for taps, count in ((9, M), (3, N)))
        joint = np.einsum("oimn, um, tn -> oiut", rng.normal(size=(C, C, M, N)), psi, phi)
        to_rank1.append(capacity.nearest_rank1(joint, C).error)
        rank1 = capacity.compose(rng.normal(size=(C, C, 9)), rng.normal(size=(C, C, 3)))
        filters = torch.from_numpy(rank1).swapaxes(2, 3).unflatten(3, (3, 3))
        to_joint.append(float(np.sqrt(1 - joint_decomposition(filters, M, N).energy)))

    figure, (left, right) = new_figure(1, 2, width=9.6, height=2.8)
    counts = np.array(list(dimensions.values())) / C**2
    bars = left.barh(list(dimensions), counts, color=[FULL, JOINT, SEPARABLE, SEPARABLE])
    bars[-1].set_alpha(0.5)
    left.bar_label(bars, [f"{count:g}" for count in counts], padding=3)
    left.set(xlabel="dimension, in units of $C^2$", xlim=(0, 30))
    left.invert_yaxis()
    arrays = {"dimensions": counts, "joint to rank-1": np.array(to_rank1), "rank-1 to joint": np.array(to_joint)}
    for row, (values, color) in enumerate(((to_rank1, JOINT), (to_joint, SEPARABLE))):
        right.plot(values, np.full(len(values), row), "o", color=color, alpha=0.5)
    right.set(xlabel="relative distance of the filters", xlim=(0, 1), ylim=(1.6, -0.6), yticks=range(2))
    right.set_yticklabels(["a joint layer's,\nto the nearest rank-1", "a rank-1 layer's,\nto the nearest joint"])
    apart = min(to_rank1 + to_joint) > 1e-6
    figure.suptitle(f"$3 \\times 3 \\times 3$, $C = C'' = {C}$" + (": neither family contains the other" if apart else ""))
    return Drawing(figure, arrays)


@styled
def nearest_rank1(
    alphas: Mapping[str, Sequence[np.ndarray | torch.Tensor]],
    middle: Mapping[str, int] | None = None,
    label: str = "trained",
    seed: int = 0,
) -> Drawing:
    """Draw the error of the nearest rank-1 layer against C'', a panel a layer, beside random α of the same shape.

    Args:
        alphas: for each layer, by name, one or more α (C_out, C_in, K_u, K_t) of one shape; a line each.
        middle: a C'' to mark in the panel of that name.
        label: what these α are.
        seed: of the 20 normal random α, of which the mean and the range are drawn.
    """
    if not alphas or not all(map(len, alphas.values())):
        raise ValueError("alphas has nothing to draw; give at least one α for each name")
    rng = np.random.default_rng(seed)
    figure, panels = new_figure(1, len(alphas), width=max(4.8, 2.2 * len(alphas)), height=4, sharey=True, squeeze=False)
    arrays = {}
    for axes, (name, given) in zip(panels[0], alphas.items(), strict=True):
        c_out, c_in, k_u, k_t = shape = tuple(given[0].shape)
        x = np.arange(1, min(c_in * k_u, c_out * k_t) + 1)
        errors = np.array([_errors(alpha) for alpha in given])
        random = np.array([_errors(rng.normal(size=shape)) for _ in range(20)])
        if middle and name in middle:
            axes.axvline(middle[name], color="0.8", linewidth=4, label="$C''$ in Table A")
        axes.fill_between(x, random.min(axis=0), random.max(axis=0), color=NEUTRAL, alpha=0.25, linewidth=0)
        axes.plot(x, random.mean(axis=0), "-", color=NEUTRAL, label="random, 20 draws: mean, range")
        lines = axes.plot(x, errors.T, "o--", color=JOINT, markersize=3, linewidth=1)
        lines[0].set_label(label)
        axes.set(xlabel="middle channels $C''$", title=f"{name}\n{c_in}→{c_out} channels", ylim=(0, 1))
        axes.xaxis.get_major_locator().set_params(integer=True)
        arrays |= {name: errors, f"{name}, random": random}
    panels[0, 0].set_ylabel("relative error of nearest $\\alpha = m\\,n$")
    columns = 3 if len(alphas) > 2 else 1
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=columns)
    figure.suptitle("The nearest $m\\,n$ keeps $C''$ singular values")
    return Drawing(figure, arrays)


def trained_alphas(seeds: Sequence[int] = reconstruction.SEEDS) -> dict[str, list[torch.Tensor]]:
    """The α (C_out, C_in, M, N) of every layer of the kept STDCF runs of notebook 04, a list over seeds for each layer."""
    alphas = {}
    layer: Any  # of torch's attributes no types are known
    for seed in seeds:
        for name, layer in reconstruction.trained("stdcf", seed).named_children():
            # A transposed layer stores input channels first, as torch does.
            transposed = isinstance(layer, STDCFConvTranspose3d)
            alpha = layer.alpha.detach().swapaxes(0, 1) if transposed else layer.alpha.detach()
            alphas.setdefault(name, []).append(alpha)
    return alphas


def nearest_rank1_trained() -> Drawing:
    """Draw `nearest_rank1` for the kept STDCF runs, with the C'' that Table A gives rank-1 layers in their places."""
    rank1: dict[str, Any] = dict(ReconstructionAutoencoder("rank1").named_children())
    return nearest_rank1(trained_alphas(), {name: layer.spatial.out_channels for name, layer in rank1.items()})


def _errors(alpha: Any) -> np.ndarray:  # an array or a tensor; `capacity` takes either, not their union
    most = min(capacity.matricize(alpha).shape)
    return np.array([capacity.nearest_rank1(alpha, middle).error for middle in range(1, most + 1)])


def _place(axes: Axes, matrix: np.ndarray, left: float, top: float) -> None:
    # All in one axes, so that a row of m stands exactly beside its row of α.
    rows, columns = matrix.shape
    show_signed(axes, matrix, limit=3).set_extent((left, left + columns, top + rows, top))
